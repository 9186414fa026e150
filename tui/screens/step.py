"""One step of set-up."""

from typing import Any, ClassVar

from textual.containers import Vertical
from textual.message import Message

from tui.background import TellsMistakes

PAUSE = 0.35
"""Seconds without a key before what is typed is looked at."""


class Step(TellsMistakes, Vertical):
    """What one says in it goes into the draft."""

    TITLE: ClassVar[str] = ""

    looking = False
    """Whether something is being looked at, so that more will be said soon."""
    refused = False
    """Whether what is said here was looked at and cannot be used; the step says why."""

    class Said(Message):
        """Something was said or found out here."""

    class Done(Message):
        """On to the next step."""

    def said(self) -> dict[str, Any]:
        """Fields of the draft, as they stand here."""
        return {}

    @property
    def ready(self) -> bool:
        """Whether nothing is missing here."""
        return True

    def enter(self) -> None:
        """The step is shown: put the cursor where one begins."""
