"""What all dialogs share: help, and a way back for the mouse."""

from typing import ClassVar, TypeVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui.background import TellsMistakes
from tui.i18n import _

Answer = TypeVar("Answer")
FEW_ROWS = 20


class Dialog(TellsMistakes, ModalScreen[Answer]):
    """A question or a list over the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "app.help", _("Help"), key_display="F1", id="help", show=False, tooltip=_("All keys that work here"))
    ]

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Once: Textual takes the uppermost screen, so a second enter that was on its way would take the one below with it."""
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()

    def on_resize(self, event: events.Resize) -> None:
        """In few rows a list gets by with fewer, so that what is marked stays in sight."""
        self.set_class(event.size.height < FEW_ROWS, "-few-rows")

    async def on_click(self, event: events.Click) -> None:
        """Beside the dialog goes back, as the key does."""
        back = next((a.binding.action for a in self.active_bindings.values() if a.binding.id == "back"), None)
        beside = not self.query_one("#dialog").region.contains_point(event.screen_offset)
        if beside and back is not None:
            await self.run_action(back)
