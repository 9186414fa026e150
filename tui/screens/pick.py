"""One of a few things, to be picked."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import keys
from tui.i18n import _
from tui.screens.dialog import Dialog
from tui.widgets.choices import Choices


class PickScreen(Dialog[str | None]):
    """Answers with the name of what was picked."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", _("Back"), id="back")]

    def __init__(self, title: str, options: Sequence[tuple[str, Content]]) -> None:
        super().__init__()
        self._title, self._options = title, options

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(self._title, "bold"), markup=False)
            yield Choices(*(Option(words) for _name, words in self._options), id="picks", markup=False, compact=True)
            said = _("enter takes it · {back} goes back").format(back=keys.name("back", "esc"))
            yield Static(Content.styled(said, "dim"), markup=False)

    def on_mount(self) -> None:
        self.query_one("#picks").focus()

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._options[event.option_index][0])
