"""Lists to choose from."""

from contextlib import suppress
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import OptionList


class Options(OptionList):
    """As Textual has it, but a page up before the list has its size and a click on what is listed no more do not end the app."""

    def on_click(self, event: events.Click) -> None:
        """What was clicked may have gone in this moment. (Textual calls the handlers of all classes.)"""
        line = event.style.meta.get("option")
        if line is not None and line >= self.option_count:
            event.prevent_default()

    def action_page_up(self) -> None:
        """A page up."""
        with suppress(KeyError):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """A page down."""
        with suppress(KeyError):
            super().action_page_down()  # type: ignore[no-untyped-call]


class Choices(Options):
    """For lists without a field to type into beside them: j and k move as the arrows do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("j", "cursor_down", show=False), Binding("k", "cursor_up", show=False)]
