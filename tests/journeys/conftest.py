"""Runs of real workers, watched from outside; and of one that is the test's own process."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import launch, processes, runs
from engine.events import EventTail, EventWriter
from engine.files import write_json
from engine.rundir import RunDirectory, settle
from engine.state import RunState
from recommender.plan import Plan
from recommender.plan_file import dump
from tests.conftest import Command, libraries_stay

Wait = Callable[[RunDirectory, Callable[[RunState], bool]], RunState]
PATIENCE = 300.0
"""Seconds: a busy machine takes ten to import torch."""


def _work_here(run: RunDirectory, plan: Plan, waiting: object) -> None:
    from engine.worker import __main__ as worker
    from engine.worker import products
    from engine.worker.control import Control

    libraries_stay()
    write_json(run.path / "worker.json", processes.this())
    events = EventWriter(run.events)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries among themselves
        events.write("end", **worker._work(run, events, Control(run.control)))
    events.close()
    products._taken.clear()  # its library of products was this run's


@pytest.fixture(params=["here", pytest.param("apart", marks=pytest.mark.faults)])
def loracle_trains(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The program, whose worker is this very process, which has its libraries already: seven seconds less. Or a real one."""
    if request.param == "apart":
        return request.getfixturevalue("loracle")  # type: ignore[no-any-return]
    monkeypatch.setattr(launch, "launch", _work_here)
    return request.getfixturevalue("loracle_here")  # type: ignore[no-any-return]


@pytest.fixture
def start(tmp_path: Path, reap: list[RunDirectory]) -> Callable[[Plan], RunDirectory]:
    """Start a plan's run with a worker of its own, in `runs` below the test's folder."""

    def started(plan: Plan) -> RunDirectory:
        reap.append(runs.start(plan, None, tmp_path / "runs"))
        return reap[-1]

    return started


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[Plan], Path]:
    """A plan as a file."""

    def written(plan: Plan) -> Path:
        file = tmp_path / "plan.yaml"
        file.write_text(dump(plan))
        return file

    return written


@pytest.fixture
def wait() -> Wait:
    """Wait until a run's state is as wished."""

    def waited(run: RunDirectory, wished: Callable[[RunState], bool]) -> RunState:
        deadline = time.monotonic() + PATIENCE
        tail, state = EventTail(run.events), RunState()  # reading the whole log fifty times a second would slow the worker

        def read() -> None:
            for event in tail.poll():
                state.apply(event)

        while time.monotonic() < deadline:
            read()
            settle(run, state, read)
            if wished(state):
                return state
            assert state.status not in ("failed", "refused", "dead"), f"{state.end}\n{run.last_words()}"
            time.sleep(0.02)
        raise AssertionError(f"still {run.state().status} at step {run.state().step}\n{run.last_words()}")

    return waited


@pytest.fixture
def only_run(tmp_path: Path, reap: list[RunDirectory]) -> Callable[[], RunDirectory]:
    """The one run below `runs`, once its worker has spoken."""

    def found() -> RunDirectory:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for run in runs.all_runs(tmp_path / "runs"):
                if run.worker() and run.events.exists():
                    reap.append(run)
                    return run
            time.sleep(0.02)
        raise AssertionError("no run was started")

    return found
