"""Picking a file, by keyboard alone."""

import os
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.text import one_line
from tui import keys
from tui.background import in_thread
from tui.cells import padded
from tui.i18n import _
from tui.paths import MOST, Entry, entries
from tui.screens.dialog import Dialog
from tui.widgets.choices import Choices
from tui.words import number, sign, size


class Found(Option):
    """A line of the list, which knows what it stands for: by the time a choice is handled another folder may be listed."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(_label(entry))
        self.entry = entry


class FilesScreen(Dialog[Path | None]):
    """Folders and readable data files (or folders that hold a model); enter opens or picks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", _("Back"), id="back"),
        Binding("backspace,left", "up", _("Folder above"), id="folder-above"),
    ]

    def __init__(self, start: Path, *, folders: bool) -> None:
        super().__init__()
        self._folder = next((place for place in (start, *start.parents) if os.path.isdir(place)), Path())
        self._folders = folders

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(id="where", markup=False)
            yield Choices(id="files", compact=True)
            what = _("enter opens a folder or takes a file or set")
            if self._folders:
                what = _("enter opens a folder or takes the model in it")
            words = _("{up} folder above · {back} back")
            said = words.format(up=keys.name("folder-above", "backspace"), back=keys.name("back", "esc"))
            yield Static(Content.styled(f"\n{what}\n{said}", "dim"), markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self._load(self._folder)

    @work(exclusive=True, exit_on_error=False)
    async def _load(self, folder: Path) -> None:
        where = self.query_one("#where", Static)
        try:
            folder = await in_thread(folder.resolve)
            found = await in_thread(entries, folder, files=not self._folders)
        except OSError as error:
            where.update(Content.styled(f"{one_line(folder, 200)}: {error.strerror or _('cannot be read')}", "$text-error"))
            return
        left, self._folder = self._folder, folder
        # One line only, its end kept: a long path on two lines would push the keys below out of the dialog.
        shown, width = one_line(folder, 4_000), max(where.size.width, 20)
        many = "  " + _("the first {n}").format(n=number(MOST)) if len(found) >= MOST else ""
        width -= cell_len(many)
        if cell_len(shown) > width:
            shown = sign("…") + set_cell_size(shown[::-1], width - 1)[::-1]
        where.update(Content.assemble((shown, "bold"), (many, "$text-warning")))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_option(Option(Content("../")))
        options.add_options([Found(e) for e in found])
        came_from = next((n for n, e in enumerate(found, 1) if e.path == left), 1)
        options.highlighted = came_from if found else 0

    @on(OptionList.OptionSelected)
    async def _take(self, event: OptionList.OptionSelected) -> None:
        if not isinstance(event.option, Found):
            self.action_up()
            return
        entry = event.option.entry
        if entry.folder and not await in_thread(self._is_whole, entry.path):
            self._load(entry.path)
        else:
            self.dismiss(entry.path)

    def _is_whole(self, folder: Path) -> bool:
        """Whether the folder itself is meant: a model, or a set that `datasets` has saved."""
        marks = ("config.json",) if self._folders else ("dataset_info.json", "dataset_dict.json")
        return any(os.path.isfile(folder / mark) for mark in marks)  # of a closed folder it says no, where pathlib raises

    def action_up(self) -> None:
        """Open the folder above."""
        self._load(self._folder.parent)


def _label(entry: Entry) -> Content:
    if entry.folder:
        return Content.styled(f"{one_line(entry.name, 60)}/", "bold")
    return Content.assemble(padded(one_line(entry.name, 56), 58), (f"{size(entry.size):>9}", "dim"))
