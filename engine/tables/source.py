"""What an opened file of rows is, before any of its rows are held in memory."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.tables.bounds import checked
from engine.tables.table import Place, Table, in_file, joined_names

BATCH_ROWS = 20_000
BATCH_BYTES = 8 << 20
"""Rows or bytes of one batch: large enough for libraries to be fast, small enough never to matter in memory."""

Told = Callable[[int], None]
"""Is told how much of `Source.size` was read."""
Wanted = Container[int] | None
"""Numbers of rows, counted from 1; `None` means all."""
Row = tuple[tuple[Any, ...], int]
"""The values of a row, and about how many bytes they are."""


def nobody(done: int) -> None:
    """A `Told` that does not listen."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows that can be read batch by batch, as often as wanted, always the same ones."""

    path: Path
    format: str
    """csv, tsv, json, jsonl, parquet, arrow, text, txt (with labels), fasttext, conll, rasa or folders."""
    read: Callable[[Told, Wanted], Iterator[Table]]
    """Readers may leave out rows that are not wanted where that saves time; they then number the others."""
    size: int
    unit: Literal["bytes", "rows"]
    """What `size` counts."""
    names: tuple[str, ...] = ()
    """Columns where a header names them, also when there are no rows."""
    encoding: str | None = None
    separator: str | None = None
    header: bool | None = None

    place: Place | None = None
    """Where rows stand, where several files are read as one: `Table.place`."""
    picks: Callable[[frozenset[str]], "Source"] | None = None
    """Opens it anew with some of its columns, where passing over the others saves reading them."""

    def only(self, columns: Iterable[str]) -> "Source":
        """Without columns that nobody needs, where that saves something; as it is where one of `columns` is not there."""
        every = (part for name in columns for part in ([name] if name in self.names else joined_names(name) or [name]))
        wanted = frozenset(name if name in self.names else name.partition(".")[0] for name in every)
        return self.picks(wanted) if self.picks is not None and wanted < frozenset(self.names) else self

    def through(self, step: Callable[[Table], Table]) -> "Source":
        """With every batch as `step` makes it."""
        return replace(self, read=lambda told, wanted: map(step, self.read(told, wanted)))

    def batches(self, told: Told = nobody, wanted: Wanted = None) -> Iterator[Table]:
        """Tables of up to some ten thousand rows, in the file's order.

        Raises:
            InputError: damaged, or nothing that could be learned from, with the place.
        """
        for table in self.read(told, wanted):
            whole = table if self.place is None else replace(table, place=self.place)
            yield checked(whole if wanted is None else whole.only(wanted))

    def where(self, number: int) -> str:
        """Where the row of that number stands, for messages; it was read before."""
        return (self.place or in_file(self.path))(number)


def of_rows(
    path: Path, kind: str, names: tuple[str, ...], rows: Callable[[Told], Iterator[Row]], encoding: str | None = None
) -> Source:
    """A file that is read row by row."""
    size = path.stat().st_size
    return Source(path, kind, lambda told, _: in_batches(path, kind, names, rows(told)), size, "bytes", names, encoding)


def in_batches(path: Path, kind: str, names: tuple[str, ...], rows: Iterable[Row]) -> Iterator[Table]:
    """Rows that come one by one, as tables."""
    held: list[tuple[Any, ...]] = []
    size = start = 0

    def batch() -> Table:
        return Table(path, kind, {n: list(v) for n, v in zip(names, zip(*held, strict=True), strict=True)}, start)

    for values, length in rows:
        held.append(values)
        size += length
        if len(held) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch()
            start += len(held)
            held, size = [], 0
    if held:
        yield batch()
