"""The loss while it falls: raw and smoothed, the evaluations on the same scale; several runs over one another.

The chart says nothing of where its points come from: a live run, a replay and a comparison use it alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.series import Series
from tui.cells import flush_right
from tui.i18n import _
from tui.widgets.raster import Canvas, Gathered, Run, Symbols, View, room_for, smoothed
from tui.widgets.scales import AXES, place_words, value_words, view_of
from tui.words import sign, unicode_terminal

MARGIN = 6
"""Cells left of the plot, for the scale."""
SMOOTHING = (0.9, 0.97, 0.0)
"""How much of the mean a column keeps of the one before; 0 draws the curve as it is."""
MOST_ZOOM = 64
TRAIN = 1
"""Layer of the first line; 0 is that of raw values, even ones are marks."""


@dataclass(slots=True)
class Line:
    """One curve with its evaluations."""

    series: Series
    evaluations: Sequence[tuple[float, float]] = ()
    """(step, loss)."""
    letter: str = ""
    """Stands at the end of the line where there are several."""
    last: float | None = None
    """The step that the run ends with, planned or real; no axis runs past it."""
    gathered: Gathered = field(default_factory=Gathered)

    @property
    def mark(self) -> tuple[object, ...]:
        """Changes when there is something new to draw."""
        steps = self.series.steps
        return len(steps), self.series.cuts, steps[-1] if steps else -1.0, len(self.evaluations), self.last

    def ends_at(self, axis: str) -> float:
        """The place on that axis beyond which the curve will not go; infinite where that is not known."""
        steps = self.series.steps
        if self.last is None:
            return math.inf
        if axis == "step":
            return self.last
        return self.series.along(axis)[-1] if steps and steps[-1] >= self.last else math.inf


class LossChart(Widget):
    """Draws when the data, the size or a choice changed, never for the clock, and paints only the rows that changed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--raw", "chart--train", "chart--eval", "chart--axis", "chart--b", "chart--c", "chart--d",
    }  # fmt: skip
    virtual_size = Reactive(Size(0, 0), layout=False)
    """As with `Quiet`."""
    STYLES = ("chart--train", "chart--b", "chart--c", "chart--d")
    """Of the lines, in turn."""

    @dataclass
    class Pointed(Message):
        """The mouse is over a place of the chart, or has left it."""

        words: str

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.symbols: Symbols = "braille" if unicode_terminal() else "ascii"
        self.smoothing = SMOOTHING[0]
        self.log_scale = False
        self.axis = AXES[0]
        self.zoom = 1
        self.shift = 0.0
        """How far the zoomed part lies left of the end, as a share of the whole."""
        self._lines: Sequence[Line] = ()
        self._strips: list[Strip] = []
        self._drawn_for: object = None
        self._drawn_size = Size(0, 0)
        self._view: View | None = None

    def show(self, *lines: Line) -> None:
        """Take what is to be drawn; a `Line` may be given again when its series has grown."""
        self._lines = lines
        self._repaint()

    def choose(self, *, smoothing: float | None = None, log: bool | None = None, axis: str | None = None) -> None:
        """Change how it is drawn."""
        self.smoothing = self.smoothing if smoothing is None else smoothing
        self.log_scale = self.log_scale if log is None else log
        if axis is not None and axis != self.axis:
            self.axis, self.zoom, self.shift = axis, 1, 0.0
        self._repaint()

    def zoom_by(self, factor: float) -> None:
        """Look nearer (above 1) or from farther away; the end of the curve stays in sight."""
        self.zoom = int(min(max(self.zoom * factor, 1), MOST_ZOOM))
        self.pan(0.0)

    def pan(self, share: float) -> None:
        """Move by a share of what is seen; to the left if negative."""
        self.shift = min(max(self.shift - share / self.zoom, 0.0), 1 - 1 / self.zoom)
        self._repaint()

    def _repaint(self) -> None:
        before, size = self._strips, self.size
        if not size:  # hidden: when it comes back as large as it was, it may still be right
            if self._wanted(self._drawn_size) != self._drawn_for:
                self.refresh()
            return
        self._draw_again()
        if len(before) != len(self._strips):
            self.refresh()
        elif changed := [y for y, (old, new) in enumerate(zip(before, self._strips, strict=True)) if old != new]:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    def _wanted(self, size: Size) -> tuple[object, ...]:
        """All that the drawing follows from."""
        choices = (self.smoothing, self.log_scale, self.axis, self.zoom, self.shift, self.symbols)
        return (size, choices, *((line.gathered, line.mark) for line in self._lines))

    def _draw_again(self) -> None:
        wanted = self._wanted(self.size)
        if self._drawn_for != wanted:
            base = self.rich_style  # found by looking through all ancestors: once, not for every row
            self._strips, self._drawn_for = [strip.apply_style(base) for strip in self._draw(self.size)], wanted
            self._drawn_size = self.size

    def notify_style_update(self) -> None:
        """Other colours: they come a moment after the theme's name."""
        super().notify_style_update()
        self._drawn_for = None

    def render_line(self, y: int) -> Strip:
        """One row of the chart."""
        self._draw_again()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    # Drawing

    def _draw(self, size: Size) -> list[Strip]:
        width, height = size.width - MARGIN, size.height - 1
        self._view = view = self._fitting_view(width) if width >= 4 and height >= 2 else None
        if view is None:
            words = f" {_('The curve begins with the first step.')}"
            blank = [Strip.blank(size.width)] * max(size.height // 2, 0)
            return [*blank, Strip([Segment(words, self._style("chart--axis"))]).adjust_cell_length(size.width)]
        several = len(self._lines) > 1
        letters = "".join(line.letter + "o" for line in self._lines) if several else "*o"
        canvas = Canvas(width, height, self.symbols, f".{letters}")
        self._put_lines(canvas, view, several=several)
        return self._strips_of(canvas.rows(), view, size.width)

    def _put_lines(self, canvas: Canvas, view: View, *, several: bool) -> None:
        columns = canvas.width * canvas.across
        if not several and self.smoothing:
            canvas.band(self._lines[0].gathered.columns, view, 0)
            canvas.line(smoothed(self._lines[0].gathered.columns, 0.0), view, 0)
        for n, line in enumerate(self._lines):
            canvas.line(smoothed(line.gathered.columns[:columns], self.smoothing), view, TRAIN + 2 * n)
        for n, line in enumerate(self._lines):
            for step, loss in line.evaluations:
                canvas.mark(line.series.place(step, self.axis), loss, sign("●"), view, TRAIN + 2 * n + 1)
            if several and len(line.series):
                end = next((c for c in reversed(line.gathered.columns) if c is not None), None)
                last = min(line.series.along(self.axis)[-1], view.right)
                if end is not None and last >= view.left:
                    canvas.mark(last, end.mean, line.letter, view, TRAIN + 2 * n)

    def _fitting_view(self, width: int) -> View | None:
        """Where everything visible lies, after the columns of every line were gathered for it."""
        ends = [line.series.along(self.axis)[-1] for line in self._lines if len(line.series)]
        marks = [line.series.place(step, self.axis) for line in self._lines for step, _loss in line.evaluations]
        if not ends and not marks:
            return None
        begins = [line.series.along(self.axis)[0] for line in self._lines if len(line.series)]
        left = min([*begins, *marks])
        reached = max([*ends, *marks])
        most = max(reached, max(line.ends_at(self.axis) for line in self._lines))
        whole = min(room_for(reached - left), most - left) or 1.0
        part = whole / self.zoom
        right = left + whole - self.shift * whole
        frame = View(right - part, right, 0.0, 1.0)
        columns = width * (2 if self.symbols == "braille" else 1)
        for line in self._lines:
            line.gathered.update(line.series.along(self.axis), line.series.losses, frame, columns, line.series.cuts)
        return view_of(frame, self._lines, self.axis, log=self.log_scale)

    def _strips_of(self, rows: list[list[Run]], view: View, width: int) -> list[Strip]:
        axis, height = self._style("chart--axis"), len(rows)
        labelled = {0, (height - 1) // 2, height - 1}
        strips = []
        for y, row in enumerate(rows):
            label = value_words(view.at(y, height), view.high - view.low) if y in labelled else ""
            segments = [Segment(f"{label[: MARGIN - 1]:>{MARGIN - 1}} ", axis)]
            segments += [Segment(run.text, self._style_of(run.layer)) for run in row]
            strips.append(Strip(segments, width))
        ends = [place_words(view.left, self.axis, unit=False), place_words((view.left + view.right) / 2, self.axis, unit=False)]
        ends.append(place_words(view.right, self.axis))
        plot = width - MARGIN
        under = f"{ends[0]:<{max(plot // 2 - len(ends[1]) // 2, 0)}}{ends[1]}"
        under = f"{' ' * MARGIN}{under}{flush_right(ends[2], plot - len(under))}"
        strips.append(Strip([Segment(under[:width], axis)]).adjust_cell_length(width))
        return strips

    def _style_of(self, layer: int) -> Style | None:
        if layer < 0:
            return None
        if layer == 0:
            return self._style("chart--raw")
        n, mark = divmod(layer - TRAIN, 2)
        if mark and len(self._lines) == 1:
            return self._style("chart--eval")
        return self._style(self.STYLES[n % len(self.STYLES)])

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name)  # blended with what lies behind; muted colours are half transparent

    # The mouse

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Nearer."""
        event.stop()
        self.zoom_by(2)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Farther away."""
        event.stop()
        self.zoom_by(0.5)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say what lies under the mouse."""
        self.post_message(self.Pointed(self._words_at(event.x - MARGIN)))

    def on_leave(self) -> None:
        """Say nothing more."""
        self.post_message(self.Pointed(""))

    def _words_at(self, x: int) -> str:
        view, width = self._view, self.size.width - MARGIN
        if view is None or not 0 <= x < width:
            return ""
        place = view.left + (view.right - view.left) * x / max(width - 1, 1)
        said = []
        for line in self._lines:
            at = round(x * (len(line.gathered.columns) - 1) / max(width - 1, 1))
            column = line.gathered.columns[at] if at < len(line.gathered.columns) else None
            if column is not None:
                said.append(f"{line.letter} {value_words(column.mean, view.high - view.low)}".strip())
        return f"{place_words(place, self.axis)}: {', '.join(said)}" if said else ""
