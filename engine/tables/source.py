"""What an opened file of rows is, before any of its rows are held in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.tables.table import Table

BATCH_ROWS = 20_000
BATCH_BYTES = 8 << 20
"""Rows or bytes of one batch: large enough for libraries to be fast, small enough never to matter in memory."""

Told = Callable[[int], None]
"""Is told how much of `Source.size` was read."""


def nobody(done: int) -> None:
    """A `Told` that does not listen."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows that can be read batch by batch, as often as wanted, always the same ones."""

    path: Path
    format: str
    """csv, tsv, json, jsonl, parquet, arrow, text or conll."""
    read: Callable[[Told], Iterator[Table]]
    size: int
    unit: Literal["bytes", "rows"]
    """What `size` counts."""
    names: tuple[str, ...] = ()
    """Columns where a header names them, also when there are no rows."""
    encoding: str | None = None
    separator: str | None = None
    header: bool | None = None

    def batches(self, told: Told = nobody) -> Iterator[Table]:
        """Tables of up to some ten thousand rows, in the file's order.

        Raises:
            InputError: damaged, with the place.
        """
        return self.read(told)
