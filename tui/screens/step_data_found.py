"""What was found in the rows of set-up, with the keys that put it right."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from tui.i18n import _
from tui.screens.step import Step


class Found(VerticalScroll):
    """What was found; its keys put things right, so they work while it has the focus."""

    HELP = _("What the rows are read as and what is odd about them; the keys here change how they are read.")

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "done", _("Next"), id="data-next", tooltip=_("On to the next step")),
        Binding("t", "fix('task')", _("Task"), id="task", tooltip=_("Read the rows as another task")),
        Binding("c", "fix('column')", _("Columns"), id="columns", tooltip=_("Use other columns")),
        Binding("x", "fix('conflicts')", _("Conflicts"), id="conflicts", tooltip=_("Leave out rows that contradict others")),
        Binding("l", "fix('length')", _("Longer"), id="longer", tooltip=_("Read rows to their end, as far as the model reads")),
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
    ]

    can_read_longer = False
    can_drop_conflicts = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What would put nothing right is not offered: reading longer where no row is cut, for instance."""
        offered = {"length": self.can_read_longer, "conflicts": self.can_drop_conflicts}
        return action != "fix" or offered.get(str(parameters[0]), True)

    @dataclass
    class Fix(Message):
        """Something is to be put right."""

        what: str

    def compose(self) -> ComposeResult:
        yield Static(id="found-lines", markup=False)
        yield Static(id="rows", markup=False)

    def action_done(self) -> None:
        """On to the next step."""
        self.post_message(Step.Done())

    def action_fix(self, what: str) -> None:
        """Put it right."""
        self.post_message(self.Fix(what))
