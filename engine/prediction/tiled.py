"""A traced step in which each call of tiled attention is two blocks: how many tiles there are no longer matters.

Between two marks of the stream lie a call's tiles. What they leave behind becomes one block, what they hold beyond it while they
work another, which comes and goes: the most that is alive stays what it was. So streams of two lengths can be compared.
"""

from collections.abc import Iterator
from itertools import count

from engine.prediction.stream import Event, Segment

BEGIN, END = "tiles begin", "tiles end"
"""Names of the marks, events of the number 0."""
KEPT, WORK = "tiles|activations", "tile|temporaries"


def summed(segments: list[Segment]) -> list[Segment]:
    """The stream with those blocks in the place of the tiles', and without marks."""
    free = count(max((e.number for s in segments for e in s.events), default=0) + 1)
    of: dict[int, int] = {}
    """By the number of a block that was kept: that of all of its call."""
    left: dict[int, int] = {}
    """By the latter: how many of them have not gone."""
    return [Segment(s.phase, list(_summed(s.events, free, of, left))) for s in segments]


def _summed(events: list[Event], free: "count[int]", of: dict[int, int], left: dict[int, int]) -> Iterator[Event]:
    inside: list[Event] | None = None
    for event in events:
        if event.number == 0 and event.name == BEGIN:
            inside = []
        elif event.number == 0 and event.name == END:
            yield from _blocks(inside or [], free, of, left)
            inside = None
        elif inside is not None:
            inside.append(event)
        elif event.size < 0 and event.number in of:
            yield from _gone(event.number, of, left)
        else:
            yield event


def _gone(number: int, of: dict[int, int], left: dict[int, int]) -> Iterator[Event]:
    """The block of a call's tiles goes with the last of them."""
    whole = of.pop(number)
    left[whole] -= 1
    if not left[whole]:
        yield Event(whole, -1, KEPT)


def _blocks(inside: list[Event], free: "count[int]", of: dict[int, int], left: dict[int, int]) -> Iterator[Event]:
    alive: dict[int, int] = {}
    held = most = 0
    for event in inside:
        if event.size >= 0:
            alive[event.number] = event.size
            held += event.size
        elif event.number in alive:
            held -= alive.pop(event.number)
        elif event.number in of:
            yield from _gone(event.number, of, left)
        else:
            yield event
        most = max(most, held)
    if alive:
        whole = next(free)
        of |= dict.fromkeys(alive, whole)
        left[whole] = len(alive)
        yield Event(whole, held, KEPT)
    work = next(free)
    yield Event(work, most - held, WORK)
    yield Event(work, -1, WORK)
