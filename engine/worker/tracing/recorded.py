"""What a trace counted: tensors and temporaries as they came and went, by operation."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from engine.prediction.stream import OF_KERNEL, Event, Segment

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Place = tuple[int, int]
"""How many operations and how many events came before."""


@dataclass(slots=True)
class Recorded:
    """What ran, in order. Positions are indices of operations; a storage lives from its position until before its end."""

    names: list[str] = field(default_factory=list)
    """Of the operations."""
    begins: list[int] = field(default_factory=list)
    """Of each storage: the operation that made it."""
    ends: dict[int, int] = field(default_factory=dict)
    """Of each storage that went: the first operation that no longer found it."""
    sizes: list[int] = field(default_factory=list)
    """Of each storage, bytes."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    met: set[int] = field(default_factory=set)
    """Storages that were there before: the operation that "made" them was the first to read them."""
    events: list[int] = field(default_factory=list)
    """In order: storage + 1 where one is made, -(storage + 1) where one goes; 0 is a mark."""
    marks: dict[int, str] = field(default_factory=dict)
    """By place among the events: what a mark says, if not that the allocator's cache is emptied."""
    event_positions: list[int] = field(default_factory=list)
    temporaries: dict[int, list[int]] = field(default_factory=dict)
    """By operation: bytes of the blocks that its kernel asks for and gives back."""
    flops: list[int] = field(default_factory=list)
    narrow: list[bool] = field(default_factory=list)
    """Whether an operation computes in 16 bit."""
    traffic: list[int] = field(default_factory=list)
    """Bytes that each operation reads and writes."""
    near: list[int] = field(default_factory=list)
    """Of these, those that never leave the card's cache (`cache.py`)."""
    again: list[bool] = field(default_factory=list)
    """Whether an operation is one of a layer that is computed again."""
    hooked: list[int] = field(default_factory=list)
    """Tensors that hooks kept for the backward pass since the operation before."""
    trained: int = 0
    """Tensors that an optimizer changes."""
    phases: list[tuple[str, int]] = field(default_factory=list)
    """(name, first operation)."""
    phase_events: list[int] = field(default_factory=lambda: [0])
    """How many events came before each phase: what goes between the last operation of one and the next belongs to the former."""

    def __len__(self) -> int:
        return len(self.names)

    def stays(self, storage: int) -> bool:
        """Whether it is one that was there before, and still is."""
        return storage in self.met and storage not in self.ends

    def go(self, storage: int) -> None:
        """Write down that a storage goes now."""
        self.ends[storage] = len(self.names)
        self.events.append(-(storage + 1))
        self.event_positions.append(len(self.names))

    def repeat(self, begin: Place, end: Place, once: list[tuple[Place, Place]], known: dict[int, int]) -> dict[int, int]:
        """Write down once more what was from the one place to the other, without what was done `once`; which storages stand for
        those of then, by their numbers. `known` are such storages that were made earlier."""
        numbers, shift = dict[int, int](), [0]
        for i in range(begin[0], end[0]):
            left_out = any(a[0] <= i < b[0] for a, b in once)
            shift.append(shift[-1] + (not left_out))
            if left_out:
                continue
            if i in self.temporaries:
                self.temporaries[len(self.names)] = self.temporaries[i]
            self.names.append(self.names[i])
            self.flops.append(self.flops[i])
            self.narrow.append(self.narrow[i])
            self.again.append(self.again[i])
            self.hooked.append(self.hooked[i])
            self.traffic.append(self.traffic[i])
            self.near.append(self.near[i])
        base = len(self.names) - shift[-1]
        for place in range(begin[1], end[1]):
            event, position = self.events[place], base + shift[self.event_positions[place] - begin[0]]
            if self.stays(event - 1) or any(a[1] <= place < b[1] for a, b in once):
                continue
            if event > 0:
                number = numbers[event - 1] = len(self.sizes)
                self.begins.append(position)
                self.sizes.append(self.sizes[event - 1])
                self.shapes.append(self.shapes[event - 1])
                event = number + 1
            elif event < 0:
                storage = numbers[-event - 1] if -event - 1 in numbers else known[-event - 1]
                self.ends[storage] = position
                event = -(storage + 1)
            elif place in self.marks:
                self.marks[len(self.events)] = self.marks[place]
            self.events.append(event)
            self.event_positions.append(position)
        return numbers

    def live(self, *, granule: int = 1) -> Numbers:
        """Bytes alive during each operation, with sizes rounded up to `granule`; kernels' temporaries are not in it."""
        sizes = -(-np.array(self.sizes, dtype=np.int64) // granule) * granule
        change = np.zeros(len(self) + 1, dtype=np.int64)
        np.add.at(change, np.array(self.begins, dtype=np.int64), sizes)
        if self.ends:
            gone = np.fromiter(self.ends.keys(), np.int64)
            np.add.at(change, np.fromiter(self.ends.values(), np.int64), -sizes[gone])
        return np.cumsum(change)[:-1]

    def extra(self, *, granule: int = 1) -> Numbers:
        """Bytes of temporaries during each operation."""
        found = np.zeros(len(self), dtype=np.int64)
        for position, blocks in self.temporaries.items():
            found[position] = sum(-(-b // granule) * granule for b in blocks)
        return found

    def segments(self, part_of: Callable[[int], str]) -> list[Segment]:
        """The stream of allocations by phase. `part_of` names what a storage is: weights, gradients, ...

        A kernel's own blocks come after its results were asked for, and go before anything else happens.
        """
        found = [Segment(name) for name, _ in self.phases]
        firsts = [first for _, first in self.phases]
        number = len(self.sizes)
        waiting = sorted(self.temporaries, reverse=True)

        def put(place: int, event: Event, among: list[int] = self.phase_events) -> None:
            found[bisect_right(among, place) - 1].events.append(event)

        def flush(before: int) -> None:
            nonlocal number
            while waiting and waiting[-1] < before:
                position = waiting.pop()
                blocks, name = self.temporaries[position], f"{self.names[position]}{OF_KERNEL}"
                for i, size in enumerate(blocks, number + 1):
                    put(position, Event(i, size, name), firsts)
                for i in range(number + 1, number + 1 + len(blocks)):
                    put(position, Event(i, -1, name), firsts)
                number += len(blocks)

        labels = [f"{self.names[b]}|{part_of(n)}" for n, b in enumerate(self.begins)]
        for place, (event, position) in enumerate(zip(self.events, self.event_positions, strict=True)):
            flush(position)
            if event == 0:
                put(place, Event(0, 0, self.marks.get(place, "empty_cache")))
            elif event > 0:
                put(place, Event(event, self.sizes[event - 1], labels[event - 1]))
            else:
                put(place, Event(-event, -1, labels[-event - 1]))
        flush(len(self))
        return found

    def phase_of(self) -> list[str]:
        """The phase of each operation."""
        found: list[str] = []
        marks = [*self.phases, ("", len(self))]
        for (name, begin), (_, end) in pairwise(marks):
            found += [name] * (end - begin)
        return found
