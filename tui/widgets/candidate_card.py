"""One of the three candidates, side by side with the others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events
from textual.message import Message
from textual.widgets import Static

from tui import views_candidate as views

if TYPE_CHECKING:
    from recommender.recommendation import Candidate, Memory

ROOMY = 34
ROOMY_LINES = 11
"""Cells of width and lines that allow the long form."""


class CandidateCard(Static):
    """Redrawn for its width; a click chooses it."""

    @dataclass
    class Chosen(Message):
        """The person pointed at this card."""

        method: str

    def __init__(self, method: str) -> None:
        super().__init__(id=f"card-{method}", markup=False)
        self._method = method
        self._shown: tuple[Candidate, str, int | None, bool, bool] | None = None
        self._counted: Memory | None = None
        """As it was counted last: what a person sets is counted while that stands there."""

    def show(
        self, candidate: "Candidate", heading: str, whole: int | None, *, counting: bool = False, trying: bool = False
    ) -> None:
        """Show this candidate, as `views_candidate.card` does."""
        self._shown = (candidate, heading, whole, counting, trying)
        self._counted = candidate.memory if candidate.memory.counted else self._counted
        self.on_resize()

    def on_resize(self) -> None:
        """Draw for the new width."""
        if self._shown is None:
            return
        width = max(self.content_size.width, 10)
        roomy = width >= ROOMY and self.content_size.height >= ROOMY_LINES
        candidate, heading, whole, counting, trying = self._shown
        before = self._counted
        self.update(views.card(candidate, heading, whole, width, roomy=roomy, counting=counting, trying=trying, before=before))

    def on_click(self, event: events.Click) -> None:
        """Choose this one."""
        event.stop()
        self.post_message(self.Chosen(self._method))
