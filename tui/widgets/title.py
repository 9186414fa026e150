"""The line on top of every screen."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from engine.text import one_line
from tui.i18n import _
from tui.widgets.quiet import Quiet
from tui.words import size

if TYPE_CHECKING:
    from recommender.facts import Machine


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
        right = right.truncate(max(self.content_size.width, 0), ellipsis=True)
        room = max(self.content_size.width - cell_len(right.plain), 0)
        if not room or cell_len(left.plain) + 1 > room:
            left = left.truncate(max(room - 1, 0), ellipsis=True)
        gap = " " * max(room - cell_len(left.plain), 0)
        self.show(Content.assemble(left, gap, right))

    def on_resize(self) -> None:
        """Pad for the new width."""
        self.sides(*self._sides)


def machine_line(machine: "Machine") -> Content:
    """The machine in a few words: what would train, and how much memory is free."""
    free = machine.ram_available
    total = machine.ram_total
    name = "CPU"
    if machine.devices:
        best = max(machine.devices, key=lambda d: d.memory_free or 0)
        name, free, total = one_line(best.name or "GPU", 30), best.memory_free, best.memory_total
    parts = [name]
    if machine.cpu_cores:
        parts.append(_("{n} cores").format(n=machine.cpu_cores))
    if free is not None:
        words = _("{free} free of {total}") if total else _("{free} free")
        parts.append(words.format(free=size(free), total=size(total)))
    return Content(" · ".join(parts))
