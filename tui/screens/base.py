"""What all screens share: the title line, back, help, copying out, and a net under the workers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engine.text import one_line
from tui.background import TellsMistakes
from tui.i18n import _
from tui.screens.confirm import ConfirmScreen
from tui.widgets.key_line import KeyLine
from tui.widgets.title import Title

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from tui.app import LoracleApp

SMALLEST = (80, 24)
"""Columns and rows that everything is made for."""


class LoracleScreen(TellsMistakes, Screen[None]):
    """A screen with a title line and a line of keys; `body` gives what lies between."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", _("Back"), id="back", tooltip=_("Back to where you came from")),
        Binding("f1,question_mark", "app.help", _("Help"), key_display="F1", id="help", tooltip=_("All keys that work here")),
        Binding("y", "copy", _("Copy"), id="copy", tooltip=_("Copy what has the focus to the clipboard"), show=False),
    ]
    focused = Reactive[Widget | None](None, repaint=False)
    """As Textual has it, but what changes paints itself: the whole screen painted anew took a third of a change of focus."""
    ABOUT: ClassVar[str] = ""
    """One or two sentences for the help."""

    @property
    def foremost(self) -> str:
        """The action whose key stands first in the line at the bottom; empty: as they are bound."""
        return ""

    @property
    def loracle(self) -> "LoracleApp":
        """The app, by its own type."""
        return cast("LoracleApp", self.app)

    def compose(self) -> ComposeResult:
        yield Title()
        yield Static(id="too-small", markup=False)
        yield from self.body()
        yield KeyLine()

    def body(self) -> ComposeResult:
        """The widgets between title and footer."""
        yield from ()

    def leaving(self) -> None:
        """The app is left."""

    def headline(self, left: Content, right: Content | None = None) -> None:
        """Change the title line; the right side shows the machine if nothing else is given."""
        self.query_one(Title).sides(left, right if right is not None else self.loracle.machine_line)

    def on_resize(self, event: events.Resize) -> None:
        """Say so when there is too little room; everything stays reachable by scrolling."""
        width, height = event.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        line = self.query_one("#too-small", Static)
        line.display = small
        if small:
            said = _("Made for {columns}x{rows}; this terminal is {width}x{height}")
            line.update(Content(said.format(width=width, height=height, columns=SMALLEST[0], rows=SMALLEST[1])))

    def call_after_refresh(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
        """As Textual has it, but not for a screen that was left meanwhile: its widgets are gone."""
        return super().call_after_refresh(self._unless_left(callback, *args, **kwargs))

    def set_interval(self, interval: float, callback: Callable[..., object], **options: Any) -> Timer:  # type: ignore[override]
        """The same. A timer that is begun while its screen is being left would go on until the last of its widgets is gone."""
        return super().set_interval(interval, self._unless_left(callback), **options)

    def _unless_left(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> Callable[[], object]:
        def called() -> object:
            return callback(*args, **kwargs) if self in self.app.screen_stack else None

        return called

    def say(self, text: object, severity: "SeverityLevel" = "information") -> None:
        """A note in the corner; foreign text is safe here."""
        self.notify(one_line(text, 400), severity=severity, markup=False, timeout=4 if severity == "information" else 8)

    def ask(self, question: Content, yes: str, then: Callable[[], object]) -> None:
        """`then`, if the person says `yes` to it."""

        def answered(answer: bool | None) -> None:
            if answer:
                then()

        self.app.push_screen(ConfirmScreen(question, yes), answered)

    def copyable(self) -> tuple[str, str] | None:
        """What `y` copies: in words, and itself. The focused part of the screen, unless a screen knows better."""
        node = self.focused
        while node is not None:
            copied = getattr(node, "copied", None)
            if callable(copied):
                found = cast("tuple[str, str]", copied())
                return found if found[1].strip() else None
            node = node.parent if node.parent is not self else None  # type: ignore[assignment]
        return None

    def action_copy(self) -> None:
        """Copy out."""
        found = self.copyable()
        if found is None:
            self.say(_("There is nothing to copy here; select text with the mouse and press ctrl+c."), "warning")
        else:
            self.copy_out(*found)

    def copy_out(self, words: str, text: str) -> None:
        """Copy `text`, and say so in `words`."""
        self.app.copy_to_clipboard(text)
        self.say(_("Copied: {what}").format(what=words))

    def action_back(self) -> None:
        """Leave this screen."""
        self.loracle.back()
