"""What torch's allocator keeps, and how much it needs, where each micro-batch is only as long as its longest row.

Without expandable segments a block holds no larger one, so that the logits of each micro-batch that is the longest so far are
taken anew, beside those that shorter ones have left: what is reserved grows with every such batch, until the card is full. Where
the longest comes first nothing grows. The order is not known, and of the lengths little is, so orders are replayed: a stream is
traced at two lengths, and whatever grows with the length is taken to grow evenly between them.

In random order the share of the micro-batches that are longer than the longest so far falls, at each that is longer still, to 1/e
of what it was in the geometric mean, to a half in the median. By the first there are as many of them as usual, by the second as
many as in a very long run.
"""

import contextlib
import itertools
import math
from collections.abc import Callable

from engine.prediction.allocator import SMALL, Allocator, OutOfRoom
from engine.prediction.deeper import Unlike
from engine.prediction.stream import Segment
from recommender.facts import DataFacts

USUAL, LONG = 1 / math.e, 1 / 2
RAREST = 1e-4
"""Share of the micro-batches beyond which none is looked for: about as many have been seen when that happens."""
FURTHER = (1.02, 1.03, 1.045, 1.07, 1.1, 1.15, 1.22, 1.33, 1.5, 1.75, 2.0)
"""Times what is allocated, where the least room is looked for."""


def growing(length: int, rows: int, share: float, of_row: Callable[[float], float]) -> list[int]:
    """Lengths of the micro-batches, each of so many rows, that are the longest so far: of what there is beyond one, the next
    leaves that share. `of_row` tells the length that a share of all rows do not exceed."""
    found, beyond = list[int](), share
    while beyond > RAREST:
        n = round(of_row((1 - beyond) ** (1 / rows)))
        if n >= length:
            break
        if not found or n > found[-1]:
            found.append(max(n, 1))
        beyond *= share
    return [*found, length]


def rows_of(data: DataFacts, length: int) -> Callable[[float], float]:
    """How long the rows are: by the counts of the data, and evenly distributed between what those tell."""
    told = [(0.5, data.tokens_p50), (0.95, data.tokens_p95), (0.99, data.tokens_p99), (1.0, data.tokens_max)]
    points = [(0.0, 0), *((share, tokens) for share, tokens in told if tokens)]
    if points[-1][0] < 1:
        points.append((1.0, max(length, points[-1][1])))

    def of_row(share: float) -> float:
        (a, least), (b, most) = next(pair for pair in itertools.pairwise(points) if share <= pair[1][0])
        return least + (most - least) * (share - a) / (b - a)

    return of_row


class Lengths:
    """A loop at any length, by its streams at two of them."""

    def __init__(self, longest: list[Segment], shorter: list[Segment], lengths: tuple[int, int]) -> None:
        """`lengths` are those of the two streams.

        Raises:
            Unlike: they do not make the same blocks in the same order.
        """
        if [_made(s) for s in longest] != [_made(s) for s in shorter]:
            raise Unlike("at other lengths")
        self._long, self._short = lengths
        self._parts: list[tuple[str, list[tuple[int, int, int, str]]]] = []
        large: dict[int, bool] = {0: True}
        for a, b in zip(longest, shorter, strict=True):
            events = []
            for e, f in zip(a.events, b.events, strict=True):
                if e.size >= 0 and e.number:
                    large[e.number] = e.size > SMALL // 2  # what is small at any length has segments of its own
                if large[e.number]:
                    events.append((e.number, e.size, f.size, e.name.partition("|")[0]))
            self._parts.append((a.phase, events))
        phases = [phase for phase, _ in self._parts]
        first = [i for i, phase in enumerate(phases) if phase.startswith("first") or phase == "workspace"]
        self._loaded, self._second, self._scored = first[0], first[-1] + 1, phases.index("evaluation")

    def reserved(self, order: list[int], scored: list[int] | None = None) -> int:
        """Bytes that are kept of large blocks where micro-batches are trained in that order, and others `scored` then; the same
        where nothing is said."""
        return self._replayed(order, Allocator(), scored).peak_reserved

    def room(self, order: list[int]) -> int:
        """The least bytes that suffice for that order's large blocks: the allocator gives back what it can where there are no
        more."""
        least, more = self._replayed(order, Allocator()).peak_allocated, 1.0
        for more in FURTHER:
            with contextlib.suppress(OutOfRoom):
                self._replayed(order, Allocator(limit=int(more * least)))
                break
        return int(more * least)

    def _replayed(self, order: list[int], pool: Allocator, scored: list[int] | None = None) -> Allocator:
        """The last micro-batch fills up the last step."""
        replay = _Replay(pool)
        for i in range(self._loaded):
            self._play(i, self._long, replay)
        left = order[::-1]
        self._step(range(self._loaded, self._second), left, replay)
        again = True
        while again:
            replay.again()
            self._step(range(self._second, self._scored), left, replay)
            again = bool(left)
        for length in order if scored is None else scored:
            replay.again()
            for i in range(self._scored, len(self._parts)):
                self._play(i, length, replay)
        return pool

    def _step(self, parts: range, left: list[int], replay: "_Replay") -> None:
        length, before = 0, ""
        for i in parts:
            phase = self._parts[i][0]
            if not length or (phase.endswith("forward") and before.endswith(("backward", "optimizer"))):
                length = left.pop() if left else self._long
            before = phase if phase != "workspace" else before
            self._play(i, length, replay)

    def _play(self, i: int, length: int, replay: "_Replay") -> None:
        share = (length - self._short) / (self._long - self._short)
        for number, longest, shorter, name in self._parts[i][1]:
            if not number:
                replay.pool.empty_cache()
            elif longest < 0:
                replay.release(number)
            else:
                replay.allocate(number, max(round(shorter + share * (longest - shorter)), 1), name)


class _Replay:
    """A stream whose later parts are played again and again."""

    def __init__(self, pool: Allocator) -> None:
        self.pool = pool
        self._alive: dict[int, tuple[int, str]] = {}
        """By the number of a block in the stream: its number in the pool, and which operation made it."""
        self._made = 0
        self._before: dict[int, tuple[int, str]] = {}

    def allocate(self, number: int, size: int, name: str) -> None:
        self._made += 1
        self._alive[number] = self._made, name
        self.pool.allocate(self._made, size)

    def release(self, number: int) -> None:
        if number in self._alive:  # what goes once is not there the next time
            self.pool.release(self._alive.pop(number)[0])

    def again(self) -> None:
        """The part that was played last is played once more: what it has left takes the place of what it has found and let go,
        and what nothing will let go goes."""
        gone = {number: name for number, (_, name) in self._before.items() if number not in self._alive}
        left = [number for number in self._alive if number not in self._before] if self._before else []
        for number, name in gone.items():
            if (like := next((n for n in left if self._alive[n][1] == name), None)) is not None:
                left.remove(like)
                self._alive[number] = self._alive.pop(like)
        for number in left:
            self.release(number)
        self._before = dict(self._alive)


def _made(segment: Segment) -> tuple[str, list[tuple[int, bool, str]]]:
    return segment.phase, [(e.number, e.size < 0, e.name.partition("|")[0]) for e in segment.events]
