"""The line on top of every screen."""

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static


class Title(Horizontal):
    """What this is on the left, the machine or the time left on the right."""

    def compose(self) -> ComposeResult:
        yield from self._parts()

    def _parts(self) -> Iterator[Widget]:
        yield Static(id="title-left", markup=False)
        yield Static(id="title-right", markup=False)

    def left(self, content: Content) -> None:
        """Change the left side."""
        self.query_one("#title-left", Static).update(content)

    def right(self, content: Content) -> None:
        """Change the right side."""
        self.query_one("#title-right", Static).update(content)
