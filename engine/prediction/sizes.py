"""How a traced step's memory grows with its rows, its length and its rank, so that an edit takes a sum and not a new trace.

Every storage of a step is a product of its sizes. A second trace, a little larger or smaller in each of them, tells by the ratio
of both which product it is; the first one tells the factor. The bytes alive at a position of the step are then a sum of products,
and `recommender.fitted` needs those positions only that are the highest at some size.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import log, prod
from typing import Any

import numpy as np

from engine.prediction import tiled
from engine.prediction.deeper import Unlike
from engine.prediction.stream import OF_KERNEL, PHASES, Event, Segment, phase_of
from recommender.fitted import NAMES, PRODUCTS, TERMS, Sizes, Ways

TIMES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Of each size, where the highest positions are looked for."""
LEAST = (0, 256, 1024, 4096, 16_384)
"""Bytes of a block below which it is not looked at, tried in turn for each phase: some losses make a number a row."""
TOKENS, CHUNK, KEPT, PIECE = (PRODUCTS.index(words) for words in ("rows length", "chunk", "kept", "piece"))
"""Terms."""
LEARNED, PIECES = NAMES.index("learned"), NAMES.index("chunk")
BY_NAME = {NAMES.index("kept"), NAMES.index("piece")}
"""Sizes of blocks that say themselves how they grow (`tiled.summed`)."""


class ReadUnlike(Unlike):
    """Already what a forward pass makes differs, and so it would with more or less of the text learned."""


def neighbours(first: Sizes, ways: Ways, longest: int, together: int, in_cache: int) -> Iterator[Sizes]:
    """Sizes near `first` that take the same way, at which bytes tell what they are a product of.

    `longest` is the most tokens that the model reads, `together` are rows that are never parted: those of a pair. Of a piece of
    the loss at most `in_cache` tokens' logits are worked on together (0: all of them).
    """
    rows, length, rank, learned, chunk, *_ = first
    lengths = [n for eighths in (7, 9, 6, 10) if 1 < (n := _as_even(length * eighths // 8, length)) <= longest and n != length]
    several = 0 < chunk < learned
    # The last piece's share of a whole one: about as much leaves the number of pieces in a cache what it is.
    last = (learned - (-(-learned // chunk) - 1) * chunk) / chunk if several else 0.0
    places = [1 - share for share in (0.97 * last, 1.03 * last, 0.6, 0.3)] if several else [0.0]
    tile = _other_tile(first, ways)
    # Half as much again, unless it is so with the rows: three instead of two.
    ranks = [rank + max(rank * quarters // 4, 1) for quarters in (2, 4, 3)] if rank else [0]
    shares = (0.81, 0.71, 0.63) if learned else (1.0,)
    for n, m, share, place in product(lengths, (rows + together, rows - together), shares, places):
        if m < 1 or tile > m * ways.heads:
            continue
        of_row = max(int(share * learned / rows), 1)  # every row learns as many
        of_row = of_row if ways.apart else min(of_row, n - 1)
        tokens = (_as_even(of_row, first.written) if ways.apart else of_row) * m if learned else 0
        at_once = _other_chunk(first, tokens, place, in_cache) if several else tokens
        if several and not at_once:
            continue
        own = ways.sizes(m, n, 0)
        written = tokens // m if ways.apart else 0
        made = (Sizes(m, n, other, tokens, at_once, tile, own.kept, own.piece, written) for other in ranks)
        found = next((sizes for sizes in made if _distinct(first, sizes)), None)
        if found is None or bool(found.kept) != bool(first.kept) or bool(found.piece) != bool(first.piece):
            continue
        if _groups(first, ways) == _groups(found, ways):
            yield found


def _other_chunk(first: Sizes, tokens: int, place: float, in_cache: int) -> int:
    """Tokens of a piece of the loss of so many, whose last piece lacks the share `place` of a whole one: as many pieces as there,
    in as many steps, so that the loss takes the same way. 0 where there are none such."""
    pieces = -(-first.learned // first.chunk)
    chunk = int(tokens / (pieces - place))
    if not chunk or -(-tokens // chunk) != pieces:
        return 0
    if in_cache:
        together = of_piece(chunk, first.chunk, in_cache)
        if _in_cache(tokens, chunk, together) != _in_cache(first.learned, first.chunk, in_cache):
            return 0
    return chunk


def _other_tile(first: Sizes, ways: Ways) -> int:
    """A tile of attention one step larger or smaller; 0 where attention does not go by tiles."""
    if not first.tile or first.tile >= first.rows * ways.heads:
        return 0
    step = ways.heads if first.tile >= ways.heads else 1
    return first.tile + step if first.tile == step else first.tile - step


def of_piece(chunk: int, known: int, in_cache: int) -> int:
    """Tokens of a piece of the loss that are worked on together, so that it takes as many steps as one of `known` tokens does."""
    return -(-max(chunk, 1) // max(-(-known // in_cache), 1))


def _in_cache(learned: int, chunk: int, together: int) -> tuple[int, int]:
    """In how many steps a whole piece of the loss is worked on, and the last one."""
    last = learned - (-(-learned // chunk) - 1) * chunk
    return -(-chunk // together), -(-last // together)


def _as_even(number: int, other: int) -> int:
    """About that number, a multiple of 16 or 8 where the other one is: kernels fill up others."""
    step = next((n for n in (16, 8) if other % n == 0), 1)
    return number // step * step or number


def _groups(sizes: Sizes, ways: Ways) -> int:
    return -(-sizes.rows // max(ways.group // sizes.length, 1)) if ways.group else 1


def _factors(first: Sizes, second: Sizes) -> dict[int, Fraction]:
    """By term, how much larger it is at the second sizes; without those that follow from others."""
    absent = BY_NAME | {i for i, (a, b) in enumerate(zip(first, second, strict=True)) if not a or not b}
    if first.chunk == first.learned:
        absent.add(PIECES)
    if not first.learned:
        absent |= {LEARNED, PIECES}
    return {
        i: prod((Fraction(b, a) ** p for a, b, p in zip(first, second, powers, strict=True) if p), start=Fraction(1))
        for i, powers in enumerate(TERMS)
        if not any(powers[k] for k in absent)
    }


def _distinct(first: Sizes, second: Sizes) -> bool:
    found = list(_factors(first, second).values())
    return len(set(found)) == len(found)


def with_terms(first: list[Segment], second: list[Segment], sizes: tuple[Sizes, Sizes]) -> list[Segment]:
    """The first stream, with how each of its blocks grows.

    Raises:
        Unlike: the streams take different ways.
    """
    grows = _Grows(*sizes)
    if [s.phase for s in first] != [s.phase for s in second]:
        raise Unlike("phases")
    return list(_aligned(first, second, grows))


class _Grows:
    """Which term a block is, by its bytes at both sizes."""

    def __init__(self, first: Sizes, second: Sizes) -> None:
        factors = _factors(first, second)
        self._exact = {factor: term for term, factor in factors.items()}
        self._near = [(log(factor), term) for term, factor in factors.items() if not TERMS[term][2]]

    def term_of(self, before: int, now: int, name: str) -> int:
        """Its place in `TERMS`; of a sum the likeliest."""
        if not before or not now:
            return 0
        for summed, term in ((tiled.KEPT, KEPT), (tiled.WORK, PIECE)):
            if name == summed:
                return term
        exact = self._exact.get(Fraction(now, before))
        if exact is not None:
            return exact
        if name.endswith("|logits"):  # of the last piece, which is never larger than a whole one
            return CHUNK
        return min(self._near, key=lambda each: abs(each[0] - log(now / before)))[1]


def _made(segment: Segment, least: int) -> list[str]:
    return [e.name for e in segment.events if e.size >= least and not e.name.endswith(OF_KERNEL)]


def _small(first: list[Segment], second: list[Segment]) -> Iterator[tuple[set[int], set[int]]]:
    """Numbers of the blocks of both streams, phase by phase, that are too small to be looked at."""
    for a, b in zip(first, second, strict=True):
        least = next((n for n in LEAST if _made(a, n) == _made(b, n)), None)
        if least is None:
            raise (ReadUnlike if a.phase.endswith("forward") else Unlike)(f"in {a.phase}")
        yield tuple({e.number for e in segment.events if 0 <= e.size < least} for segment in (a, b))  # type: ignore[misc]


def _aligned(first: list[Segment], second: list[Segment], grows: _Grows) -> Iterator[Segment]:
    """The first stream with terms; small blocks are taken as they are."""
    found = list(_small(first, second))
    small = [set[int]().union(*(both[i] for both in found)) for i in range(2)]
    for a, b in zip(first, second, strict=True):
        kernels: defaultdict[str, deque[int]] = defaultdict(deque)
        for e in b.events:
            if e.name.endswith(OF_KERNEL) and e.size >= 0:
                kernels[e.name].append(e.size)
        others = iter([e for e in b.events if not e.name.endswith(OF_KERNEL) and e.number not in small[1]])
        out = Segment(a.phase)
        for e in a.events:
            term = 0
            if e.name.endswith(OF_KERNEL):  # where its table asks for none at the other size, it is taken for one of all tokens
                if e.size >= 0:
                    term = grows.term_of(e.size, kernels[e.name].popleft(), e.name) if kernels[e.name] else TOKENS
            elif e.number not in small[0]:
                other = next(others, None)
                if other is None or other.name != e.name or (other.size < 0) != (e.size < 0):
                    raise Unlike(f"in {a.phase}")
                term = grows.term_of(e.size, other.size, e.name) if e.size >= 0 else 0
            out.events.append(Event(e.number, e.size, e.name, term))
        if next(others, None) is not None:
            raise Unlike(f"in {a.phase}")
        yield out


def resized(segments: list[Segment], first: Sizes, other: Sizes) -> list[Segment]:
    """A stream whose blocks have terms as it would be at another size that takes the same way."""
    factors = [_value(other, powers) / (_value(first, powers) or 1) for powers in TERMS]

    def at(e: Event) -> Event:
        return e._replace(size=round(e.size * factors[e.term])) if e.size > 0 else e

    return [Segment(s.phase, [at(e) for e in s.events]) for s in segments]


def fitted(segments: list[Segment], at: tuple[int, int, int], ways: Ways) -> dict[str, Any]:
    """What `recommender.fitted.at` reads, of a stream at its whole depth whose blocks have terms; `at` are the rows, the length
    and the rank of its step."""
    values = np.array([_value(ways.sizes(*at), powers) for powers in TERMS], dtype=float)
    parts: dict[str, int] = {}
    phases: list[str] = []
    columns, changes, peaks = [], [], []
    blocks: dict[int, tuple[int, float]] = {}
    for segment in segments:
        for i, e in enumerate(segment.events):
            if e.number == 0:
                column, change = 0, 0.0
            elif e.size >= 0:
                part = parts.setdefault(e.name.partition("|")[2] or "temporaries", len(parts))
                column, change = part * len(TERMS) + e.term, e.size / values[e.term]
                blocks[e.number] = (column, change)
            else:
                column, change = blocks.pop(e.number)
                change = -change
            columns.append(column)
            changes.append(change)
            phases.append(phase_of(segment.phase))
            peaks.append(e.size >= 0 and (i + 1 == len(segment.events) or segment.events[i + 1].size < 0))
    table = np.zeros((len(changes), len(parts) * len(TERMS)))
    table[np.arange(len(changes)), columns] = changes
    chosen = np.flatnonzero(peaks)
    table = np.cumsum(table, axis=0)[chosen]
    grid = np.array([[_value(s, powers) for powers in TERMS] for s in _grid(at, ways)], dtype=float).T
    totals = table.reshape(len(table), len(parts), len(TERMS)).sum(1) @ grid
    named = np.array(phases)[chosen]
    positions = []
    for phase in PHASES:
        of_phase = np.flatnonzero(named == phase)
        if len(of_phase):
            highest = sorted({int(of_phase[p]) for p in np.argmax(totals[of_phase], axis=0)})
            positions += [[phase, _told(table[p], parts)] for p in highest]
    return {"ways": list(ways), "at": list(at), "positions": positions}


def _value(sizes: Sizes, powers: tuple[int, ...]) -> int:
    return prod(size**power for size, power in zip(sizes, powers, strict=True) if power)


def _grid(at: tuple[int, int, int], ways: Ways) -> Iterator[Sizes]:
    rows, length, rank = at
    ranks = (0,) if not rank else (rank, 4 * rank, max(rank // 4, 1))
    for m, n, other in product(TIMES, TIMES, ranks):
        yield ways.sizes(max(round(m * rows), 1), max(round(n * length), 2), other)


def _told(row: Any, parts: dict[str, int]) -> list[list[Any]]:
    """By part: [name, [[term, coefficient], ...]]."""
    found = []
    for part, number in parts.items():
        grows = [[t, float(round(row[number * len(TERMS) + t], 6))] for t in range(len(TERMS))]
        grows = [g for g in grows if abs(g[1]) > 1e-6]
        if grows:
            found.append([part, grows])
    return found
