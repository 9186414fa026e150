"""Help: every key that works on the screen below."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tui.screens.base import own_bindings

ALWAYS = (
    ("tab, shift+tab", "next and previous field"),
    ("arrows, page up, page down", "move and scroll"),
    ("shift + mouse", "select text with the terminal's own selection"),
)


class HelpScreen(ModalScreen[None]):
    """A list of keys, taken from what is bound, so that it cannot be out of date."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,question_mark,q,enter", "dismiss", "Back")]

    def __init__(self, screen: "Screen[None]") -> None:
        super().__init__()
        self._lines = key_lines(screen)
        self._about = str(getattr(screen, "ABOUT", ""))

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", classes="help"):
            yield Static(Content.assemble(("Help", "bold"), "\n\n", self._about), markup=False)
            yield Static(self._lines, markup=False)
            yield Static(Content.styled("\nesc goes back", "dim"), markup=False)

    def on_mount(self) -> None:
        self.query_one("#dialog").focus()


def key_lines(screen: "Screen[None]") -> Content:
    """Key and meaning, one a line; the screen's own keys first."""
    app = screen.app
    rows = [(app.get_key_display(a.binding), a.tooltip or a.binding.description) for a in own_bindings(screen)]
    rows += [("^p", "all commands, by name"), *ALWAYS]
    seen = dict.fromkeys(rows)
    return Content("\n").join(Content.assemble((f"{key:<28}", "bold $accent"), meaning) for key, meaning in seen)
