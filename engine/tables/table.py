"""Rows in memory: a whole file, or one batch of it."""

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

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def where(self, row: int) -> str:
        """Where that row stands, for messages."""
        return f"{self.path.name}: row {self.start + row + 1}"

    def take(self, rows: list[int]) -> "Table":
        """The rows at these places; `where` and row numbers then no longer hold."""
        return Table(self.path, self.format, {n: [v[i] for i in rows] for n, v in self.columns.items()}, self.start)
