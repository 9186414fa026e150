"""The steps of set-up on one line: what is done, where one is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui.words import sign


class StepBar(Static):
    """A click goes to a step."""

    @dataclass
    class Pressed(Message):
        """A step was clicked, counted from 0."""

        index: int

    def __init__(self) -> None:
        super().__init__(id="step-bar", markup=False)
        self._ends: list[int] = []

    def show(self, steps: Mapping[str, bool], now: str, refused: Collection[str] = ()) -> None:
        """Steps with whether they are done, the one that is shown, and those whose answer cannot be used."""
        parts, self._ends, width = [], [], 0
        for number, (title, done) in enumerate(steps.items(), 1):
            mark, style = (sign("✓"), "$text-success") if done else (sign("○"), "$text-muted")
            if title in refused:
                mark, style = sign("✗"), "$text-error"
            if title == now:
                mark, style = sign("●"), "bold $text-accent"
            part = Content.assemble((f" {mark} {number} {title} ", style), " ")
            width += part.cell_length
            parts.append(part)
            self._ends.append(width)
        self.update(Content.assemble(*parts))

    def on_click(self, event: events.Click) -> None:
        """Go to the step under the mouse."""
        index = next((i for i, end in enumerate(self._ends) if event.x < end), None)
        if index is not None:
            self.post_message(self.Pressed(index))
