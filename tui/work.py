"""What the app asks of the engine and the recommender: blocking calls for threads, every import inside.

The heavy modules are imported on first use, after the first paint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.metrics.measures import MEASURES

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from engine.state import RunState
    from recommender.facts import Machine
    from recommender.plan import Plan


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list of runs."""

    run: "RunDirectory"
    status: str
    method: str
    metric: str
    score: float | None
    started: float | None


def inspect_machine(runs: Path | None) -> "Machine":
    """What this machine has; never raises."""
    from engine.inspect import inspect_machine

    return inspect_machine(runs)


def list_runs(runs: Path | None) -> list[RunRow]:
    """All runs, newest first."""
    from engine.runs import all_runs

    return list(_rows(all_runs(runs)))


def _rows(runs: "Iterator[RunDirectory]") -> "Iterator[RunRow]":
    from recommender.errors import LoracleError

    for run in runs:
        state = run.state()
        try:
            plan: Plan | None = run.plan()
        except LoracleError:
            plan = None
        metric = plan.metric if plan is not None else "macro_f1"
        started = state.started
        if started is None:
            started = run.path.stat().st_mtime if run.path.exists() else None
        method = plan.method if plan is not None else "unreadable"
        yield RunRow(run, state.status, method, metric, best_score(state, metric), started)


def best_score(state: "RunState", metric: str) -> float | None:
    """The held-out score after training, else the best validation score so far."""
    after = state.scores("after")
    if after is not None and metric in after:
        return after[metric]
    scores = [e.metrics[metric] for e in state.evaluations if e.split == "validation" and metric in e.metrics]
    if not scores:
        return None
    measure = MEASURES.get(metric)
    return max(scores) if measure is None or measure.higher_is_better else min(scores)


def stop(run: "RunDirectory", now: bool) -> None:
    """Ask the worker to stop.

    Raises:
        InputError: it is not running.
    """
    from engine.runs import stop

    stop(run, now=now)


def resume(run: "RunDirectory") -> None:
    """Go on with a run from its newest sound checkpoint.

    Raises:
        InputError: it is done, or still running.
        Refused: there is not enough disk.
    """
    from engine.runs import resume

    resume(run)


def report(run: "RunDirectory") -> dict[str, Any] | None:
    """The run's report, if it is done.

    Raises:
        InputError: written by a newer version.
    """
    return run.report()
