"""A text that is redrawn only when it changed."""

from textual.content import Content
from textual.widgets import Static


class Quiet(Static):
    """`show` compares first, and lays nothing out anew where the size is fixed: watching must not slow the training."""

    def __init__(self, *, id: str, classes: str = "", grows: bool = False) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id, classes=classes, markup=False)
        self._shown: Content | None = None
        self._grows = grows

    def show(self, content: Content) -> None:
        """Show `content`, if it is another one."""
        if self._shown is not None and content.plain == self._shown.plain and content.spans == self._shown.spans:
            return
        self._shown = content
        self.update(content, layout=self._grows)
