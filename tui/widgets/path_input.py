"""A one-line field for a path: suggestions while typing, tab completes as a shell does."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from engine.files import common_start
from engine.text import clean
from tui.background import in_thread
from tui.paths import completions

PLAIN = "[^\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]*"
"""What a field accepts: a pasted escape sequence would go to the terminal raw."""


class PathSuggester(Suggester):
    """The first entry of the folder that continues what was typed."""

    def __init__(self, *, files: bool) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._files = files

    async def get_suggestion(self, value: str) -> str | None:
        """The suggestion, from a thread: a folder may be on a slow disk."""
        if not value or value == "demo":
            return None
        found = await in_thread(completions, value, files=self._files)
        return found[0] if found and found[0] != value else None


class PathInput(Input):
    """Tab completes; with nothing to complete it goes to the next field."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", "Complete", show=False)]

    @dataclass
    class Alternatives(Message):
        """Several paths begin like this."""

        field: "PathInput"
        names: list[str]

        @property
        def control(self) -> "PathInput":
            """The field, for `@on`."""
            return self.field

    def __init__(self, value: str, *, placeholder: str, files: bool, id: str) -> None:  # noqa: A002 - Textual's own name
        safe = value if clean(value) == value else ""
        super().__init__(
            safe,
            placeholder=placeholder,
            restrict=PLAIN,
            max_length=4096,
            suggester=PathSuggester(files=files),
            select_on_focus=False,
            compact=True,
            id=id,
        )
        self._files = files

    async def action_complete(self) -> None:
        """Write what all continuations share, show them when there are several, else move on."""
        value = self.value
        found = await in_thread(completions, value, files=self._files) if value and value != "demo" else []
        if self.value != value:
            return
        longer = common_start(found)
        if len(longer) > len(value):
            self.value = longer
            self.cursor_position = len(longer)
        if len(found) > 1:
            cut = value.rpartition("/")[0]
            self.post_message(self.Alternatives(self, [n.removeprefix(cut).removeprefix("/") for n in found]))
        elif len(longer) <= len(value):
            self.screen.focus_next()

    @on(Input.Submitted)
    def _keep_cursor(self) -> None:
        self.cursor_position = len(self.value)
