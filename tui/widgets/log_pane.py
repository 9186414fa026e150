"""The log in its frame, with a line to search it."""

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from tui import keys
from tui.i18n import _, plural
from tui.run_log import LogLine
from tui.widgets.log_view import LogView
from tui.widgets.pane import Pane

SEARCH = _("Search the log: enter finds, {earlier} and {later} go on, {close} closes").format(
    earlier=keys.name("log-earlier", "n"), later=keys.name("log-later", "N"), close=keys.name("close-search", "esc")
)


class LogPane(Pane):
    """What happened, newest last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", _("Search"), key_display="/", id="search", show=False, tooltip=_("Search the log")),
        Binding("f", "follow", _("Follow"), id="follow", show=False, tooltip=_("Go to the end of the log and follow it")),
        Binding("escape", "close_search", _("Close search"), id="close-search"),
    ]

    def __init__(self, number: int, title: Content, *, id: str) -> None:  # noqa: A002 - Textual's own name
        super().__init__(number, title, id=id)
        self.can_focus = False
        self.view = LogView(id=f"{id}-view")
        self._input = Input(id=f"{id}-search", placeholder=SEARCH, compact=True, classes="search")

    def compose(self) -> ComposeResult:
        yield self.view
        yield self._input

    def on_mount(self) -> None:
        super().on_mount()
        self._input.display = False

    def append(self, lines: Iterable[LogLine]) -> None:
        """Add lines to the end."""
        self.view.append(lines)

    def replace(self, lines: Iterable[LogLine]) -> None:
        """Show these instead."""
        self.view.replace(lines)

    def copied(self) -> tuple[str, str]:
        """The whole log."""
        return _("the log"), self.view.text

    def action_search(self) -> None:
        """Open the line to type into."""
        self._input.display = True
        self._input.focus()

    def action_follow(self) -> None:
        """Follow the end again."""
        self._close()
        self.view.action_to_end()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc closes the search only where there is one."""
        return action != "close_search" or self._input.display

    def action_close_search(self) -> None:
        """Close the search."""
        self._close()

    def _close(self) -> None:
        self.view.search("")
        self._input.display = False
        self._input.value = ""
        self.say_below()
        self.view.focus()

    @on(Input.Submitted)
    def _find(self, event: Input.Submitted) -> None:
        event.stop()
        needle = event.value.strip()
        found = self.view.search(needle)
        self.say_below(plural("{n} match", "{n} matches", found).format(n=found) if needle else "")
        if found:
            self.view.focus()
