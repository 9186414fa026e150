"""What all screens share: the title line, back, help, and a net under the workers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static
from textual.worker import Worker, WorkerState

from engine.text import one_line
from tui.widgets.title import Title

if TYPE_CHECKING:
    from textual.binding import ActiveBinding
    from textual.notifications import SeverityLevel

    from tui.app import LoracleApp

SMALLEST = (80, 24)
"""Columns and rows that everything is made for."""


def own_bindings(screen: "Screen[Any]") -> "Iterator[ActiveBinding]":
    """What is bound on this screen by us; only our bindings have an id and a description."""
    for active in screen.active_bindings.values():
        if active.binding.id and active.binding.description and active.node in (screen, screen.app):
            yield active


class LoracleScreen(Screen[None]):
    """A screen with a title line and a footer; `body` gives what lies between."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="back", tooltip="Back to where you came from"),
        Binding("f1,question_mark", "help", "Help", key_display="F1", id="help", tooltip="All keys of this screen"),
    ]
    ABOUT: ClassVar[str] = ""
    """One or two sentences for the help."""

    @property
    def loracle(self) -> "LoracleApp":
        """The app, by its own type."""
        return cast("LoracleApp", self.app)

    def compose(self) -> ComposeResult:
        yield Title()
        yield Static(id="too-small", markup=False)
        yield from self.body()
        yield Footer()

    def body(self) -> ComposeResult:
        """The widgets between title and footer."""
        yield from ()

    def headline(self, left: Content, right: Content | None = None) -> None:
        """Change the title line; the right side shows the machine if nothing else is given."""
        self.query_one(Title).sides(left, right if right is not None else self.loracle.machine_line)

    def on_resize(self, event: events.Resize) -> None:
        """Say so when there is too little room; everything stays reachable by scrolling."""
        width, height = event.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        line = self.query_one("#too-small", Static)
        line.display = small
        if small:
            line.update(Content(f"This terminal is {width}x{height}; Loracle is made for {SMALLEST[0]}x{SMALLEST[1]}."))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A mistake of ours in a worker is said, and ends nothing."""
        if event.state is WorkerState.ERROR:
            self.say(f"Something went wrong: {event.worker.error}", "error")

    def say(self, text: object, severity: "SeverityLevel" = "information") -> None:
        """A note in the corner; foreign text is safe here."""
        self.notify(one_line(text, 400), severity=severity, markup=False, timeout=8)

    def action_back(self) -> None:
        """Leave this screen."""
        self.loracle.back()

    def action_help(self) -> None:
        """Show the keys."""
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))
