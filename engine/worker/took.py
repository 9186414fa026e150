"""How long a run and its steps took, beside what was said of it: so that predictions can be judged, and learned from."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from engine.events import Event
from engine.pace import PROBED
from engine.state import RunState

REPORTED = frozenset({"evaluation", "preflight", "warning", "recovery"})
"""Kinds of events that stand in a report one by one."""


class Step(NamedTuple):
    """One step of a run."""

    seconds: float
    """By the clock."""
    computed: float | None
    """By the processors: seconds of all threads; `None` where a log of an older version does not tell."""
    tokens: int


def steps_of(events: Iterable[Event]) -> Iterator[Step]:
    """The steps of a log, in its order; those that a resumed run did again twice.

    Processor time is that since the event before, of the same worker: heartbeats come from beside.
    """
    before: float | None = None
    for event in events:
        now = event.get("processor")
        if event["kind"] == "step":
            computed = now - before if now is not None and before is not None and now >= before else None
            yield Step(float(event["seconds"]), computed, int(event.get("tokens") or 0))
        if event["kind"] != "heartbeat":
            before = now


class Log:
    """What a report needs of a run's events, which are read once and let go: a million of them take a gigabyte."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.told: list[Event] = []
        """Those of the kinds in `REPORTED`."""
        self.memory = 0
        """The most bytes that a step has told."""
        self.steps = self.tokens = 0
        self.seconds = 0.0
        self.computed: float | None = 0.0
        """As of a step, of all of them; `None` where any does not tell."""
        self._first: list[Step] = []
        """As many as tell the pace of the others."""
        self._state = RunState()
        for step in steps_of(self._passing(events)):
            if len(self._first) <= PROBED:
                self._first.append(step)
            self.steps += 1
            self.tokens += step.tokens
            self.seconds += step.seconds
            self.computed = None if step.computed is None or self.computed is None else self.computed + step.computed

    def _passing(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._state.apply(event)
            if event["kind"] in REPORTED:
                self.told.append(event)
            elif event["kind"] == "step":
                self.memory = max(self.memory, int(event.get("memory") or 0))
            yield event

    def working_seconds(self) -> float:
        """Seconds in which a worker was at it, from the first event to now; the time between two workers does not count."""
        self._state.apply({"kind": "heartbeat", "seq": 0, "time": time.time(), "monotonic": time.monotonic()})
        return self._state.elapsed

    def from_first_steps(self, total: int) -> float | None:
        """Seconds of all steps as the first ten told them, by their tokens; `None` of a run that had fewer."""
        first = self._first[1:]  # the very first warms up
        if len(first) < PROBED:
            return None
        seconds, tokens = sum(step.seconds for step in first), sum(step.tokens for step in first)
        return seconds * self.tokens / tokens if tokens and self.steps >= total else seconds * total / PROBED


def in_report(log: Log, total: int, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What a report keeps: `seconds` of the run, and `step`, seconds of a step: predicted, as the first ten told, and measured.

    `step.computed` is what it took the processors, were every thread on one of its own: a machine that others use adds nothing.
    """
    probed = log.from_first_steps(total)
    computed = None if torch.cuda.is_available() else log.computed
    return {
        "seconds": {
            "predicted": expected.get("seconds"),
            "probed": probed,
            "training": log.seconds,
            "total": log.working_seconds(),
        },
        "step": {
            "predicted": expected.get("step"),
            "probed": probed / total if probed is not None and total else None,
            "measured": log.seconds / log.steps if log.steps else None,
            "computed": computed / log.steps / torch.get_num_threads() if log.steps and computed is not None else None,
        },
    }
