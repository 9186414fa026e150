"""A text that is redrawn only where it changed."""

from textual.content import Content
from textual.geometry import Region, Size
from textual.reactive import Reactive
from textual.scrollbar import ScrollBar
from textual.widget import Widget


class Quiet(Widget):
    """`show` compares line by line and has only the changed ones painted: watching must not slow the training."""

    DEFAULT_CSS = "Quiet { height: auto; }"
    virtual_size = Reactive(Size(0, 0), layout=False)
    """As Textual has it, but another size that a layout has given needs no second layout: nothing in here is laid out."""

    def __init__(self, *, id: str, grows: bool = False) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id, markup=False)
        self._shown = Content("")
        self._lines = [self._shown]
        self._grows = grows

    def render(self) -> Content:
        """What `show` was given last."""
        return self._shown

    def show(self, content: Content) -> None:
        """Show `content`, if it is another one."""
        if _same(self._shown, content):
            return
        before, after = self._lines, list(content.split("\n"))
        changed = [i for i, (old, new) in enumerate(zip(before, after, strict=False)) if not _same(old, new)]
        self._shown, self._lines = content, after
        width = self.content_size.width
        # A line that wraps moves all below it, and a text of another length may need another layout.
        if len(before) != len(after) or any(line.cell_length > width for line in (*before, *after)):
            self.refresh(layout=self._grows)
        else:
            self.refresh(*(Region(0, line, width, 1) for line in changed))


class QuietBar(ScrollBar):
    """A scroll bar whose new size, which a layout has given, asks for no second layout."""

    virtual_size = Reactive(Size(0, 0), layout=False)

    @classmethod
    def of(cls, widget: Widget) -> ScrollBar:
        """The vertical one of that widget, for its `vertical_scrollbar`."""
        if widget._vertical_scrollbar is None:
            widget._vertical_scrollbar = bar = cls(vertical=True, name="vertical", thickness=widget.scrollbar_size_vertical)
            bar.display = False
            widget.app._start_widget(widget, bar)
        return widget._vertical_scrollbar


def _same(one: Content, other: Content) -> bool:
    return one.plain == other.plain and one.spans == other.spans
