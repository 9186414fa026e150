"""Help: every key that works on the screen below."""

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from tui.i18n import _
from tui.keys import name, own_bindings
from tui.screens.dialog import Dialog
from tui.widgets.pane import Pane

ALWAYS = (
    ("tab, shift+tab", _("next and previous part")),
    (_("arrows"), _("move and scroll; page up and page down go faster")),
    ("ctrl+c", _("copy what was selected with the mouse")),
    (_("shift + mouse"), _("select with the terminal's own selection")),
)


class HelpScreen(Dialog[None]):
    """What the focused part is, and a list of keys, taken from what is bound, so that it cannot be out of date."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,question_mark,q,enter", "dismiss", _("Back"), id="back")]

    def __init__(self, screen: "Screen[Any]") -> None:
        super().__init__()
        self._lines = key_lines(screen)
        self._about = about(screen)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", classes="help"):
            yield Static(Content.styled(_("Help"), "bold"), markup=False)
            yield Static(Content.assemble("\n", self._about), markup=False)
            yield Static(self._lines, markup=False)

    def on_mount(self) -> None:
        dialog = self.query_one("#dialog")
        # In the frame: a long list would push it out of sight.
        dialog.border_subtitle = _("arrows scroll · {back} goes back").format(back=name("back", "esc"))
        dialog.focus()


def about(screen: "Screen[Any]") -> Content:
    """What the screen is for, and what the part is that has the focus."""
    parts = [str(getattr(screen, "ABOUT", ""))]
    for node in screen.focused.ancestors_with_self if screen.focused is not None else ():
        said = getattr(node, "about", None) or getattr(node, "HELP", None)
        if node is not screen and isinstance(said, str) and said:
            parts.append(said)
            break
    said = "\n\n".join(p for p in parts if p)
    return Content(f"{said}\n" if said else "")


def key_lines(screen: "Screen[Any]") -> Table:
    """Key and meaning, one a line: of the part that has the focus, of the screen, of the app."""
    app = screen.app
    found = own_bindings(screen)
    # First what the part with the focus knows, then what the footer shows, then the rest.
    order = sorted(found, key=lambda a: (a.node in (screen, app), a.node is app, not a.binding.show))
    rows: list[tuple[str, str]] = []
    seen: set[tuple[object, str]] = set()
    for active in order:
        mark = (active.node, active.binding.action)
        if mark not in seen and not (active.binding.id or "").startswith("pane-"):
            seen.add(mark)
            rows.append((app.get_key_display(active.binding), active.tooltip or active.binding.description))
    if panes := [pane.number for pane in screen.query(Pane)]:
        rows.append((f"1 … {max(panes)}", _("go to the part with that number")))
    if isinstance(screen, Dialog) and "enter" in screen.active_bindings and "enter" not in dict(rows):
        rows.append(("enter", _("take or change what is marked")))  # by the part with the focus itself
    rows += ALWAYS
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for key, meaning in dict.fromkeys(rows):
        table.add_row(Text(key, "bold"), Text(meaning))
    return table
