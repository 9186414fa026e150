"""Curves on a grid of characters: braille dots, or plain ASCII where the terminal has nothing else."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell, by column and row."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to the plane."""

    left: float
    right: float
    low: float
    high: float


def scale_of(series: Sequence[Sequence[Point]]) -> Scale | None:
    """The plane that holds all points; `None` when there are none."""
    points = [p for s in series for p in s]
    if not points:
        return None
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high = min(ys), max(ys)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    left = min(xs)
    return Scale(left, left + _room(max(xs) - left), low, high)


def _room(length: float) -> float:
    """Where the axis ends: a little beyond the last point, so that the curve stays where it is for many steps."""
    step = 2.0 ** max(math.floor(math.log2(max(length, 1))) - 3, 0)
    return max(math.ceil(length / step) * step, 1.0)


def thin_out(points: Sequence[Point], columns: int, scale: Scale) -> list[float | None]:
    """The mean of each column's points; columns between two points lie on the line that joins them."""
    sums, counts = [0.0] * columns, [0] * columns
    factor = (columns - 1) / (scale.right - scale.left)
    for x, y in points:
        column = int((x - scale.left) * factor + 0.5)
        if 0 <= column < columns:
            sums[column] += y
            counts[column] += 1
    means: list[float | None] = [s / c if c else None for s, c in zip(sums, counts, strict=True)]
    known = [i for i, m in enumerate(means) if m is not None]
    for a, b in itertools.pairwise(known):
        first, last = means[a], means[b]
        if first is None or last is None:
            continue
        for i in range(a + 1, b):
            means[i] = first + (last - first) * (i - a) / (b - a)
    return means


def curve(points: Sequence[Point], width: int, height: int, scale: Scale, *, braille: bool) -> list[list[str]]:
    """Rows of `width` characters; a blank where the curve is not."""
    across, down = (2, 4) if braille else (1, 1)
    means = thin_out(points, width * across, scale)
    dots = height * down
    bits = [[0] * width for _ in range(height)]
    before: int | None = None
    for x, mean in enumerate(means):
        if mean is None:
            before = None
            continue
        y = row_of(mean, dots, scale)
        top, bottom = (y, y) if before is None else (min(y, before), max(y, before))
        for dot in range(top, bottom + 1):
            bits[dot // down][x // across] |= _DOTS[x % 2][dot % 4] if braille else 1
        before = y
    if braille:
        return [[chr(0x2800 + b) if b else " " for b in row] for row in bits]
    return [["*" if b else " " for b in row] for row in bits]


def row_of(value: float, rows: int, scale: Scale) -> int:
    """The row of a value, 0 at the top."""
    share = (value - scale.low) / (scale.high - scale.low)
    return min(max(round((1 - share) * (rows - 1)), 0), rows - 1)


def column_of(x: float, columns: int, scale: Scale) -> int:
    """The column of a step."""
    return min(max(int((x - scale.left) / (scale.right - scale.left) * (columns - 1) + 0.5), 0), columns - 1)
