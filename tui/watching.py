"""A run being watched, live or played back: one state, one log, and the clock that goes with them.

Blocking calls, for threads; nothing heavy is imported at module level.
"""

import threading
import time
from typing import TYPE_CHECKING

from engine.events import EventTail
from engine.state import RunState
from tui.run_log import LogLine, RunLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.events import Event
    from engine.rundir import RunDirectory
    from recommender.plan import Plan

LONGEST_PAUSE = 5.0
"""Seconds that a playback waits at most: a run that slept a night is not worth a night."""


class Watched:
    """What the run screen looks at."""

    def __init__(self, run: "RunDirectory") -> None:
        self.run = run
        self.state, self.log = RunState(), RunLog()
        self.plan, self.predicted_memory = plan_and_memory(run)

    def poll(self) -> list[LogLine]:
        """Take in what is new; its lines for the log."""
        raise NotImplementedError

    def settle(self) -> None:
        """Notice a worker that is gone."""

    def now(self) -> float:
        """The wall-clock time that the state is seen at."""
        return time.time()

    def _take(self, events: "Iterable[Event]") -> list[LogLine]:
        lines = []
        for event in events:
            self.state.apply(event)
            if (line := self.log.take(event)) is not None:
                lines.append(line)
        return lines


class Live(Watched):
    """A run as its worker writes it."""

    def __init__(self, run: "RunDirectory") -> None:
        """Everything written so far is read here."""
        super().__init__(run)
        self._tail = EventTail(run.events)
        self._late: list[LogLine] = []
        """What was read while the worker was looked for."""
        while self._tail_on():
            pass
        self.settle()
        self._late = []  # all lines so far stand in the log

    def _tail_on(self) -> list[LogLine] | None:
        events = self._tail.poll()
        return self._take(events) if events else None

    def poll(self) -> list[LogLine]:
        """What was written since the last poll."""
        lines, self._late = [*self._late, *(self._tail_on() or [])], []
        return lines

    def settle(self) -> None:
        """Notice a worker that is gone, or one that came back."""
        from engine.rundir import settle

        settle(self.run, self.state, self._read_late)

    def _read_late(self) -> None:
        while (lines := self._tail_on()) is not None:
            self._late += lines


class Playback(Watched):
    """A run once more, from its events, at a speed that can be changed; pauses longer than `LONGEST_PAUSE` are cut short."""

    def __init__(self, run: "RunDirectory") -> None:
        """Notes where every event stands in the file and when it is due; the events themselves stay there."""
        super().__init__(run)
        self.speed = 10.0
        self.paused = False
        self._moments, self._ends = _timeline(run)
        self._offset, self._taken = 0, 0
        self._position, self._asked = 0.0, time.monotonic()
        self._moving = threading.Lock()

    @property
    def length(self) -> float:
        """Seconds of the whole run, pauses cut short."""
        return self._moments[-1] if self._moments else 0.0

    @property
    def position(self) -> float:
        """Seconds from its begin."""
        return min(self._position, self.length)

    @property
    def over(self) -> bool:
        """Whether everything was shown."""
        return self._taken >= len(self._moments)

    def poll(self) -> list[LogLine]:
        """What became due since the last poll."""
        if not self._moving.acquire(blocking=False):  # a thread of the screen jumps
            return []
        try:
            now = time.monotonic()
            if not self.paused:
                self._position = min(self._position + (now - self._asked) * self.speed, self.length)
            self._asked = now
            return self._play_on()
        finally:
            self._moving.release()

    def seek(self, position: float) -> None:
        """Go to that second; backwards means from the begin once more. One jump waits for the other."""
        with self._moving:
            position = min(max(position, 0.0), self.length)
            if position < self._position:
                self.state, self.log = RunState(), RunLog()
                self._offset, self._taken = 0, 0
            self._position = position
            self._play_on()

    def _play_on(self) -> list[LogLine]:
        from bisect import bisect_right

        due = bisect_right(self._moments, self._position)
        lines: list[LogLine] = []
        while self._taken < due:
            until = min(due, self._taken + 5_000)
            tail = EventTail(self.run.events, self._offset)
            lines += self._take(tail.poll(self._ends[until - 1] - self._offset))
            self._offset, self._taken = self._ends[until - 1], until
        return lines

    def now(self) -> float:
        """The moment of the run that is shown."""
        return self.state.updated or 0.0


def _timeline(run: "RunDirectory") -> tuple[list[float], list[int]]:
    """Of every event of a log the second at which it is due and the place in the file where it ends."""
    from array import array

    from engine.events import parse_line

    moments, ends = array("d"), array("q")
    at, place, before = 0.0, 0, None
    try:
        with run.events.open("rb") as file:
            for line in file:
                place += len(line)
                event = parse_line(line.rstrip(b"\n")) if line.endswith(b"\n") else None
                if event is None:
                    continue
                when = event.get("time")
                if isinstance(when, int | float):
                    at += min(max(when - before, 0.0), LONGEST_PAUSE) if before is not None else 0.0
                    before = when
                moments.append(at)
                ends.append(place)
    except OSError:
        pass
    return moments, ends  # type: ignore[return-value]  # arrays are sequences of the same


def plan_and_memory(run: "RunDirectory") -> "tuple[Plan | None, int | None]":
    """The plan, and the peak in bytes as the recommendation had it where it was counted, until the worker says its own."""
    from recommender.errors import LoracleError

    try:
        plan = run.plan()
    except LoracleError:
        return None, None
    try:
        candidates = (run.recommendation() or {}).get("candidates") or []
        found = [c for c in candidates if c["method"] == plan.method and c["memory"].get("counted")]
        return plan, int(found[0]["memory"]["predicted"]) if found else None
    except (LoracleError, KeyError, TypeError, ValueError, IndexError, AttributeError):  # the file may hold anything
        return plan, None
