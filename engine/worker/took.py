"""How long a run and its steps took, beside what was said of it: so that predictions can be judged, and learned from."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from engine.events import Event
from engine.pace import PROBED
from engine.state import fold


class Step(NamedTuple):
    """One step of a run."""

    seconds: float
    """By the clock."""
    computed: float | None
    """By the processors: seconds of all threads; `None` where a log of an older version does not tell."""
    tokens: int


def steps_of(events: Sequence[Event]) -> Iterator[Step]:
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


def in_report(events: Sequence[Event], total: int, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What a report keeps: `seconds` of the run, and `step`, seconds of a step: predicted, as the first ten told, and measured.

    `step.computed` is what it took the processors, were every thread on one of its own: a machine that others use adds nothing.
    """
    steps = list(steps_of(events))
    probed = from_first_steps(steps, total)
    computed = [step.computed for step in steps if step.computed is not None]
    whole = bool(computed) and len(computed) == len(steps) and not torch.cuda.is_available()
    training = sum(step.seconds for step in steps)
    mean = training / len(steps) if steps else None
    return {
        "seconds": {
            "predicted": expected.get("seconds"),
            "probed": probed,
            "training": training,
            "total": working_seconds(events),
        },
        "step": {
            "predicted": expected.get("step"),
            "probed": probed / total if probed is not None and total else None,
            "measured": mean,
            "computed": sum(computed) / len(steps) / torch.get_num_threads() if whole else None,
        },
    }


def working_seconds(events: Sequence[Event]) -> float:
    """Seconds in which a worker was at it, from the first event to now; the time between two workers does not count."""
    now = {"kind": "heartbeat", "seq": 0, "time": time.time(), "monotonic": time.monotonic()}
    return fold([*events, now]).elapsed


def from_first_steps(steps: Sequence[Step], total: int) -> float | None:
    """Seconds of all steps as the first ten told them, by their tokens; `None` of a run that had fewer."""
    first = steps[1 : 1 + PROBED]  # the very first warms up
    if len(first) < PROBED:
        return None
    tokens, whole = (sum(step.tokens for step in some) for some in (first, steps))
    seconds = sum(step.seconds for step in first)
    return seconds * whole / tokens if tokens and len(steps) >= total else seconds * total / PROBED
