"""The line that leaves only some runs in the list."""

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui import keys
from tui.i18n import _
from tui.views_candidate import NAMES
from tui.words import status_word

if TYPE_CHECKING:
    from tui.run_rows import RunRow


class RunFilter(Input):
    """`lora stopped`: the runs with all of these words in name, state and method."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move(-1)", show=False),
        Binding("down", "screen.move(1)", show=False),
    ]

    def __init__(self) -> None:
        words = _("Words of name, state or method: {open} opens a run, {back} shows all").format(
            open=keys.name("open", "enter"), back=keys.name("back", "esc")
        )
        super().__init__(id="filter", placeholder=words, compact=True)
        self.display = False

    def takes(self, row: "RunRow") -> bool:
        """Whether that run is shown."""
        said = f"{row.run.name} {status_word(row.status)} {NAMES.get(row.method, '')}".casefold()
        return all(word in said for word in self.value.casefold().split())
