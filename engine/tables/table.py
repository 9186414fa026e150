"""Rows in memory: a whole file, or one batch of it."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def number(self, row: int) -> int:
        """Which row of the file that is, counted from 1."""
        return self.start + row + 1 if self.numbers is None else self.numbers[row]

    def where(self, row: int) -> str:
        """Where that row stands, for messages."""
        return f"{self.path.name}: row {self.number(row)}"

    def only(self, wanted: Container[int]) -> "Table":
        """The rows with these numbers."""
        if self.numbers is not None:
            return self
        rows = [i for i in range(self.rows) if self.start + i + 1 in wanted]
        columns = {n: [v[i] for i in rows] for n, v in self.columns.items()}
        return Table(self.path, self.format, columns, self.start, [self.start + i + 1 for i in rows])
