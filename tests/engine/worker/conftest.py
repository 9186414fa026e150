"""A run inside the test's own process."""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import checkpoints
from engine.events import EventWriter
from engine.new_run import create
from engine.rundir import RunDirectory
from recommender.plan import Plan
from tests.conftest import Once, libraries_stay, make_plan

Here = Callable[..., RunDirectory]
Begin = Callable[[Plan], RunDirectory]
Finished = Callable[[str], RunDirectory]
LIBRARIES = ("transformers", "peft", "torch", "bitsandbytes", "datasets", "huggingface_hub", "accelerate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries warn of among themselves is theirs; what our own calls cause still fails a test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for name in LIBRARIES:
                item.add_marker(pytest.mark.filterwarnings(rf"ignore::Warning:{name}(\..*)?"))


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Chance begins anew in each test, and a worker's life in this process leaves nothing of its products behind: neither that
    they were oneDNN's, nor that these were switched off when memory ran out."""
    import numpy as np
    import torch

    import engine.worker.session  # noqa: F401

    libraries_stay()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    from engine.worker import products

    products._taken.clear()
    torch.backends.mkldnn.set_flags(True)


SHORT = 16


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so few tokens: a model that knows nothing would write all it may, half of such a run's time."""
    from engine.worker import samples
    from engine.worker.tasks import written

    monkeypatch.setattr(written, "ANSWER_TOKENS", SHORT)
    monkeypatch.setattr(samples, "SAMPLE_TOKENS", SHORT)


def unfinished(run: RunDirectory, folder: Path, kept: int | None = None) -> RunDirectory:
    """A copy of a finished run, as a worker that was killed before its last step's end would have left it, or once it had `kept`
    so many checkpoints."""
    copy = RunDirectory(folder / "copied")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.model)
    for file in (copy.report_file, copy.scores / "after.json", copy.checkpoints / checkpoints.FINISHED):
        file.unlink()
    (copy.scores / "samples-after.json").unlink(missing_ok=True)
    if kept is not None:
        later = sorted(checkpoints.sealed(copy.checkpoints), key=checkpoints.step_of)[kept:]
        assert later
        for checkpoint in later:
            shutil.rmtree(checkpoint)
    return copy


def card_code(run: RunDirectory) -> tuple[str, str]:
    """The code in the model's card: what loads the model, and what uses it."""
    (code,) = re.findall(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    loading, use = code.split("import torch\n")
    return loading, f"import torch\n{use}"


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """A run directory for a plan, without a worker."""
    return lambda plan: create(tmp_path_factory.mktemp("runs"), plan, None)


@pytest.fixture(scope="session")
def run_here(begin: Begin) -> Here:
    """Do a plan's run here, as the worker would; `again` goes on with an earlier run."""

    def go(plan: Plan, *, again: RunDirectory | None = None) -> RunDirectory:
        from engine.worker.control import Control
        from engine.worker.narrator import Narrator
        from engine.worker.session import Session

        run = again or begin(plan)
        events = EventWriter(run.events)
        try:
            Session(run, plan, Narrator(events), Control(run.control)).go()
        finally:
            events.close()
        return run

    return go


@pytest.fixture(scope="session")
def finished(tiny: Path, run_here: Here, once: Once) -> Finished:
    """A finished run of each method. Not to be changed; copy it first."""

    def of(method: str) -> RunDirectory:
        plan = make_plan(tiny, method)
        (path,) = once(f"finished-{method}", lambda folder: run_here(plan, again=create(folder, plan, None))).iterdir()
        return RunDirectory(path)

    return of
