"""A question before something that is hard to undo."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from tui.i18n import _
from tui.screens.dialog import Dialog


class ConfirmScreen(Dialog[bool]):
    """Yes or back; going back is what enter does unless the other button was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(False)", _("Back"), id="back"),
        Binding("left,right,up,down", "app.focus_next", _("Choose"), id="answer-other", show=False),
    ]

    def __init__(self, question: Content, yes: str) -> None:
        super().__init__()
        self._question = question
        self._yes = yes

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", can_focus=False):
            yield Static(self._question, markup=False)
            with Horizontal(id="answers"):
                yield Button(_("Back"), id="no", compact=True)
                yield Button(Content(self._yes), id="yes", variant="warning", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
