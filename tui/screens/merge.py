"""Where a merged model goes: a folder, and a question where an earlier merge lies there."""

import os
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static

from tui.background import in_thread
from tui.i18n import _
from tui.screens.dialog import Dialog
from tui.widgets.path_input import PathInput
from tui.words import sign


class MergeScreen(Dialog["tuple[Path, bool] | None"]):
    """Answers with the folder, and whether what lies there is to be replaced."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", _("Back"), id="back"),
        Binding("up,left", "app.focus_previous", show=False),
        Binding("down,right", "app.focus_next", show=False),
    ]

    def __init__(self, usual: Path) -> None:
        super().__init__()
        self._usual = usual
        self._looked: Path | None = usual
        self._there = ""
        """What lies in the folder that was looked at: nothing, `merged`, or something `else`."""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", can_focus=False):
            yield Static(Content.styled(_("Merge the adapter into its base"), "bold"), markup=False)
            words = _("A standalone model is written that needs neither adapter nor peft; the run and its adapter stay.")
            yield Static(Content(f"\n{words}\n\n{_('Folder')}"), markup=False)
            yield PathInput(str(self._usual), placeholder=_("a new folder"), files=False, id="merge-to")
            yield Static(id="merge-note", markup=False)
            with Horizontal(id="answers"):
                yield Button(_("Back"), id="no", compact=True)
                yield Button(_("Merge"), id="yes", variant="primary", compact=True)

    def on_mount(self) -> None:
        field = self.query_one("#merge-to", PathInput)
        field.cursor_position = len(field.value)  # of a long path its end is in sight
        self.query_one("#yes").focus()
        self._look()

    @on(Input.Changed, "#merge-to")
    def _typed(self) -> None:
        self._look()

    @property
    def _folder(self) -> Path | None:
        typed = self.query_one("#merge-to", PathInput).value.strip()
        return Path(os.path.expanduser(typed)).absolute() if typed else None

    @work(exclusive=True, group="look", exit_on_error=False)
    async def _look(self) -> None:
        folder = self._folder
        there = await in_thread(_what_lies_in, folder) if folder is not None else "else"
        self._looked, self._there = folder, there
        words = {
            "": "",
            "merged": _("An earlier merge is there. It is replaced once the new one is complete; or name another folder."),
            "else": _("Name a folder that does not exist yet: this one holds something other than a merged model."),
        }[self._there]
        mark = f"{sign('!')} " if words else ""
        self.query_one("#merge-note", Static).update(Content.styled(f"\n{mark}{words}" if words else "", "$text-warning"))
        button = self.query_one("#yes", Button)
        button.disabled = self._there == "else"
        button.label = Content(_("Replace") if self._there == "merged" else _("Merge"))
        button.variant = "warning" if self._there == "merged" else "primary"
        if self.focused is None or self.focused is button:  # enter alone replaces nothing
            self.query_one({"": "#yes", "merged": "#no", "else": "#merge-to"}[self._there]).focus()

    @on(Input.Submitted, "#merge-to")
    def _entered(self) -> None:
        """Enter on a folder merges into it; where something would be replaced it only goes to the question."""
        if self._there == "merged":
            self.query_one("#no").focus()
        elif self._there == "":
            self._go()

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self._go()
        else:
            self.dismiss(None)

    def _go(self) -> None:
        folder = self._folder
        if folder is not None and folder == self._looked:  # else it was typed in this moment
            self.dismiss((folder, self._there == "merged"))


def _what_lies_in(folder: Path) -> str:
    from engine.merging import is_merged

    if not os.path.lexists(folder):
        return ""
    return "merged" if is_merged(folder) else "else"
