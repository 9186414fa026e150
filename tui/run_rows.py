"""The list of runs, quickly: rows first, then states; a run that ended is read once, one that goes on where its log grew."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.metrics.measures import MEASURES

if TYPE_CHECKING:
    from engine.events import EventTail
    from engine.rundir import RunDirectory
    from engine.state import RunState

TOLD_EVERY = 0.1
"""Seconds between two looks at a list that is still being read."""
_PLAIN_LINE = re.compile(r"^(method|metric): (\w+)$", re.MULTILINE)
NOT_LISTED = ("step", "heartbeat")
"""Kinds of events that a row needs nothing of; a log is mostly these."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list of runs."""

    run: "RunDirectory"
    status: str
    """Empty as long as the run was not read; then nothing but `started` is known."""
    method: str
    metric: str
    score: float | None
    held_out: bool
    """Whether that is the score on held-out rows; else it is the best on validation rows, by which checkpoints are chosen."""
    started: float | None


@dataclass(slots=True)
class _Known:
    tail: "EventTail"
    state: "RunState"
    method: str
    metric: str
    inode: int


class RunList:
    """Keeps what it has read."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}
        self._rows: dict[Path, RunRow] = {}
        self._busy = threading.Lock()
        self._tidied = False

    def rows(
        self,
        runs: Path | None,
        meanwhile: Callable[[list[RunRow]], object] | None = None,
        given_up: threading.Event | None = None,
    ) -> list[RunRow]:
        """All runs, newest first. What was thrown away long ago is deleted at the first call.

        `meanwhile` is shown the list at once and as it is read, the newest first, where runs are in it that are not known yet.
        Once `given_up` is set, what is read by then is returned; the next call goes on from there.
        """
        from engine import trash
        from engine.runs import all_runs, runs_root

        with self._busy:
            if not self._tidied:
                self._tidied = True
                trash.forget_old(runs_root(runs))
            found = list(all_runs(runs))
            here = {run.path for run in found}
            self._known = {path: known for path, known in self._known.items() if path in here}
            listed = {run.path: self._rows.get(run.path) or _unread(run) for run in found}
            unread = not all(row.status for row in listed.values())
            told = 0.0
            for run in found:
                if given_up is not None and given_up.is_set():
                    break
                if unread and meanwhile is not None and time.monotonic() - told >= TOLD_EVERY:
                    told = time.monotonic()
                    meanwhile(list(listed.values()))
                row = self._row(run)
                if row is None:  # removed in this moment
                    del listed[run.path]
                else:
                    listed[run.path] = row
            self._rows = {path: row for path, row in listed.items() if row.status}
            return list(listed.values())

    def _row(self, run: "RunDirectory") -> RunRow | None:
        from engine.rundir import settle

        known = self._read(run)
        if known is None:
            return None
        state = settle(run, known.state, partial(self._read, run))
        started = state.started if state.started is not None else _begun(run)
        score, held_out = best_score(state, known.metric)
        return RunRow(run, state.status, known.method, known.metric, score, held_out, started)

    def _read(self, run: "RunDirectory") -> _Known | None:
        from engine.events import EventTail
        from engine.state import RunState

        try:
            inode = run.path.stat().st_ino
        except OSError:
            return None
        known = self._known.get(run.path)
        if known is None or known.inode != inode:
            tail = EventTail(run.events, without=NOT_LISTED)
            known = self._known[run.path] = _Known(tail, RunState(), *_method_and_metric(run), inode)
        while events := known.tail.poll():
            for event in events:
                known.state.apply(event)
        return known


def _method_and_metric(run: "RunDirectory") -> tuple[str, str]:
    """As the plan's lines have them, for all of a plan takes 12 ms to read; else as the plan has them."""
    from recommender.errors import LoracleError

    try:
        lines = dict(_PLAIN_LINE.findall((run.path / "plan.yaml").read_text(encoding="utf-8")))
        return lines["method"], lines["metric"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        plan = run.plan()
    except LoracleError:
        return "unreadable", "macro_f1"
    return plan.method, plan.metric


def _unread(run: "RunDirectory") -> RunRow:
    return RunRow(run, "", "", "", None, False, _begun(run))


def _begun(run: "RunDirectory") -> float | None:
    """When its plan was written, which is before its worker says anything."""
    from engine.runs import begun

    try:
        return begun(run.path)
    except OSError:
        return None


def best_score(state: "RunState", metric: str) -> tuple[float | None, bool]:
    """The score on held-out rows after training, else the best on validation rows so far; and which it is."""
    after = state.scores("after")
    if after is not None and metric in after:
        return after[metric], True
    scores = [e.metrics[metric] for e in state.evaluations if e.split == "validation" and metric in e.metrics]
    if not scores:
        return None, False
    measure = MEASURES.get(metric)
    return max(scores) if measure is None or measure.higher_is_better else min(scores), False
