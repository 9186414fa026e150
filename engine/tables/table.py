"""Rows in memory: a whole file, or one batch of it."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.text import one_line
from recommender.errors import InputError

Place = Callable[[int], str]
"""Where the row of that number stands, for messages."""


def in_file(path: Path) -> Place:
    """Of the rows of one file."""
    return lambda number: f"{path.name}: row {number}"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, in the file's order."""

    path: Path
    format: str
    columns: dict[str, list[Any]]
    start: int = 0
    """Rows of the file before the first one here."""
    numbers: list[int] | None = None
    """Of the rows in the file, counted from 1, where they do not follow one another."""
    place: Place | None = None
    """Where rows stand, where one file's name and their numbers do not tell it."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def number(self, row: int) -> int:
        """Which row of the file that is, counted from 1."""
        return self.start + row + 1 if self.numbers is None else self.numbers[row]

    def where(self, row: int) -> str:
        """Where that row stands, for messages."""
        return (self.place or in_file(self.path))(self.number(row))

    def values(self, name: str) -> list[Any]:
        """The column of that name, or a field of a column of objects (`translation.en`).

        Raises:
            InputError: there is none.
        """
        if name in self.columns:
            return self.columns[name]
        outer, _, inner = name.partition(".")
        if not inner or outer not in self.columns:
            known = ", ".join(one_line(c, 40) for c in list(self.columns)[:8])
            raise InputError(f"{self.path}: has no column {one_line(name, 60)}; its columns are {known}.")
        return [value.get(inner) if isinstance(value, dict) else None for value in self.columns[outer]]

    def holds(self, name: str) -> bool:
        """Whether `values` would find it."""
        return name in self.columns or ("." in name and name.partition(".")[0] in self.columns)

    def filled(self, names: Iterable[str]) -> "Table":
        """With nothing in every row of those columns that it has not: of some rows no object may have had the field."""
        lacking = [name for name in names if not self.holds(name)]
        return replace(self, columns=self.columns | {name: [None] * self.rows for name in lacking}) if lacking else self

    def only(self, wanted: Container[int]) -> "Table":
        """The rows with these numbers."""
        if self.numbers is not None:
            return self
        rows = [i for i in range(self.rows) if self.start + i + 1 in wanted]
        columns = {n: [v[i] for i in rows] for n, v in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.start + i + 1 for i in rows])
