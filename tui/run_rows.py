"""The list of runs, quickly: a run that has ended is read once, one that goes on only where its log grew."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.metrics.measures import MEASURES

if TYPE_CHECKING:
    from engine.events import EventTail
    from engine.rundir import RunDirectory
    from engine.state import RunState
    from recommender.plan import Plan

CHUNK = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list of runs."""

    run: "RunDirectory"
    status: str
    method: str
    metric: str
    score: float | None
    started: float | None


@dataclass(slots=True)
class _Known:
    tail: "EventTail"
    state: "RunState"
    plan: "Plan | None"
    inode: int


class RunList:
    """Keeps what it has read."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}
        self._busy = threading.Lock()

    def rows(self, runs: Path | None) -> list[RunRow]:
        """All runs, newest first. What was thrown away long ago is deleted at the first call."""
        from engine import trash
        from engine.runs import all_runs, runs_root

        with self._busy:
            if not self._known:
                trash.forget_old(runs_root(runs))
            found = list(self._rows(all_runs(runs)))
            here = {row.run.path for row in found}
            self._known = {path: known for path, known in self._known.items() if path in here}
            return found

    def _rows(self, runs: "Iterator[RunDirectory]") -> Iterator[RunRow]:
        from engine.rundir import settle

        for run in runs:
            known = self._read(run)
            if known is None:  # removed in this moment
                continue
            state = settle(run, known.state, partial(self._read, run))
            metric = known.plan.metric if known.plan is not None else "macro_f1"
            method = known.plan.method if known.plan is not None else "unreadable"
            started = state.started
            if started is None:
                started = run.path.stat().st_mtime if run.path.exists() else None
            yield RunRow(run, state.status, method, metric, best_score(state, metric), started)

    def _read(self, run: "RunDirectory") -> _Known | None:
        from engine.events import EventTail
        from engine.state import RunState
        from recommender.errors import LoracleError

        try:
            inode = run.path.stat().st_ino
        except OSError:
            return None
        known = self._known.get(run.path)
        if known is None or known.inode != inode:
            try:
                plan = run.plan()
            except LoracleError:
                plan = None
            known = self._known[run.path] = _Known(EventTail(run.events), RunState(), plan, inode)
        while events := known.tail.poll(CHUNK):
            for event in events:
                known.state.apply(event)
            known.state.losses.cut(-1)  # no curve is drawn here
        return known


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
