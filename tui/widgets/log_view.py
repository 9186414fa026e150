"""A log: bounded, wrapped to its width, searched, and followed to its end as long as one wants to."""

from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar, NamedTuple

from rich._wrap import divide_line
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar
from textual.strip import Strip

from tui.i18n import _
from tui.run_log import MOST_LINES, STYLES, LogLine
from tui.widgets.quiet import QuietBar

INDENT = 10
"""Cells that a wrapped line is set in by: as wide as the clock."""


class Row(NamedTuple):
    """One line of the screen."""

    line: LogLine
    text: str
    first: bool
    """Whether a line of the log begins here."""


class LogView(ScrollView, can_focus=True):
    """Lines as text, never as markup."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "match(-1)", _("Match before"), id="log-earlier", show=False, tooltip=_("The match before this one")),
        Binding("N", "match(1)", _("Match after"), id="log-later", show=False, tooltip=_("The match after this one")),
        Binding("g", "scroll_home", _("Beginning"), id="log-begin", show=False, tooltip=_("To the oldest line")),
        Binding("G", "to_end", _("End"), id="log-end", show=False, tooltip=_("To the newest line, and follow it")),
        Binding("j", "scroll_down", id="log-down", show=False),
        Binding("k", "scroll_up", id="log-up", show=False),
    ]
    ALLOW_MAXIMIZE = False
    virtual_size = Reactive(Size(0, 0), layout=False)
    """As with `Pane`."""
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--clock", "log--match", *(f"log--{style}" for style in STYLES)}

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.follows = True
        self.needle = ""
        self._lines: list[LogLine] = []
        self._rows: list[Row] = []
        self._width = 0
        self._at: int | None = None
        """The row of the match that was gone to."""
        self._base: Style | None = None
        """What all rows are drawn on: found by looking through all ancestors, so kept."""

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """As Textual has it, but quiet."""
        return QuietBar.of(self)

    def watch_has_focus(self, _has_focus: bool) -> None:
        """As with `Pane`: the frame around it tells."""

    def notify_style_update(self) -> None:
        """Other colours."""
        super().notify_style_update()
        self._base = None

    @property
    def text(self) -> str:
        """Everything it holds."""
        return "\n".join(map(str, self._lines))

    @property
    def matches(self) -> list[int]:
        """Rows at which lines begin that hold what is searched for."""
        wanted = self.needle.casefold()
        return [i for i, row in enumerate(self._rows) if row.first and wanted in row.line.text.casefold()] if wanted else []

    def replace(self, lines: Iterable[LogLine]) -> None:
        """Show these instead."""
        self._lines = list(lines)[-MOST_LINES:]
        self._wrap_again()

    def append(self, lines: Iterable[LogLine]) -> None:
        """Add to the end; the oldest go."""
        new = list(lines)
        if not new:
            return
        self._lines += new
        if len(self._lines) > MOST_LINES * 5 // 4:  # now and then, many at once: the rows are then wrapped again
            self.replace(self._lines)
            return
        self._rows += [row for line in new for row in wrapped(line, self._width)]
        self._resized()

    def search(self, needle: str) -> int:
        """Mark every line that holds `needle` and go to the newest; how many there are."""
        self.needle, self._at = needle, None
        found = self.matches
        if found:
            self.follows = False
            self._go_to(found[-1])
        self.refresh()
        return len(found)

    def action_match(self, direction: int) -> None:
        """Go to the match before or after."""
        found = self.matches
        here = self._at if self._at is not None else len(self._rows)
        beyond = [i for i in found if (i < here if direction < 0 else i > here)]
        if beyond:
            self._go_to(beyond[-1] if direction < 0 else beyond[0])

    def action_to_end(self) -> None:
        """Follow the newest line."""
        self.follows = True
        self.scroll_end(animate=False)

    def _go_to(self, row: int) -> None:
        self._at = row
        self.scroll_to(y=max(row - self.size.height // 2, 0), animate=False)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls back stops following; whoever comes to the end follows again."""
        super().watch_scroll_y(old_value, new_value)
        if self.max_scroll_y > 0:
            self.follows = new_value >= self.max_scroll_y

    def on_resize(self, event: events.Resize) -> None:
        """Wrap for the new width, and stay at the end where the height is another one."""
        if self.scrollable_content_region.width != self._width:
            self._wrap_again()
        elif self.follows:
            self._stay_at_end()

    def _wrap_again(self) -> None:
        self._width = self.scrollable_content_region.width
        self._rows = [row for line in self._lines for row in wrapped(line, self._width)]
        self._at = None
        self._resized()

    def _resized(self) -> None:
        follows = self.follows
        self.virtual_size = Size(max(self._width, 1), len(self._rows))
        if follows:
            self._stay_at_end()
        self.refresh()

    def _stay_at_end(self, *, again: bool = True) -> None:
        self.scroll_end(animate=False, immediate=True)
        self.follows = True
        # No scroll bar yet, without which nothing scrolls: it comes with a layout, which nothing else may ask for in minutes.
        if again and not self.allow_vertical_scroll and len(self._rows) > self.size.height:
            self.refresh(layout=True)
            self.call_after_refresh(self._stay_at_end, again=False)
        elif self.scrollable_content_region.width != self._width:  # the bar has taken its cell, of which no event tells
            self._wrap_again()

    def render_line(self, y: int) -> Strip:
        """One row."""
        index = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        base = self._base = self._base or self.rich_style
        if index >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[index]
        segments = []
        if row.line.clock:
            clock = f"{row.line.clock}  " if row.first else " " * INDENT
            segments.append(Segment(clock, self._style("clock")))
        style = self._style(row.line.style) if row.line.style else Style.null()
        segments += self._marked(row.text, style)
        strip = Strip(segments).adjust_cell_length(width)
        if index == self._at:
            strip = strip.apply_style(Style(reverse=True))
        return strip.apply_style(base)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"log--{name}")

    def _marked(self, text: str, style: Style) -> list[Segment]:
        wanted = self.needle.casefold()
        at = text.casefold().find(wanted) if wanted else -1
        if at < 0 or len(text.casefold()) != len(text):
            return [Segment(text, style)]
        end = at + len(wanted)
        match = self._style("match")
        return [Segment(text[:at], style), Segment(text[at:end], match), *self._marked(text[end:], style)]


def wrapped(line: LogLine, width: int) -> list[Row]:
    """The rows of a line, in cells; broken between words."""
    room = max(width - (INDENT if line.clock else 0), 10)
    if len(line.text) <= room and line.text.isascii():
        return [Row(line, line.text, True)]
    ends = [0, *divide_line(line.text, room), len(line.text)]
    return [Row(line, line.text[begin:end].rstrip(), begin == 0) for begin, end in pairwise(ends)]
