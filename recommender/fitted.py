"""A traced step's memory at other sizes, at once: at each position of a step the bytes alive are a sum of products of its sizes.

`engine.prediction.sizes` finds the coefficients; the peak is the maximum over the positions that matter. Where another size would
take another way (more pieces of the loss, of attention, of the batch), nothing is said: only a new trace knows.
"""

from math import ceil, prod
from typing import Any, NamedTuple

from recommender import tiles

NAMES = ("rows", "length", "rank", "learned", "chunk", "tile", "kept", "piece", "written")
PRODUCTS = (
    "", "rows", "length", "rows length", "length length", "rows length length", "rank", "rows length rank", "learned",
    "learned rank", "chunk", "chunk rank", "tile length", "tile length length", "rank rank", "rows rank", "kept", "piece",
    "written", "length written", "written written", "rows length written", "rows written written",
)  # fmt: skip
TERMS: tuple[tuple[int, ...], ...] = tuple(tuple(words.split().count(name) for name in NAMES) for words in PRODUCTS)
"""Exponents of the sizes, in the order of `NAMES`."""


class Sizes(NamedTuple):
    """Of one step."""

    rows: int
    """Sequences of the largest micro-batch."""
    length: int
    """Tokens that are read of each row."""
    rank: int
    learned: int
    """Tokens of the micro-batch that reach a vocabulary's head."""
    chunk: int
    """Of those, how many at once."""
    tile: int
    """Matrices of scores that attention works on at once."""
    kept: int = 0
    """Scores that causal attention on a CPU keeps for the way back."""
    piece: int = 0
    """Those of its largest tile."""
    written: int = 0
    """Tokens that an encoder-decoder writes for each row."""


class Ways(NamedTuple):
    """What decides which way a step takes at a size."""

    share: float
    """Of a row's tokens that carry loss."""
    chunk: int
    """Tokens whose logits exist at once; 0 where there are none."""
    group: int
    """Tokens of a group of sequences that attention takes together; 0 where it takes all."""
    tile: int
    """Scores that it works on at once; 0 where it does not count them."""
    heads: int
    causal: int = 0
    """Heads of keys, where attention on a CPU is causal and may go by tiles."""
    narrow: bool = False
    """Whether it then reads 16 bit."""
    apart: bool = False
    """Whether what is written stands apart from what is read."""
    read: int = 0
    written: int = 0
    """Tokens of the longest text then read and of the longest written. 0 where it is not known: all of the length is read, and
    `share` of it written."""

    def sizes(self, rows: int, length: int, rank: int) -> Sizes:
        """All sizes of a step of so many rows, cut at that length."""
        written = 0
        if self.apart:
            written = min(self.written, length) if self.written else max(round(self.share * length), 1)
            length = min(self.read or length, length)
        of_row = written or max(min(round(self.share * length), length - 1), 1)
        learned = rows * of_row if self.chunk else 0
        at_once = max(self.tile // length**2, 1) if self.tile else 0
        tile = at_once if at_once < self.heads else min(at_once // self.heads, rows) * self.heads
        kept, piece = 0, 0
        if self.causal:
            together = min(rows, max(self.group // length, 1)) if self.group else rows
            of_group = tiles.scores(together * self.causal, self.heads // self.causal, length, narrow=self.narrow)
            kept, piece = of_group[0] * rows // together, of_group[1]
        return Sizes(rows, length, rank, learned, min(self.chunk, learned), tile, kept, piece, written)

    def taken(self, sizes: Sizes) -> tuple[Any, ...]:
        """Sizes with the same answer take the same way."""
        groups = ceil(sizes.rows / max(self.group // sizes.length, 1)) if self.group else 1
        tiled = self.tile and sizes.tile < sizes.rows * self.heads
        return (sizes.learned > self.chunk, groups, bool(tiled), sizes.rank > 0, sizes.kept > 0, sizes.piece > 0)


class Told(NamedTuple):
    """Bytes of tensors at a size."""

    peak: int
    parts: dict[str, int]
    phases: dict[str, dict[str, int]]


def at(fit: dict[str, Any], rows: int, length: int, rank: int) -> Told | None:
    """What the fit says of that size; `None` where the step would take another way there.

    Raises:
        KeyError, TypeError, ValueError, IndexError: it is no fit, or one of another version.
    """
    ways = Ways(*fit["ways"])
    known, asked = ways.sizes(*fit["at"]), ways.sizes(rows, length, rank)
    if ways.taken(known) != ways.taken(asked):
        return None
    terms = [prod(size**power for size, power in zip(asked, powers, strict=True) if power) for powers in TERMS]
    highest: dict[str, tuple[float, list[Any]]] = {}
    for phase, parts in fit["positions"]:
        total = 0.0
        for _, grows in parts:
            for term, coefficient in grows:
                total += terms[term] * coefficient
        if phase not in highest or total > highest[phase][0]:
            highest[phase] = total, parts
    phases = {
        phase: {part: int(sum(terms[t] * c for t, c in grows)) for part, grows in parts}
        for phase, (_, parts) in highest.items()
    }
    peak = max(phases, key=lambda phase: highest[phase][0])
    return Told(int(highest[peak][0]), phases[peak], phases)
