"""The list of runs as the cells of a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.color import Color

from engine.text import one_line
from tui import judged
from tui.cells import fitted, fitted_name
from tui.i18n import _
from tui.views_candidate import NAMES
from tui.words import LIVE, metric, seconds_ago, sign, status_with_sign

if TYPE_CHECKING:
    from tui.run_rows import RunRow

SHORT = {"accuracy": _("acc")}
FEWEST_CELLS = 12
"""Of a run's name, however little room the other columns leave."""
COLUMNS = (_("run"), _("state"), _("method"), _("best"), _("started"))
AROUND = 2 * len(COLUMNS) + 4
"""Cells beside the columns' texts: a blank on both sides of each, the mark in front of the name, the scroll bar."""
COLOURS = {"done": "text-success", "failed": "text-error", "refused": "text-error", "dead": "text-error"}
"""Of states that are over, beside their signs."""


def room_for_names(rows: "Sequence[RunRow]", width: int) -> int:
    """What the other columns leave of `width` cells, so that nothing has to be scrolled sideways."""
    table = [COLUMNS[1:], *map(_told, rows)]
    taken = sum(max(map(cell_len, column)) for column in zip(*table, strict=True))
    return max(width - taken - AROUND, FEWEST_CELLS)


def cells(row: "RunRow", room: int, colours: Mapping[str, str], *, whole: bool, marked: bool) -> list[Text]:
    """One run, its name in `room` cells and `whole` where there are many; `colours` are those of the theme by their names."""
    name = fitted(one_line(row.run.name), room) if whole else fitted_name(row.run.name, room)
    state, *others = _told(row)
    return [Text(f"{sign('●')} {name}" if marked else f"  {name}"), Text(state, _style(row.status, colours)), *map(Text, others)]


def _style(status: str, colours: Mapping[str, str]) -> Style:
    """A table takes Rich's styles, which know nothing of themes."""
    name = "text-accent" if status in LIVE else COLOURS.get(status)
    return Style(color=Color.parse(colours[name]).rich_color) if name else Style()


def _told(row: "RunRow") -> tuple[str, ...]:
    """All cells but the name."""
    if not row.status:
        return sign("…"), "", "", seconds_ago(row.started)
    name = SHORT.get(row.metric, judged.words(row.metric))
    score = f"{name} {'' if row.held_out else '~'}{metric(row.score)}" if row.score is not None else metric(None)
    method = NAMES.get(row.method, _("unreadable"))
    return tuple(map(one_line, (status_with_sign(row.status), method, score, seconds_ago(row.started))))
