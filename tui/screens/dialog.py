"""What all dialogs share: help."""

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui.i18n import _

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """A question or a list over the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", _("Help"), key_display="F1", id="help", show=False, tooltip=_("All keys that work here"))
    ]

    def action_help(self) -> None:
        """Show the keys."""
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))
