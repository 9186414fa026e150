"""The scales of a chart: what is seen of the plane, and how places on its edges are written."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tui.i18n import _
from tui.widgets.raster import View
from tui.words import amount, duration, number

if TYPE_CHECKING:
    from tui.widgets.loss_chart import Line

AXES = ("step", "tokens", "time")
"""What the curve may run along."""
LEAST = 1e-6
"""On a logarithmic scale losses below it are drawn on the edge."""


def view_of(frame: View, lines: "Iterable[Line]", axis: str, *, log: bool) -> View | None:
    """`frame` with room for what is seen in it: the means of the columns and the evaluations.

    Not for the extremes of single steps, or one wild step would press the whole curve flat; they are cut at the edge.
    """
    values: list[float] = []
    for line in lines:
        values += [c.mean for c in line.gathered.columns if c is not None]
        for step, loss in line.evaluations:
            if frame.left <= line.series.place(step, axis) <= frame.right:
                values.append(loss)
    if not values:
        return View(frame.left, frame.right, 0.0, 1.0)
    low, high = min(values), max(values)
    if log and high > LEAST:
        low = max(low, LEAST)
        return View(frame.left, frame.right, low, high if high > low * 1.01 else low * 1.5, log=True)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return View(frame.left, frame.right, low, high)


def value_words(value: float, span: float) -> str:
    """A loss on the edge of the chart, with as many decimals as tell one row from the next."""
    if abs(value) >= 1000:
        return f"{value:.3g}"
    return f"{value:.{1 if span > 10 else 2 if span > 0.1 else 3}f}"


def place_words(place: float, axis: str, *, unit: bool = True) -> str:
    """A place along the curve: `step 600`, `2.9 M tok`, `12 min`; without its `unit` where that stands nearby."""
    place = max(place, 0.0)
    if axis == "time":
        return duration(place)
    words = amount(place) if axis == "tokens" else number(place)
    if not unit:
        return words
    return f"{words} tok" if axis == "tokens" else f"{_('step')} {words}"


def after(choices: Sequence[str] | Sequence[float], now: str | float) -> int:
    """Index of the choice that follows `now`, in a circle."""
    return (list(choices).index(now) + 1) % len(choices) if now in choices else 0
