"""One of the three candidates, side by side with the others."""

from typing import TYPE_CHECKING

from textual import events
from textual.message import Message
from textual.widgets import Static

from tui import views_advice as views

if TYPE_CHECKING:
    from recommender.recommendation import Candidate

ROOMY = 34
"""Cells of width and more that allow the long form."""


class CandidateCard(Static):
    """Redrawn for its width; a click chooses it."""

    class Chosen(Message):
        """The person pointed at this card."""

        def __init__(self, method: str) -> None:
            super().__init__()
            self.method = method

    def __init__(self, candidate: "Candidate", index: int, *, starred: bool, whole: int | None) -> None:
        super().__init__(id=f"card-{candidate.method}", markup=False)
        self._candidate, self._index, self._starred, self._whole = candidate, index, starred, whole

    def on_resize(self) -> None:
        """Draw for the new width."""
        width = max(self.content_size.width, 10)
        roomy = width >= ROOMY and self.content_size.height >= 10
        self.update(views.card(self._candidate, self._index, self._starred, self._whole, width, roomy=roomy))

    def on_click(self, event: events.Click) -> None:
        """Choose this one."""
        event.stop()
        self.post_message(self.Chosen(self._candidate.method))
