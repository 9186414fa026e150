"""The tiles of causal attention on a CPU: `engine.worker.tiled` works by them, and a fit of its memory counts them."""

from collections.abc import Iterator
from typing import NamedTuple

QUERIES = 64
"""Of a tile."""
TILE = 2**19
"""Scores worked on together: 2 MB in fp32, which stay in the caches."""
LEAST = 128
"""Tokens from which it is faster than torch's own kernel in fp32; in 16 bit it always is."""
KEPT = 512
"""Tokens up to which keeping the probabilities (their lower half) costs little memory beside a layer's other activations."""


class Tile(NamedTuple):
    """Some queries of some matrices, and the keys before their end."""

    first: int
    """Of the matrices, each of which has one head of keys."""
    behind: int
    """The matrix behind the last."""
    begin: int
    """The first query."""
    end: int
    """The place behind the last query, and behind the last key."""

    def scores(self, shared: int) -> int:
        """How many there are, where `shared` heads of queries read one of keys."""
        return (self.behind - self.first) * (self.end - self.begin) * shared * self.end


def tiles(matrices: int, shared: int, length: int, at_most: int = TILE) -> Iterator[Tile]:
    """All tiles of so many matrices, one group of matrices after the other."""
    together = max(at_most // (shared * min(QUERIES, length) * length), 1)
    for first in range(0, matrices, together):
        for begin in range(0, length, QUERIES):
            yield Tile(first, min(first + together, matrices), begin, min(begin + QUERIES, length))


def pays(length: int, *, narrow: bool) -> bool:
    """Whether it is faster than torch's own kernel on sequences of that length, in fp32 or in 16 bit."""
    return narrow or length >= LEAST


def scores(matrices: int, shared: int, length: int, *, narrow: bool) -> tuple[int, int]:
    """How many are kept for the way back, and how many the largest tile has."""
    if not pays(length, narrow=narrow):
        return 0, 0
    sizes = [tile.scores(shared) for tile in tiles(matrices, shared, length)]
    return sum(sizes) if length <= KEPT else 0, max(sizes)
