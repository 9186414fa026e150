"""The truth on a CPU: live bytes of a real step by torch's profiler, beside what the trace says of it.

The allocator's own events are added up, so that nothing of the trace's code is believed.
"""

import gc
import resource
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from engine.prediction.stream import Segment
from engine.worker.tracing.kernels import Card, repacks_here
from engine.worker.tracing.live import Marks
from engine.worker.tracing.models import quiet
from engine.worker.tracing.steps import at_depth, loop_of
from engine.worker.tracing.trace import Loop
from engine.worker.tracing.work import Speed
from recommender.step import TrainingStep

CPU = Card("cpu", repacks=repacks_here(), here=True)
PHASES = ("forward", "loss", "backward", "optimizer", "evaluation")


class Phases:
    """Marks in the profiler's record."""

    def __init__(self) -> None:
        self._open: Any = None
        self.phase_names: list[str] = []

    def phase(self, name: str) -> None:
        """What follows belongs to that phase."""
        self.close()
        self._open = record_function(f"phase {name}")
        self._open.__enter__()

    def close(self) -> None:
        """End the last phase."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None

    def empty_cache(self) -> None:
        """A CPU has none."""


def measured(config: dict[str, Any], step: TrainingStep) -> dict[str, Any]:
    """Peak live bytes of each phase of the second step, on the CPU."""
    return watched(lambda marks: loop_of(config, step, CPU, marks, device="cpu"))


def watched(build: Callable[[Marks], Loop]) -> dict[str, Any]:
    """The same of any loop on the CPU."""
    marks = Phases()
    gc.collect()  # models of before would go while this one is watched
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # From its making on: of what was there before the profiler it does not see that it goes, as 4-bit weights that are laid
        # out anew.
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            loop = build(marks)
            loop.run()
            marks.close()
    events = found.profiler.kineto_results.events()
    phases = sorted((e.start_ns(), e.name().removeprefix("phase ")) for e in events if e.name().startswith("phase "))
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    peaks: dict[str, int] = {}
    seconds: dict[str, float] = {}
    phases = [(0, "load"), *phases]
    live = at = 0
    for when, change in changes:
        while at + 1 < len(phases) and phases[at + 1][0] <= when:
            at += 1
            peaks[phases[at][1]] = max(peaks.get(phases[at][1], 0), live)
        live += change
        name = phases[at][1]
        peaks[name] = max(peaks.get(name, 0), live)
    for (begin, name), (end, _) in pairwise(phases):
        seconds[name] = seconds.get(name, 0.0) + (end - begin) / 1e9
    return {
        "phases": {p: peaks[p] for p in PHASES if p in peaks},
        "seconds": sum(s for name, s in seconds.items() if name in PHASES and name != "evaluation"),
        "resident_set": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def predicted(config: dict[str, Any], step: TrainingStep) -> dict[str, int]:
    """The same phases' peaks from the trace."""
    return by_phase(at_depth(config, step, CPU, Speed(1e11, 1e11, 1e10))[0])


def by_phase(segments: list[Segment]) -> dict[str, int]:
    """Peak live bytes of each phase of a stream."""
    live = 0
    found: dict[str, int] = {}
    sizes: dict[int, int] = {}
    for segment in segments:
        found[segment.phase] = max(found.get(segment.phase, 0), live)
        for event in segment.events:
            if event.size >= 0:
                sizes[event.number] = event.size
                live += event.size
            else:
                live -= sizes.pop(event.number)
            found[segment.phase] = max(found[segment.phase], live)
    return {p: found[p] for p in PHASES if p in found}
