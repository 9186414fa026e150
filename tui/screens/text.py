"""A long text over the screen, to be scrolled and left."""

from typing import ClassVar

from rich.console import RenderableType
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui import keys
from tui.i18n import _
from tui.screens.dialog import Dialog


class TextScreen(Dialog[None]):
    """Shows what it was given."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,w,enter", "dismiss", _("Back"), id="back"),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, title: str, text: RenderableType) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="text"):
            yield Static(Content.styled(self._title, "bold"), markup=False)
            with VerticalScroll(id="scroll"):
                yield Static(self._text, markup=False)
            said = _("arrows scroll · {back} goes back").format(back=keys.name("back", "esc"))
            yield Static(Content.styled(said, "dim"), markup=False)

    def on_mount(self) -> None:
        self.query_one("#scroll").focus()

    def action_scroll(self, step: int) -> None:
        """Scroll by a line."""
        self.query_one("#scroll").scroll_relative(y=step, animate=False)
