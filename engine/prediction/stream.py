"""The allocations of a traced step as a stream of events, and what the allocator shows of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.prediction.allocator import Allocator, Unpooled

PHASES = ("load", "forward", "loss", "backward", "optimizer", "evaluation", "save")
OF_KERNEL = " kernel|temporaries"
"""Ends the name of a block that a kernel asks for, known by the table of kernels and not by the trace."""


class Event(NamedTuple):
    """One block is made, or goes."""

    number: int
    """Of the block, from 1; 0 empties the allocator's cache."""
    size: int
    """Bytes; -1 where the block goes."""
    name: str
    """The operation that made the block, and what the block is."""
    term: int = 0
    """How it grows with the sizes of the step: a place in `recommender.fitted.TERMS`, where that was looked for."""


@dataclass(slots=True)
class Segment:
    """A phase of the step."""

    phase: str
    events: list[Event] = field(default_factory=list)


def phase_of(name: str) -> str:
    """`first forward` is a forward pass, `load adapters` belongs to loading."""
    return "load" if name.startswith("load") else name.removeprefix("first ")


def peaks(segments: list[Segment], allocator: Allocator | Unpooled | None = None) -> dict[str, Any]:
    """What the allocator shows, by itself CUDA's: `allocated`, `reserved` and the `parts` at the peak, in bytes, by phase; and
    the parts of the highest peak, by what the blocks are."""
    allocator = allocator or Allocator()
    by_phase: dict[str, dict[str, Any]] = {}
    sizes: dict[int, int] = {}
    alive: dict[str, int] = {}
    for segment in segments:
        allocator.peak_allocated, allocator.peak_reserved = allocator.allocated, allocator.reserved
        found = by_phase.setdefault(segment.phase, {"allocated": 0, "reserved": 0, "parts": {}})
        if allocator.allocated > found["allocated"]:  # a phase may hold most where it begins, and make nothing
            found["allocated"], found["parts"] = allocator.allocated, dict(alive)
        for event in segment.events:
            if event.number == 0:
                allocator.empty_cache()
                continue
            part = event.name.partition("|")[2] or "temporaries"
            if event.size >= 0:
                allocator.allocate(event.number, event.size)
                sizes[event.number] = event.size
                alive[part] = alive.get(part, 0) + event.size
                if allocator.allocated > found["allocated"]:
                    found["allocated"], found["parts"] = allocator.allocated, dict(alive)
            else:
                allocator.release(event.number)
                alive[part] -= sizes.pop(event.number)
        found["allocated"] = max(found["allocated"], allocator.peak_allocated)
        found["reserved"] = max(found["reserved"], allocator.peak_reserved)
    for found in by_phase.values():
        found["parts"] = {part: size for part, size in found["parts"].items() if size}
    highest: dict[str, Any] = max(by_phase.values(), key=lambda found: int(found["allocated"]), default={"parts": {}})
    return {"phases": by_phase, "parts": highest["parts"]}


def held_of(segments: Iterable[Segment]) -> dict[str, int]:
    """Bytes of what lives from step to step, and of the gradients of one."""
    alive: dict[int, tuple[str, int]] = {}
    gradients = 0
    for segment in segments:
        for event in segment.events:
            part = event.name.partition("|")[2]
            if event.size >= 0 and event.number:
                alive[event.number] = (part, event.size)
                if part == "gradients" and segment.phase == "backward":
                    gradients += event.size
            elif event.number:
                alive.pop(event.number)
    found = {"gradients": gradients}
    for part, size in alive.values():
        if part in ("weights", "adapters", "optimizer"):
            found[part] = found.get(part, 0) + size
    return found
