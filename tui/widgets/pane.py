"""A framed part of a screen: a number key focuses it, m gives it the room of all, y copies what it says."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scrollbar import ScrollBar
from textual.style import Style
from textual.widget import Widget

from tui.widgets.quiet import Quiet, QuietBar


class Pane(VerticalScroll):
    """Scrolls where its text is longer than its frame."""

    HELP: ClassVar[str] = ""
    virtual_size = Reactive(Size(0, 0), layout=False)
    """As with `Quiet`: scroll bars that come or go ask for a layout themselves."""

    def __init__(self, number: int, title: str | Content, *children: Widget, id: str, help: str = "") -> None:  # noqa: A002 - Textual's names
        super().__init__(*children, id=id, classes="pane", can_focus=True, can_maximize=True)
        self.number = number
        self.about = help
        """For the help while this has the focus."""
        self._title, self._words = title, str(title)
        self._frame: dict[str, Content] = {}
        self.others = Content("")
        """Panes that this one hides, for its frame."""

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """As Textual has it, but quiet."""
        return QuietBar.of(self)

    def on_mount(self) -> None:
        self.title_words(self._title)

    def watch_has_focus(self, _has_focus: bool) -> None:
        """Textual styles the widget and all in it anew. Here the frame alone changes, and its screen has that done."""

    def mark_focus(self) -> None:
        """Show in the frame whether the focus is in here. (`:focus-within` has all that is in there styled, twice.)"""
        self.set_class(self.has_focus_within, "-focused", update=False)
        self.app.stylesheet.update_nodes([self])

    @property
    def name_of(self) -> str:
        """Its title without what else stands there."""
        return self._words.partition("   ")[0]

    def title_words(self, words: str | Content) -> None:
        """Change what stands in the frame; parts of it may be clicked."""
        self._words = str(words)
        self._write_frame("border_title", Content.assemble(f"{self.number} " if self.number else "", words))

    def say_below(self, words: str = "") -> None:
        """Change what stands in the frame below; without words the panes that this one hides, each to be clicked."""
        self._write_frame("border_subtitle", Content(words) if words else self.others)

    def _write_frame(self, where: str, words: Content) -> None:
        """Only where it is another text: Textual paints the whole pane whenever one is set."""
        if self._frame.get(where) != words:
            self._frame[where] = words
            setattr(self, where, words)

    def copied(self) -> tuple[str, str]:
        """What `y` copies."""
        return self._words, "\n".join(q.render().plain for q in self.query(Quiet)).rstrip()


def clicked(words: str, action: str) -> Content:
    """Words that do that action of the screen when they are clicked."""
    return Content(words).stylize(Style.from_meta({"@click": f"screen.{action}"}))


class TextPane(Pane):
    """A pane of one text, redrawn only where it changed."""

    def __init__(self, number: int, title: str, *, id: str, help: str = "") -> None:  # noqa: A002 - Textual's names
        super().__init__(number, title, id=id, help=help)
        self._text = Quiet(id=f"{id}-text", grows=True)

    def compose(self) -> ComposeResult:
        yield self._text

    def show(self, content: Content) -> None:
        """Show `content`, if it is another one."""
        self._text.show(content)
