"""Help: every key that works on the screen below."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

ALWAYS = (
    ("tab, shift+tab", "next and previous field"),
    ("arrows, page up, page down", "move and scroll"),
    ("shift + mouse", "select text with the terminal's own selection"),
)
HIDDEN = frozenset({"app.command_palette", "command_palette", "app.help_quit", "help_quit", "screen.copy_text"})


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
    rows: list[tuple[str, str]] = []
    for active in screen.active_bindings.values():
        binding = active.binding
        if not binding.description or binding.action in HIDDEN or active.node not in (screen, app):
            continue
        rows.append((app.get_key_display(binding), active.tooltip or binding.description))
    rows += [("^p", "all commands, by name"), *ALWAYS]
    seen = dict.fromkeys(rows)
    return Content("\n").join(Content.assemble((f"{key:<28}", "bold $accent"), meaning) for key, meaning in seen)
