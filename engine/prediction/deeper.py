"""The stream of a deep model, made from those of two shallow ones.

Within a phase a model of five layers does what one of four layers does, and one inner layer's work more (the outer ones differ
in what stands before and after them). That part is found by comparing both streams, and repeated: a block that is made in one
layer's part and released in another's goes with it, in the same order (forward to forward) or in the opposite one (forward to
backward).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.prediction.stream import Event, Segment

SHALLOW = (4, 5)
"""Layers of the two traced models."""
COPIES = 3
"""Of an inner layer's work in the deeper stream: five layers without the two outer ones."""


class Unlike(Exception):
    """Two streams that differ in more than one layer's work: the model has to be traced at its full depth."""


class _Place(NamedTuple):
    segment: int
    region: int
    """Which of the segment's regions; -1 outside them."""
    copy: int
    """Which layer's part of it."""
    offset: int


class _Region(NamedTuple):
    """Where in a segment of the deeper stream the three inner layers' parts are."""

    begin: int
    length: int

    @property
    def end(self) -> int:
        return self.begin + COPIES * self.length


@dataclass(slots=True)
class _Cut:
    """A segment of the deeper stream and its regions, in order."""

    segment: int
    regions: list[_Region]

    def place(self, index: int) -> _Place:
        for r, region in enumerate(self.regions):
            if region.begin <= index < region.end:
                at = index - region.begin
                return _Place(self.segment, r, at // region.length, at % region.length)
        return _Place(self.segment, -1, -1, index)


def extended(less: list[Segment], more: list[Segment], layers: int) -> list[Segment]:
    """The stream of `layers` layers (at least 5).

    Raises:
        Unlike: the shallow streams differ in more than a layer's work.
    """
    if layers == SHALLOW[1]:
        return more
    if [s.phase for s in less] != [s.phase for s in more]:
        raise Unlike("phases")
    sizes = [_sizes(segments) for segments in (less, more)]
    cuts = []
    seen: dict[Any, list[_Region] | None] = {}
    for s, (a, b) in enumerate(zip(less, more, strict=True)):
        shorter, longer = (tuple(_token(e, known) for e in x.events) for x, known in zip((a, b), sizes, strict=True))
        alike = shorter, longer, _backwards(a)  # a second step does what the first one did
        if alike not in seen:
            seen[alike] = _Search(shorter, longer, backwards=_backwards(a)).regions()
        if (found := seen[alike]) is None:
            raise Unlike(f"in {a.phase}")
        cuts.append(_Cut(s, found))
    return _Extension(less, more, cuts, layers).segments()


def _sizes(segments: list[Segment]) -> dict[int, int]:
    return {e.number: e.size for s in segments for e in s.events if e.size >= 0}


class _Token(NamedTuple):
    """An event as it is compared: what happens, and to how many bytes."""

    what: tuple[str, bool]
    size: int


def _token(event: Event, sizes: dict[int, int]) -> _Token:
    return _Token((event.name, event.size < 0), sizes[event.number])


MOST_REGIONS = 16
MOST_TRIED = 150_000
"""Lengths of a layer's part, in all places together, after which a trace at full depth is quicker than looking on."""
Codes = np.ndarray[Any, np.dtype[np.int64]]


def _coded(less: Sequence[Any], more: Sequence[Any]) -> tuple[Codes, Codes]:
    """A number for each, the same for what is alike."""
    codes: dict[Any, int] = {}
    first, second = (np.array([codes.setdefault(t, len(codes)) for t in tokens], dtype=np.int64) for tokens in (less, more))
    return first, second


def _backwards(segment: Segment) -> bool:
    """Whether layers come in the opposite order there."""
    return segment.phase.endswith("backward")


class _Search:
    """Which parts of the shorter list have to be repeated to make the longer one."""

    def __init__(self, less: Sequence[_Token], more: Sequence[_Token], *, backwards: bool) -> None:
        self._tokens = _coded(less, more)[1]
        self._what = _coded([t.what for t in less], [t.what for t in more])
        both = {t.size for t in less} & {t.size for t in more}
        self._sized = _coded(*([t if t.size in both else t.what for t in tokens] for tokens in (less, more)))
        self._backwards = backwards
        self._repeated: dict[int, np.ndarray[Any, np.dtype[np.bool_]]] = {}
        self._less, self._more = self._what
        self._left = 0
        self._failed: dict[tuple[int, int, int], int] = {}
        """Where, and with how many regions at most, none was found from a position on: nor is one from a later position."""

    def regions(self) -> list[_Region] | None:
        """The fewest regions that do it.

        First by what happens: sizes may grow with the depth. Where that does not tell where one region ends and the next begins,
        as among adapters that are all made alike, by sizes as well, but those that only one of both depths has.
        """
        for less, more in (self._what, self._sized):
            self._less, self._more, self._left = less, more, MOST_TRIED
            self._failed.clear()
            for most in range(MOST_REGIONS + 1):
                found = self._from(0, 0, most)
                if found is not None:
                    return found
        return None

    def _from(self, i: int, j: int, most: int) -> list[_Region] | None:
        """Regions from position i of the one and j of the other on, at most so many."""
        less, more = self._less[i:], self._more[j:]
        longest, lacking = min(len(less), len(more)), len(more) - len(less)
        differs = less[:longest] != more[:longest]
        same = int(differs.argmax()) if differs.any() else longest
        if lacking == 0 and same == longest:
            return []
        here = i + same, j + same, most
        if lacking <= 0 or most == 0 or j >= self._failed.get(here, j + 1):
            return None
        for length in range(1, lacking + 1) if most > 1 else (lacking,):
            self._left -= 1
            if self._left < 0:
                return None
            for begin in self._begins(j, j + same, length):
                rest = self._from(i + (begin - j) + 2 * length, begin + 3 * length, most - 1)
                if rest is not None:
                    return [_Region(begin, length), *rest]
        self._failed[here] = j
        return None

    def _begins(self, first: int, end: int, length: int) -> list[int]:
        """Where a layer's repetition may begin that was noticed at `end`: anywhere in a layer, if three times the same happens.

        Forward as early, backward as late as may be, so that both find the same layers.
        """
        if length not in self._repeated:
            tokens = self._tokens
            unlike = np.cumsum(np.concatenate([[0], tokens[:-length] != tokens[length:]]))
            places = max(len(tokens) - 3 * length + 1, 0)
            self._repeated[length] = unlike[2 * length : 2 * length + places] == unlike[:places]
        earliest, latest = max(end - 3 * length + 1, first), end - 2 * length
        if latest < earliest:
            return []
        found: list[int] = (earliest + np.flatnonzero(self._repeated[length][earliest : latest + 1])).tolist()
        return found[::-1] if self._backwards else found


class _Extension:
    """The work of `extended`."""

    def __init__(self, less: list[Segment], more: list[Segment], cuts: list[_Cut], layers: int) -> None:
        self._less, self._more, self._cuts, self._layers = less, more, cuts, layers
        self._numbers: dict[_Place, int] = {}
        self._made = {
            e.number: cut.place(i)
            for cut, segment in zip(cuts, more, strict=True)
            for i, e in enumerate(segment.events)
            if e.size >= 0
        }
        self._copies = layers - SHALLOW[1] + COPIES
        self._gone = 0
        self._blocks: dict[tuple[int, int], dict[int, tuple[str, int]]] = {}
        """By segment and region: which operation makes a block at each offset of a layer's part, and how large."""
        self._votes: dict[tuple[int, int, int, int], int] = {}
        """By region of release and region of making: above 0 where layers' blocks go in the order they were made in."""
        self._goes: dict[tuple[int, int, int, int], int] = {}
        """By segment of release and block of a layer: the region in which it goes."""
        self._look()

    def _look(self) -> None:
        """See what the deeper of the two streams makes and lets go."""
        pairs: dict[tuple[int, ...], tuple[int, int]] = {}
        for cut, segment in zip(self._cuts, self._more, strict=True):
            for i, e in enumerate(segment.events):
                here = cut.place(i)
                if e.size >= 0 and here.copy <= 0:
                    self._blocks.setdefault((here.segment, here.region), {})[here.offset] = (e.name, e.size)
                there = self._made[e.number] if e.size < 0 and here.copy >= 0 else here
                if there is here or there.copy < 0:
                    continue
                key = (here.segment, here.region, there.segment, there.region)
                self._goes[here.segment, there.segment, there.region, there.offset] = here.region
                self._votes.setdefault(key, 0)
                # The same release in two layers: did the block's layer go up with this one?
                if (*key, here.offset) in pairs:
                    copy, block = pairs[*key, here.offset]
                    self._votes[key] += 1 if there.copy - block == here.copy - copy else -1
                pairs[*key, here.offset] = (here.copy, there.copy)

    def segments(self) -> list[Segment]:
        """All segments at that depth."""
        found = []
        for cut, shallow, deep in zip(self._cuts, self._less, self._more, strict=True):
            out = Segment(deep.phase)
            at = grown = 0
            for r, region in enumerate([*cut.regions, _Region(len(deep.events), 0)]):
                for i in range(at, region.begin):
                    size = _grown(shallow.events[i - grown].size, deep.events[i].size, self._layers)
                    self._emit(out, deep.events[i], _Place(cut.segment, -1, -1, i), size)
                for copy in range(self._copies if region.length else 0):
                    for offset in range(region.length):
                        twins = [deep.events[region.begin + k * region.length + offset] for k in range(COPIES)]
                        here = _Place(cut.segment, r, copy, offset)
                        if twins[0].size >= 0 or twins[0].number == 0:
                            self._emit(out, twins[0], here, twins[0].size)
                        else:
                            self._release(out, twins[0].name, self._like(here, twins))
                at, grown = region.end, grown + region.length
            found.append(out)
        return found

    def _like(self, here: _Place, twins: list[Event]) -> _Place:
        """The block that goes in one copy of a layer, by what goes in the traced ones: near the ends what goes there, between
        them the block of a layer as far away."""
        last = self._copies - 1
        edge = here.copy if here.copy < COPIES else None
        if edge is None and last - here.copy < COPIES:
            edge = COPIES - 1 - (last - here.copy)
        for like in (1, 0, 2):
            there = self._made[twins[like].number]
            if there.copy < 0:
                continue
            if self._opposite(here, there):
                copy = (last - here.copy) + there.copy - (COPIES - 1 - like)
            else:
                copy = here.copy + there.copy - like
            if 0 <= copy <= last:
                return there._replace(copy=copy)
        if edge is None:
            raise Unlike(f"in {self._more[here.segment].phase}")
        return self._outside(here, self._made[twins[edge].number])

    def _opposite(self, here: _Place, there: _Place) -> bool:
        """Whether layers' blocks go in the opposite order of their making: seen where two layers' can be compared, else as
        backward follows forward."""
        vote = self._votes.get((here.segment, here.region, there.segment, there.region), 0)
        if vote:
            return vote < 0
        return _backwards(self._more[here.segment]) != _backwards(self._more[there.segment])

    def _outside(self, here: _Place, there: _Place) -> _Place:
        """A block of a layer's part that goes outside the parts: one of the first layers' or of the last ones'."""
        if there.copy < 0:
            return there
        early = False
        if here.copy < 0:  # it belongs to the region in which other layers' blocks of this kind go
            region = self._goes.get((here.segment, there.segment, there.region, there.offset), -1)
            early = region >= 0 and here.offset < self._cuts[here.segment].regions[region].begin
            here = here._replace(region=region)
        if self._opposite(here, there):
            early = not early
        return there if early else there._replace(copy=self._copies - COPIES + there.copy)

    def _emit(self, out: Segment, event: Event, here: _Place, size: int) -> None:
        if event.number == 0:
            out.events.append(event)
        elif size >= 0:
            number = self._numbers[here] = len(self._numbers) + self._gone + 1
            out.events.append(Event(number, size, event.name, event.term))
        else:
            self._release(out, event.name, self._outside(here, self._made[event.number]))

    def _release(self, out: Segment, name: str, there: _Place) -> None:
        if there not in self._numbers:
            there = self._twin(there, anywhere=out.phase.endswith("optimizer"))
        self._gone += 1
        out.events.append(Event(self._numbers.pop(there), -1, name))

    def _twin(self, there: _Place, *, anywhere: bool) -> _Place:
        """Another block of that layer's part, as large and made by the same operation: layers may let go of two such blocks,
        the copies of two weights for instance, in either order. Gradients go together, so that any other one will do: where
        those of all adapters are alike, nothing tells an encoder's from a decoder's."""
        blocks = self._blocks[there.segment, there.region]
        for offset, made in blocks.items():
            if made == blocks[there.offset] and there._replace(offset=offset) in self._numbers:
                return there._replace(offset=offset)
        for other in self._numbers if anywhere else ():
            if other.segment == there.segment and self._blocks[other.segment, other.region][other.offset] == blocks[there.offset]:
                return other
        raise Unlike("a block goes that was not made")


def _grown(before: int, now: int, layers: int) -> int:
    """Bytes of a block that every depth has once; it may still grow with the depth, as a list of norms does."""
    return now if now < 0 else max(now + (layers - SHALLOW[1]) * (now - before), 0)
