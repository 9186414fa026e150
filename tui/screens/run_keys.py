"""The keys of the run screen that change how it is looked at."""

from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content

from tui import keys
from tui.background import in_thread
from tui.i18n import _
from tui.run_log import LogLine, printed
from tui.screens.panes import PanesScreen
from tui.watching import Watched
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import SMOOTHING, LossChart
from tui.widgets.pane import Pane, clicked
from tui.widgets.raster import Symbols
from tui.widgets.scales import AXES, after
from tui.words import LIVE, sign, unicode_terminal

WORKER_LOG_LINES = 2_000
TITLE_CELLS = 6
"""Of a frame, that its title cannot have: corners, blanks, and the pane's number."""
NO_WORDS = _("worker.log is empty: the worker may have been killed, for instance for using too much memory")


def log_title(*, of_worker: bool = False) -> Content:
    """What the frame of the log says: what is shown, and its keys."""
    said = {"search": keys.name("search", "/"), "follow": keys.name("follow", "f"), "worker": keys.name("worker-log", "w")}
    words = _("worker.log   {worker} events   {search} search") if of_worker else None
    parts = (words or _("log   {search} search   {follow} follow   {worker} worker.log")).format(**said).split("   ")
    actions = ("worker_log", "log('search')") if of_worker else ("log('search')", "log('follow')", "worker_log")
    return Content("   ").join([Content(parts[0]), *(clicked(*pair) for pair in zip(parts[1:], actions, strict=True))])


class ChartKeys(PanesScreen):
    """How a chart is drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "smooth", _("Smoothing"), id="smooth", show=False, tooltip=_("How smoothly the loss curve is drawn")),
        Binding("l", "log_scale", _("Log scale"), id="log-scale", show=False, tooltip=_("The loss on a logarithmic scale")),
        Binding("a", "axis", _("Axis"), id="axis", show=False, tooltip=_("The curve over steps, tokens or time")),
        Binding("greater_than_sign", "zoom(2)", _("Zoom in"), key_display=">", id="zoom-in", show=False,
                tooltip=_("Look closer at the end of the curve")),
        Binding("less_than_sign", "zoom(0.5)", _("Zoom out"), key_display="<", id="zoom-out", show=False,
                tooltip=_("See more of the curve")),
        Binding("left_square_bracket", "pan(-0.5)", _("Earlier"), key_display="[", id="pan-left", show=False,
                tooltip=_("Move a zoomed curve to earlier steps")),
        Binding("right_square_bracket", "pan(0.5)", _("Later"), key_display="]", id="pan-right", show=False,
                tooltip=_("Move a zoomed curve to later steps")),
        Binding("b", "symbols", _("Characters"), id="symbols", show=False,
                tooltip=_("Draw the curve with braille dots, blocks or ASCII")),
    ]  # fmt: skip

    @property
    def _chart(self) -> LossChart:
        return self.query_one(LossChart)

    def chart_title(self) -> None:
        """What the frame of the chart says: the lines, and the choices with their keys."""
        chart, smooth, scale = self._chart, keys.name("smooth", "s"), keys.name("log-scale", "l")
        parts = [Content(f"{_('loss')} {sign('─')} {_('train')} {sign('●')} {_('eval')}")]
        choices = [
            ("smooth", f"{smooth} {chart.smoothing:g}" if chart.smoothing else _("{key} raw").format(key=smooth)),
            ("log_scale", f"{scale} log" if chart.log_scale else f"{scale} lin"),
            ("axis", f"{keys.name('axis', 'a')} {_(chart.axis)}"),
        ]
        if chart.zoom > 1:
            choices.append(("zoom(0.5)", f"{keys.name('zoom-out', '<')}{keys.name('zoom-in', '>')} {chart.zoom}x"))
        parts += [clicked(words, action) for action, words in choices]
        gap = "  " if self.app.size.width >= 110 else " "
        pane = self.query_one("#loss", Pane)
        while len(parts) > 1 and pane.size.width and Content(gap).join(parts).cell_length > pane.size.width - TITLE_CELLS:
            parts.pop()  # the help has all of them
        pane.title_words(Content(gap).join(parts))

    @on(LossChart.Pointed)
    def _pointed(self, event: LossChart.Pointed) -> None:
        self.query_one("#loss", Pane).say_below(event.words)

    def action_smooth(self) -> None:
        """The next smoothing."""
        self._chart.choose(smoothing=SMOOTHING[after(SMOOTHING, self._chart.smoothing)])
        self.chart_title()

    def action_log_scale(self) -> None:
        """Logarithmic or not."""
        self._chart.choose(log=not self._chart.log_scale)
        self.chart_title()

    def action_axis(self) -> None:
        """The next axis."""
        self._chart.choose(axis=AXES[after(AXES, self._chart.axis)])
        self.chart_title()

    def action_zoom(self, factor: float) -> None:
        """Nearer or farther."""
        self._chart.zoom_by(factor)
        self.chart_title()

    def action_pan(self, share: float) -> None:
        """Along a zoomed curve."""
        if self._chart.zoom == 1:
            self.say(_("The whole curve is in view; {zoom} zooms in first.").format(zoom=keys.name("zoom-in", ">")))
        self._chart.pan(share)

    def action_symbols(self) -> None:
        """The next kind of characters that this terminal has."""
        kinds: tuple[Symbols, ...] = ("braille", "block", "ascii")
        chart = self._chart
        if unicode_terminal():
            chart.symbols = kinds[after(kinds, chart.symbols)]
            chart.choose()
        self.say(_("The curve is drawn with: {kind}").format(kind=_(chart.symbols)))


class RunKeys(ChartKeys):
    """Freezing the view, and what the log shows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "freeze", _("Freeze"), id="freeze", show=False, tooltip=_("Freeze the screen; the run goes on")),
        Binding("w", "worker_log", "worker.log", id="worker-log", show=False,
                tooltip=_("What the worker and its libraries printed, instead of the events")),
    ]  # fmt: skip
    _following: Watched | None = None
    frozen = False
    _shows_worker_log = False

    def _draw(self) -> None:
        raise NotImplementedError

    async def action_log(self, what: str) -> None:
        """An action of the log, from its frame."""
        await self.query_one(LogPane).run_action(what)

    def action_freeze(self) -> None:
        """Hold still, or go on."""
        self.frozen = not self.frozen
        self._draw()

    @work(exclusive=True, group="worker-log", exit_on_error=False)
    async def action_worker_log(self) -> None:
        """Events, or what was printed."""
        if self._following is None:
            return
        pane = self.query_one(LogPane)
        self._shows_worker_log = not self._shows_worker_log
        if self._shows_worker_log:
            words = await in_thread(self._following.run.last_words, WORKER_LOG_LINES)
            nothing = _("worker.log is empty: nothing was printed so far") if self._following.state.status in LIVE else NO_WORDS
            pane.replace(printed(words) or [LogLine("", nothing, "muted")])
            pane.title_words(log_title(of_worker=True))
        else:
            pane.replace(self._following.log.lines)
            pane.title_words(log_title())
        self.action_pane(pane.number)
