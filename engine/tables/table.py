"""Rows in memory: a whole file, or one batch of it."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.text import one_line
from recommender.errors import InputError

Place = Callable[[int], str]
"""Where the row of that number stands, for messages."""
JOINS = "+"
"""Between the names of columns that are read as one text, a line each: `subject+body`."""


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
        """The column of that name, or a field of a column of objects (`translation.en`), or several joined (`subject+body`).

        Raises:
            InputError: there is none.
        """
        if name in self.columns:
            return self.columns[name]
        if parts := self.joined(name):
            return list(map(_as_one, zip(*map(self.values, parts), strict=True)))
        outer, _, inner = name.partition(".")
        if not inner or outer not in self.columns:
            known = ", ".join(one_line(c, 40) for c in list(self.columns)[:8])
            raise InputError(f"{self.path}: has no column {one_line(name, 60)}; its columns are {known}.")
        return [value.get(inner) if isinstance(value, dict) else None for value in self.columns[outer]]

    def holds(self, name: str) -> bool:
        """Whether `values` would find it."""
        return self._is_one(name) or bool(self.joined(name))

    def joined(self, name: str) -> list[str]:
        """The columns that this name joins; none where it is the name of one, or of none."""
        parts = joined_names(name) if name not in self.columns else []
        return parts if all(map(self._is_one, parts)) else []

    def _is_one(self, name: str) -> bool:
        return name in self.columns or ("." in name and name.partition(".")[0] in self.columns)

    def filled(self, names: Iterable[str]) -> "Table":
        """With nothing in every row of those columns that it has not: of some rows no object may have had the field."""
        parts = (part for name in names if not self.holds(name) for part in joined_names(name) or [name])
        lacking = [name for name in parts if not self._is_one(name)]
        return replace(self, columns=self.columns | {name: [None] * self.rows for name in lacking}) if lacking else self

    def only(self, wanted: Container[int]) -> "Table":
        """The rows with these numbers."""
        if self.numbers is not None:
            return self
        rows = [i for i in range(self.rows) if self.start + i + 1 in wanted]
        columns = {n: [v[i] for i in rows] for n, v in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.start + i + 1 for i in rows])


def joined_names(name: str) -> list[str]:
    """The names that stand in one with a plus between them; none where there is no such sign."""
    parts = [part.strip() for part in name.split(JOINS)]
    return parts if len(parts) > 1 else []


def _as_one(values: tuple[Any, ...]) -> Any:
    """The texts of a row, a line each; what is nested stays so, for whoever reads it refuses that."""
    nested = next((value for value in values if isinstance(value, list | dict)), None)
    return "\n".join(filter(None, (as_text(value).strip() for value in values))) if nested is None else nested


def as_text(value: object) -> str:
    """A value of a file as text: whole numbers without a point, nothing for what is missing."""
    if type(value) is str and value.isascii():
        return value
    if value is None or value != value:  # noqa: PLR0124 - NaN is how data frames write a missing label
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    # JSON can spell half a surrogate pair, which no tokenizer takes.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
