"""A run inside the test's own process, and a card's code in another."""

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
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


@pytest.fixture(scope="session", autouse=True)
def _libraries_stay() -> None:
    """What the libraries made while they were imported is never looked through for garbage again: half of a tiny run's time."""
    import engine.worker.session  # noqa: F401

    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class CardSaid:
    """What a card's own code printed."""

    lines: list[str]
    modules: set[str]
    """Names of all packages that were loaded when it was done."""


def card_code(run: RunDirectory) -> tuple[str, str]:
    """The code in the model's card: what loads the model, and what uses it."""
    (code,) = re.findall(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    loading, use = code.split("import torch\n")
    return loading, f"import torch\n{use}"


def said_by_cards(programs: dict[Path, str]) -> list[CardSaid]:
    """Run each program in its model's folder, with nothing of Loracle loaded: one after another in one fresh process."""
    text = """
import contextlib, io, json, os, sys
for folder, program in json.load(sys.stdin).items():
    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(program, {"__name__": "__main__"})
    print(json.dumps([said.getvalue().splitlines(), sorted({n.split(".")[0] for n in sys.modules})]))
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    given = json.dumps({str(folder): program for folder, program in programs.items()})
    done = subprocess.run(
        [sys.executable, "-P", "-c", text],
        input=given, env=env, cwd="/", capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [CardSaid(lines, set(modules)) for lines, modules in map(json.loads, done.stdout.splitlines())]


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
