"""The line on top of every screen."""

from rich.cells import cell_len
from textual.content import Content

from tui.widgets.quiet import Quiet


class Title(Quiet):
    """What this is on the left, the machine or the time left on the right.

    One text, padded here: two widgets would be laid out anew whenever the right one changes its width.
    """

    def __init__(self) -> None:
        super().__init__(id="title")
        self._sides = (Content(""), Content(""))

    def sides(self, left: Content, right: Content) -> None:
        """Change the line."""
        self._sides = (left, right)
        room = max(self.content_size.width - cell_len(right.plain), 0)
        if not room or cell_len(left.plain) + 1 > room:
            left = left.truncate(max(room - 1, 0), ellipsis=True)
        gap = " " * max(room - cell_len(left.plain), 0)
        self.show(Content.assemble(left, gap, right))

    def on_resize(self) -> None:
        """Pad for the new width."""
        self.sides(*self._sides)
