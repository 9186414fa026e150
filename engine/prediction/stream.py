"""The allocations of a traced step as a stream of events, and what the allocator shows of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.prediction.allocator import Allocator


class Event(NamedTuple):
    """One block is made, or goes."""

    number: int
    """Of the block, from 1; 0 empties the allocator's cache."""
    size: int
    """Bytes; -1 where the block goes."""
    name: str
    """The operation that made the block, and what the block is."""


@dataclass(slots=True)
class Segment:
    """A phase of the step."""

    phase: str
    events: list[Event] = field(default_factory=list)


def events_of(segments: list[Segment]) -> Iterator[tuple[int, int]]:
    """(number, size) of all events in order."""
    return ((e.number, e.size) for s in segments for e in s.events)


def peaks(segments: list[Segment], *, expandable: bool = False) -> dict[str, Any]:
    """What the allocator shows: `allocated`, `reserved` and the `parts` at the peak, in bytes, by phase; and the parts of the
    highest peak, by what the blocks are."""
    allocator = Allocator(expandable=expandable)
    by_phase: dict[str, dict[str, Any]] = {}
    sizes: dict[int, int] = {}
    alive: dict[str, int] = {}
    for segment in segments:
        allocator.peak_allocated, allocator.peak_reserved = allocator.allocated, allocator.reserved
        found = by_phase.setdefault(segment.phase, {"allocated": 0, "reserved": 0, "parts": {}})
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
