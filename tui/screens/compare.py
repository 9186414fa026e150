"""Two to four runs over one another: curves, what differs in their settings, results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.text import one_line
from tui import comparing, keys
from tui import views_compare as views
from tui.background import in_thread
from tui.cells import fitted, padded
from tui.i18n import _
from tui.screens.base import LoracleScreen
from tui.screens.run_keys import ChartKeys
from tui.views_candidate import NAMES
from tui.views_run import evaluation_losses, last_step_of
from tui.widgets.choices import Options
from tui.widgets.loss_chart import Line, LossChart
from tui.widgets.pane import Pane, TextPane
from tui.words import LIVE, sign, status_with_sign

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from tui.run_rows import RunRow

BESIDE_NAMES = 28
"""Cells of the mark, state and method of a run to choose, with the scroll bar."""
WIDEST_NAMES, FEWEST_CELLS = 72, 12
AGAIN_SECONDS = 5.0
"""How often runs that are still going on are read again."""


class CompareScreen(ChartKeys):
    """Reads the runs; those that go on are followed."""

    ABOUT = _("Intervals are 95% paired bootstrap over the same held-out rows; only settings that differ are listed.")
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, runs: "Sequence[RunDirectory]") -> None:
        super().__init__()
        self._runs = list(runs)[: comparing.MOST]
        self._made: comparing.Comparison | None = None

    def body(self) -> ComposeResult:
        with Container(id="compare"):
            yield Pane(1, _("loss"), LossChart(id="chart"), id="loss")
            yield TextPane(2, _("runs"), id="legend-of")
            yield TextPane(3, _("results"), id="results").add_class("lower", "-shown")
            yield TextPane(4, _("settings that differ"), id="differing").add_class("lower")

    def on_mount(self) -> None:
        head = Content.styled(_("comparing {n} runs").format(n=len(self._runs)), "bold")
        self.headline(head, Content(_("reading…")))
        self.chart_title()
        self.query_one("#results").focus()
        self._load()
        self.set_interval(AGAIN_SECONDS, self._again)

    def _again(self) -> None:
        going_on = self._made is not None and any(c.state.status in LIVE for c in self._made.runs)
        if going_on and self.app.screen is self:
            self._load()

    @work(exclusive=True, group="compare", exit_on_error=False)
    async def _load(self) -> None:
        made: comparing.Comparison = await in_thread(comparing.compare, self._runs)
        self._made = made
        self._show(made)

    def on_resize(self, event: events.Resize) -> None:
        """Tables are made for the width there is."""
        self.call_after_refresh(self.chart_title)
        if self._made is not None:
            self._show(self._made)

    def _show(self, made: comparing.Comparison) -> None:
        self.headline(Content.styled(_("comparing {n} runs").format(n=len(made.runs)), "bold"), Content(""))
        lines = [Line(c.state.losses, evaluation_losses(c.state), c.letter, last=last_step_of(c.state)) for c in made.runs]
        self.query_one(LossChart).show(*lines)
        legend = self.query_one("#legend-of", TextPane)
        legend.show(views.legend(made, legend.scrollable_content_region.width))
        width = self.size.width - 6
        self.query_one("#results", TextPane).show(views.results(made, width))
        self.query_one("#differing", TextPane).show(views.settings(made, width))


class ChooseRuns(LoracleScreen):
    """Which runs to compare one with."""

    ABOUT = _("{mark} marks up to three runs, {go} compares them with the first one.").format(
        mark=keys.name("mark", "space"), go=keys.name("compare-go", "enter")
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", _("Mark"), id="mark", tooltip=_("Choose the run under the cursor, or not")),
        Binding("enter", "go", _("Compare"), id="compare-go", priority=True, tooltip=_("Compare the marked runs")),
    ]

    def __init__(self, first: "RunDirectory") -> None:
        super().__init__()
        self._first = first
        self._rows: list[RunRow] = []
        self._marked: list[int] = []

    def body(self) -> ComposeResult:
        yield Options(id="others", markup=False)

    def on_mount(self) -> None:
        head = _("compare {name} with …").format(name=one_line(self._first.name, 60))
        self.headline(Content.styled(head, "bold"), Content(""))
        self.query_one(OptionList).focus()
        self._load()

    @work(exclusive=True, group="choose", exit_on_error=False)
    async def _load(self) -> None:
        rows = await in_thread(self.loracle.run_list.rows, self.loracle.runs)
        self._rows = [row for row in rows if row.run.path != self._first.path]
        options = self.query_one(OptionList)
        options.add_options([Option(self._words(i)) for i in range(len(self._rows))])
        if self._rows:
            options.highlighted = 0
        else:
            words = _("There is no other run yet; {back} goes back.").format(back=keys.name("back", "esc"))
            options.add_option(Option(Content.styled(words, "$text-muted"), disabled=True))

    def _words(self, index: int) -> Content:
        row = self._rows[index]
        mark = sign("●") if index in self._marked else sign("○")
        method = NAMES.get(row.method, _("unreadable"))
        longest = max(cell_len(one_line(r.run.name)) for r in self._rows)
        room = min(max(self.size.width - BESIDE_NAMES, FEWEST_CELLS), WIDEST_NAMES, longest)
        name = padded(fitted(one_line(row.run.name), room), room)
        return Content(f"{mark} {name} {padded(status_with_sign(row.status), 12)} {method}")

    @on(OptionList.OptionSelected)
    def action_mark(self) -> None:
        """Mark, or take the mark away; a click does so too, and enter goes on."""
        options = self.query_one(OptionList)
        at = options.highlighted
        if at is None or not self._rows:
            return
        if at in self._marked:
            self._marked.remove(at)
        elif len(self._marked) < comparing.MOST - 1:
            self._marked.append(at)
        else:
            self.say(_("Four runs at most."), "warning")
        options.replace_option_prompt_at_index(at, self._words(at))

    def action_go(self) -> None:
        """Compare."""
        at = self.query_one(OptionList).highlighted
        chosen = self._marked or ([at] if at is not None and self._rows else [])
        if chosen:
            self.app.switch_screen(CompareScreen([self._first, *(self._rows[i].run for i in chosen)]))
