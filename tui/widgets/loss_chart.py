"""The loss while it falls: the training curve, and the evaluations on the same scale."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.raster import Point, column_of, curve, row_of, scale_of
from tui.words import unicode_terminal

MARGIN = 6
"""Cells left of the plot, for the scale."""


class LossChart(Widget):
    """Draws when the data or the size changed, never for the clock, and paints only the rows that changed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--train", "chart--eval", "chart--axis"}

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._train: Sequence[Point] = ()
        self._evals: Sequence[Point] = ()
        self._mark = (0, -1.0, 0)
        self._strips: list[Strip] = []
        self._drawn_for: tuple[Size, tuple[int, float, int]] | None = None

    def show_points(self, train: Sequence[Point], evals: Sequence[Point]) -> None:
        """Take (step, loss) points of training and of evaluations."""
        mark = (len(train), train[-1][0] if train else -1.0, len(evals))
        if mark == self._mark:
            return
        self._train, self._evals, self._mark = train, evals, mark
        before, size = self._strips, self.size
        self._draw_again()
        if len(before) != len(self._strips):
            self.refresh()
        elif changed := [y for y, (old, new) in enumerate(zip(before, self._strips, strict=True)) if old != new]:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    def _draw_again(self) -> None:
        wanted = (self.size, self._mark)
        if self._drawn_for != wanted:
            self._strips, self._drawn_for = self._draw(), wanted

    def render_line(self, y: int) -> Strip:
        """One row of the chart."""
        self._draw_again()
        strip = self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)

    def _draw(self) -> list[Strip]:
        width, height = self.size.width - MARGIN, self.size.height - 1
        axis = self.get_component_rich_style("chart--axis", partial=True)
        scale = scale_of((self._train, self._evals))
        if width < 4 or height < 2 or scale is None:
            words = " No step yet."[: max(self.size.width, 0)]
            blank = [Strip.blank(self.size.width) for _ in range(max(self.size.height // 2, 0))]
            return [*blank, Strip([Segment(words, axis)]).adjust_cell_length(self.size.width)]
        braille = unicode_terminal()
        cells = curve(self._train, width, height, scale, braille=braille)
        train = self.get_component_rich_style("chart--train", partial=True)
        evaluated = self.get_component_rich_style("chart--eval", partial=True)
        marks: list[set[int]] = [set() for _ in range(height)]
        for x, loss in self._evals:
            row, column = row_of(loss, height, scale), column_of(x, width, scale)
            cells[row][column] = "●" if braille else "o"
            marks[row].add(column)
        labels = {0: scale.high, (height - 1) // 2: (scale.high + scale.low) / 2, height - 1: scale.low}
        digits = ".2f" if scale.high - scale.low > 0.1 else ".3f"
        strips = []
        for row in range(height):
            label = f"{labels[row]:{digits}}" if row in labels else ""
            segments = [Segment(f"{label[: MARGIN - 1]:>{MARGIN - 1}} ", axis)]
            begin = 0
            for column in sorted(marks[row]):
                segments += [Segment("".join(cells[row][begin:column]), train), Segment(cells[row][column], evaluated)]
                begin = column + 1
            strips.append(Strip([*segments, Segment("".join(cells[row][begin:]), train)], self.size.width))
        left, right = f"{scale.left:.0f}", f"step {scale.right:.0f}"
        under = f"{' ' * MARGIN}{left}{right:>{max(width - len(left), 0)}}"
        strips.append(Strip([Segment(under[: self.size.width], axis)]).adjust_cell_length(self.size.width))
        return strips
