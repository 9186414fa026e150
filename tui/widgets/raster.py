"""Curves on a grid of characters: braille dots, half blocks, or plain ASCII. Nothing here knows of widgets.

A curve of any length is first gathered into columns, one a dot across, so that drawing costs what the screen is wide. The
columns are kept: while a run goes on, only those are gathered again that new points fall into.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Symbols = Literal["braille", "block", "ascii"]
DOTS: dict[Symbols, tuple[int, int]] = {"braille": (2, 4), "block": (1, 2), "ascii": (1, 1)}
"""Dots across and down in one character."""
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell, by column and row."""
_RUNS: dict[Symbols, list[list[list[int]]]] = {
    symbols: [
        [[sum(bits[top : bottom + 1]) for bottom in range(len(bits))] for top in range(len(bits))]
        for bits in (_BRAILLE if symbols == "braille" else ((1, 2)[: DOTS[symbols][1]],))
    ]
    for symbols in DOTS
}
"""Bits of all dots of a column of a cell from one down to another."""
_BLOCK = " ▀▄█"
BEYOND = 1e-9


@dataclass(frozen=True, slots=True)
class View:
    """The part of the plane that is drawn; with `log` the rows go by the logarithm."""

    left: float
    right: float
    low: float
    high: float
    log: bool = False

    def row(self, value: float, rows: int) -> int:
        """The row of a value, 0 at the top; values beyond the edge lie on it."""
        low, high, y = self.low, self.high, value
        if self.log:
            low, high, y = math.log(low), math.log(high), math.log(max(value, self.low / 2))
        share = (y - low) / max(high - low, BEYOND)
        return min(max(round((1 - share) * (rows - 1)), 0), rows - 1)

    def column(self, x: float, columns: int) -> int:
        """The column of a place on the axis; may lie outside."""
        return math.floor((x - self.left) / (self.right - self.left) * (columns - 1) + 0.5)

    def at(self, row: int, rows: int) -> float:
        """The value that a row stands for."""
        share = 1 - row / max(rows - 1, 1)
        if self.log:
            low = self.low
            return math.exp(math.log(low) + (math.log(self.high) - math.log(low)) * share)
        return self.low + (self.high - self.low) * share


class Column(NamedTuple):
    """What falls into one dot across."""

    mean: float
    low: float
    high: float
    steps: int


@dataclass(slots=True)
class Gathered:
    """The columns of one growing curve."""

    columns: list[Column | None] = field(default_factory=list)
    _frame: tuple[float, float, int, int] | None = None
    _taken: int = 0
    _last: float = -math.inf

    def update(self, xs: Sequence[float], ys: Sequence[float], view: View, columns: int, cuts: int = 0) -> list[Column | None]:
        """The columns of the curve in `view`; those that no new point fell into are as they were.

        `xs` never fall. `cuts` changes whenever points were taken back.
        """
        frame = (view.left, view.right, columns, cuts)
        grown = 0 < self._taken <= len(xs) and xs[self._taken - 1] == self._last
        first = 0
        if frame == self._frame and grown:
            first = max(min(view.column(self._last, columns), columns - 1), 0)
        else:
            self.columns = [None] * columns
        self._frame, self._taken = frame, len(xs)
        self._last = xs[-1] if xs else -math.inf
        width = (view.right - view.left) / max(columns - 1, 1)
        begin = bisect_left(xs, view.left + (first - 0.5) * width)
        for column in range(first, columns):
            end = bisect_left(xs, view.left + (column + 0.5) * width, begin)
            if end > begin:
                part = ys[begin:end]
                self.columns[column] = Column(sum(part) / len(part), min(part), max(part), len(part))
                begin = end
            elif end == len(xs):
                break
        return self.columns


def smoothed(columns: Sequence[Column | None], weight: float) -> list[float | None]:
    """An exponential mean along the columns, corrected for its start, with straight lines where there are no points.

    By columns rather than steps, so that a curve is equally smooth however long the run and however near one looks; a
    column of many steps is smooth already (its noise falls with the root of their number) and follows the more closely.
    """
    found: list[float | None] = [None] * len(columns)
    total = norm = 0.0
    before: int | None = None
    for i, column in enumerate(columns):
        if column is None:
            continue
        kept = weight ** (math.sqrt(column.steps) * (1 if before is None else i - before)) if weight else 0.0
        total, norm = total * kept + column.mean * (1 - kept), norm * kept + (1 - kept)
        value = total / norm if norm > 0 else column.mean
        if before is not None and (last := found[before]) is not None:
            for j in range(before + 1, i):
                found[j] = last + (value - last) * (j - before) / (i - before)
        found[i], before = value, i
    return found


class Run(NamedTuple):
    """Characters side by side, and the layer they belong to."""

    text: str
    layer: int


class Canvas:
    """Layers of dots; where several have dots in a cell, the last drawn has the cell."""

    def __init__(self, width: int, height: int, symbols: Symbols, characters: Sequence[str] = "*") -> None:
        """`characters` are those of the layers where there are no dots; the last is that of all that follow."""
        self.width, self.height, self.symbols, self._characters = width, height, symbols, characters
        self.across, self.down = DOTS[symbols]
        self._bits = [[0] * width for _ in range(height)]
        self._layer = [[-1] * width for _ in range(height)]
        self._text: dict[tuple[int, int], str] = {}

    def _run(self, x: int, top: int, bottom: int, layer: int) -> None:
        """All dots of a column from one down to another, a cell at a time."""
        down, column = self.down, x // self.across
        runs = _RUNS[self.symbols][x % self.across]
        for row in range(top // down, bottom // down + 1):
            if self._layer[row][column] != layer:
                self._layer[row][column], self._bits[row][column] = layer, 0
            first = row * down
            self._bits[row][column] |= runs[max(top - first, 0)][min(bottom - first, down - 1)]

    def band(self, columns: Sequence[Column | None], view: View, layer: int) -> None:
        """From the least to the greatest of every column."""
        rows = self.height * self.down
        for x, column in enumerate(columns):
            if column is not None:
                self._run(x, view.row(column.high, rows), view.row(column.low, rows), layer)

    def line(self, values: Sequence[float | None], view: View, layer: int) -> None:
        """One value a column, joined."""
        rows = self.height * self.down
        before: int | None = None
        for x, value in enumerate(values):
            if value is None:
                before = None
                continue
            y = view.row(value, rows)
            top, bottom = (y, y) if before is None else (min(y, before), max(y, before))
            if bottom - top > 1 and before is not None:  # half of a steep rise stands in each of the two columns
                middle = (y + before) // 2
                self._run(x - 1, min(before, middle), max(before, middle), layer)
                top, bottom = min(y, middle), max(y, middle)
            self._run(x, top, bottom, layer)
            before = y

    def mark(self, x: float, value: float, text: str, view: View, layer: int) -> None:
        """One character at a point, if it lies inside."""
        column = view.column(x, self.width)
        if 0 <= column < self.width:
            row = view.row(value, self.height)
            self._layer[row][column] = layer
            self._text[row, column] = text

    def rows(self) -> list[list[Run]]:
        """The finished picture; blanks belong to layer -1."""
        return [self._row(row) for row in range(self.height)]

    def _row(self, row: int) -> list[Run]:
        runs: list[Run] = []
        text, now = "", -1
        for column, (layer, bits) in enumerate(zip(self._layer[row], self._bits[row], strict=True)):
            character = self._text.get((row, column)) or (self._character(bits, layer) if bits else None)
            here = layer if character is not None else -1
            if here != now and text:
                runs.append(Run(text, now))
                text = ""
            text, now = text + (character or " "), here
        return [*runs, Run(text, now)]

    def _character(self, bits: int, layer: int) -> str:
        if self.symbols == "braille":
            return chr(0x2800 + bits)
        return _BLOCK[bits] if self.symbols == "block" else self._characters[min(layer, len(self._characters) - 1)]


def room_for(length: float) -> float:
    """Where the axis ends: a little beyond the last point, so that the curve stays where it is for many steps."""
    step = 2.0 ** max(math.floor(math.log2(max(length, 1))) - 3, 0)
    return max(math.ceil(length / step) * step, 1.0)
