"""A labelled input with the facts, or the one sentence that is wrong with it, right below."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from engine.text import one_line
from tui.widgets.path_input import PathInput
from tui.words import sign


class Field(Vertical):
    """Label, input, facts."""

    def __init__(self, label: str, value: str, *, placeholder: str, files: bool, name: str, hint: str) -> None:
        super().__init__(id=f"{name}-field")
        self._label, self._value, self._placeholder, self._hint = label, value, placeholder, hint
        self._files, self._key = files, name
        self._offered = ("", "")

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Static(self._label, classes="label", markup=False)
            yield PathInput(self._value, placeholder=self._placeholder, files=self._files, id=self._key)
        yield Static(Content.styled(self._hint, "dim"), classes="facts", markup=False)

    @property
    def value(self) -> str:
        """What was typed, without blanks around it."""
        return self.query_one(PathInput).value.strip()

    def fill(self, value: str) -> None:
        """Put a path in, as if typed."""
        field = self.query_one(PathInput)
        field.value = value
        field.cursor_position = len(value)

    def note(self, content: Content) -> None:
        """Show facts."""
        self.query_one(".facts", Static).update(content)

    def hint(self, text: str | None = None) -> None:
        """Show a quiet sentence; without one, what belongs here."""
        self.note(Content.styled(one_line(text, 300) if text is not None else self._hint, "dim"))

    def offer(self, words: str) -> None:
        """Show what the value could become, for as long as it is this one."""
        self._offered = (self.value, words)
        self.hint(words)

    @property
    def offered(self) -> str | None:
        """What was offered of the value as it is."""
        value, words = self._offered
        return words if words and value == self.value else None

    def wrong(self, sentence: object) -> None:
        """Show what is wrong."""
        self.note(Content.assemble((f"{sign('✗')} ", "bold $text-error"), (one_line(sentence, 500), "$text-error")))
