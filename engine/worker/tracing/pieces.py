"""In how many pieces a traced step works on its loss and on attention: noted at one size, and the same at another."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from engine.prediction.tiled import BEGIN, END, summed
from engine.worker import grouped, tiled, token_loss
from engine.worker.tracing.trace import Traced
from recommender.fitted import Sizes
from recommender.tiles import KEPT, Tile

Tiles = list[tuple[slice, slice]]


def with_sums(traced: Traced) -> Traced:
    """With a block or two in the place of each call's tiles, where those are marked."""
    return replace(traced, segments=summed(traced.segments)) if traced.recorded.marks else traced


def largest(tiles: list[Tile], length: int) -> list[Tile]:
    """Those of a call's tiles among which is the one that holds most, the last two of the first matrices: one of 2,240 tokens has
    35 queries' tiles, and tracing all of them took ten times as long. All, where their probabilities are kept."""
    return tiles if length <= KEPT else [tile for tile in tiles if tile.first == 0][-2:]


@contextlib.contextmanager
def watched(marks: list[Callable[[str], None]]) -> Iterator[tuple[list[int], list[bool]]]:
    """Within it is noted in how many pieces attention works on its scores, call by call, and of causal attention on a CPU whether
    it reads 16 bit; where there is somebody in `marks`, its tiles are marked. Of tiles that leave nothing behind only the largest
    are worked on: they hold the most."""
    seen: list[int] = []
    narrow: list[bool] = []
    usual, usually, asked = grouped._tiles, tiled._tiles, tiled.pays

    def tiles(*given: int) -> Tiles:
        found = list(usual(*given))
        seen.append(len(found))
        return found

    def causally(*given: int) -> Iterator[Any]:
        for mark in marks:
            mark(BEGIN)
        yield from largest(list(usually(*given)), given[-1])
        for mark in marks:
            mark(END)

    def pays(longest: int, dtype: Any) -> bool:
        narrow.append(dtype in tiled.NARROW)
        return asked(longest, dtype)

    with (
        mock.patch.object(grouped, "_tiles", tiles),
        mock.patch.object(tiled, "_tiles", causally),
        mock.patch.object(tiled, "pays", pays),
    ):
        yield seen, narrow


@contextlib.contextmanager
def in_pieces(size: Sizes, heads: int, seen: list[int], tile: int) -> Iterator[None]:
    """Within it loss and attention work on pieces of that size, and on as many as at the other one: without contents it does not
    matter which. Where that size has no tile, attention divides as it does."""
    calls = iter(seen)

    def tiles(sequences: int, given_heads: int, length: int) -> Tiles:
        return [(slice(0, size.tile), slice(0, max(size.tile // heads, 1)))] * next(calls, 1)

    def chunk(*_: Any) -> int:  # a mock that returns a value would hold what it is given
        return size.chunk

    with contextlib.ExitStack() as stack:
        if size.chunk:
            stack.enter_context(mock.patch.object(token_loss, "_chunk_of", chunk))
            stack.enter_context(mock.patch.object(token_loss, "TILE", tile))
        if size.tile:
            stack.enter_context(mock.patch.object(grouped, "_tiles", tiles))
        yield
