"""A run inside the test's own process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import EventWriter
from engine.rundir import RunDirectory, create
from recommender.plan import Plan

Here = Callable[..., RunDirectory]
Begin = Callable[[Plan], RunDirectory]
LIBRARIES = ("transformers", "peft", "torch", "bitsandbytes", "datasets", "huggingface_hub", "accelerate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries warn of among themselves is theirs; what our own calls cause still fails a test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for name in LIBRARIES:
                item.add_marker(pytest.mark.filterwarnings(rf"ignore::Warning:{name}(\..*)?"))


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
def finished(tiny: Path, make_plan: Callable[..., Plan], run_here: Here) -> Callable[[str], RunDirectory]:
    """A finished run of each method. Not to be changed; copy it first."""
    done: dict[str, RunDirectory] = {}

    def of(method: str) -> RunDirectory:
        if method not in done:
            done[method] = run_here(make_plan(tiny, method))
        return done[method]

    return of
