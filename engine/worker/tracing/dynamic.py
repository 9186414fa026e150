"""What is reserved where micro-batches differ in length: traced at two lengths, and replayed in the orders they may come in."""

from collections.abc import Callable
from typing import NamedTuple

from engine.prediction.deeper import Unlike
from engine.prediction.lengths import LONG, USUAL, Lengths, growing, rows_of
from engine.prediction.stream import Segment
from recommender.errors import LoracleError
from recommender.facts import DataFacts

SHORTER = (1 / 2, 3 / 4, 7 / 8, 15 / 16)
"""Of the length, where the step is traced again until it takes the same way: as many pieces of a loss that has some."""


class Kept(NamedTuple):
    """Of all those orders, in bytes."""

    least: int
    """Reserved where that is least."""
    usual: int
    most: int
    """Reserved in a long run."""
    room: int
    """What has to be there so that the allocator, which gives back what it can, gets along in such a run."""


def kept(
    longest: list[Segment], reserved: int, sizes: tuple[int, int], data: DataFacts, at: Callable[[int], list[Segment]]
) -> Kept | None:
    """By the stream of the longest micro-batch, of so many rows and tokens of each, and what it reserves by itself; `at` traces
    another length. `None` where no other length takes the same way."""
    rows, length = sizes
    for shorter in sorted({int(share * length) for share in SHORTER} - {0, length}):
        try:
            lengths = Lengths(longest, at(shorter), (length, shorter))
        except (Unlike, LoracleError):
            continue
        usual, long = (growing(length, rows, beyond, rows_of(data, length)) for beyond in (USUAL, LONG))
        small = max(reserved - lengths.reserved([length]), 0)
        often, most = small + lengths.reserved(usual, [length]), small + lengths.reserved(long)
        return Kept(min(reserved, often, most), often, max(often, most), small + lengths.room(long))
    return None
