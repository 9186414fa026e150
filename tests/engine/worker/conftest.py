"""A run inside the test's own process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import EventWriter
from engine.rundir import RunDirectory, create
from recommender.plan import Plan

Here = Callable[..., RunDirectory]
LIBRARIES = ("transformers", "peft", "torch", "bitsandbytes", "datasets", "huggingface_hub", "accelerate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries warn of among themselves is theirs; what our own calls cause still fails a test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for name in LIBRARIES:
                item.add_marker(pytest.mark.filterwarnings(rf"ignore::Warning:{name}(\..*)?"))


@pytest.fixture
def begin(tmp_path: Path) -> Callable[[Plan], RunDirectory]:
    """A run directory for a plan, without a worker."""
    return lambda plan: create(tmp_path / "runs", plan, None)


@pytest.fixture
def run_here(begin: Callable[[Plan], RunDirectory]) -> Here:
    """Do a plan's run here, as the worker would; `again` goes on with an earlier run."""

    def go(plan: Plan, *, again: RunDirectory | None = None) -> RunDirectory:
        from engine.worker.control import Control
        from engine.worker.session import Session

        run = again or begin(plan)
        events = EventWriter(run.events)
        try:
            Session(run, plan, events, Control(run.control)).go()
        finally:
            events.close()
        return run

    return go
