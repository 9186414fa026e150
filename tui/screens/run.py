"""A run, live: follows the event log, asks its worker to stop and to go on, notices a dead one."""

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content

from engine.text import one_line
from recommender.errors import LoracleError
from tui import keys
from tui import views_run as views
from tui import work as engine_side
from tui.background import in_thread
from tui.endings import leaves_at_once
from tui.error_words import in_words
from tui.i18n import _
from tui.live_advice import advice
from tui.run_log import LogLine, printed
from tui.screens.run_keys import NO_WORDS, log_title
from tui.screens.run_panes import RunPanes
from tui.watching import Live, Watched
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import Line, LossChart
from tui.widgets.pane import Pane, TextPane
from tui.widgets.quiet import Quiet
from tui.words import LIVE, sign

if TYPE_CHECKING:
    from engine.rundir import RunDirectory

POLL_SECONDS = 0.25
DRAW_SECONDS, SLOWEST_SECONDS = 1.0, 4.0
"""Numbers that change all the time are drawn at this pace: drawing costs ten times what reading the log costs."""
OWN_SHARE = 0.006
"""Of one core, that the app may take while it watches: training threads wait for each other, so what one of them loses all
lose. On a slow machine it draws less often, down to `SLOWEST_SECONDS`."""
SETTLE_SECONDS = 2.0
"""How often the worker is looked for."""
PATIENCE = 30.0
"""Seconds a resumed worker may take to say its first word before it counts as dead."""
CHART_HELP = _("The mouse wheel zooms; the point under the mouse is shown in numbers.")


class RunScreen(RunPanes):
    """Only reads the run directory; the run goes on whether this is looked at or not."""

    ABOUT = _("The run is a separate process: leaving, or losing the connection, does not stop it.")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", _("Stop and save"), id="stop",
                tooltip=_("Finish this step, save a checkpoint, stop; it can be resumed")),
        Binding("X", "stop_now", _("Stop now"), id="stop-now", show=False, tooltip=_("Stop at once, unsaved (asks first)")),
        Binding("r", "resume", _("Resume"), id="resume", tooltip=_("Go on from the newest checkpoint, once stopped")),
        Binding("d", "detach", _("Detach"), id="detach", tooltip=_("Quit the app; the run goes on")),
        Binding("enter", "result", _("Result"), id="result", tooltip=_("The result, once the run is done")),
        Binding("e", "again", _("Again"), id="again-changed", tooltip=_("The plan of this run, to change and run again")),
        Binding("p", "replay", _("Replay"), id="replay", show=False, tooltip=_("Watch the run once more, at any speed")),
    ]  # fmt: skip

    def __init__(self, run: "RunDirectory", *, resume: bool = False) -> None:
        super().__init__()
        self.run_directory = run
        self._resume_first = resume
        self._settled = self._drawn = self._spent = self._quiet_until = 0.0
        self._was_live = False
        self._ended_shown: str | None = None

    def body(self) -> ComposeResult:
        yield Quiet(id="progress")
        yield Quiet(id="phases")
        with Container(id="panes"):
            yield Pane(1, _("loss"), LossChart(id="chart"), id="loss", help=CHART_HELP)
            yield Pane(2, _("now"), Quiet(id="metrics", grows=True), Quiet(id="last"), id="now")
            yield TextPane(3, _("machine"), id="machine", help=_("█ used now, ▒ up to the peak, | as predicted."))
            yield TextPane(5, f"{_('evaluations')}   {sign('●')} {_('best')}", id="evaluations").add_class("lower")
            yield TextPane(6, _("samples"), id="samples").add_class("lower")
            yield TextPane(7, _("advice"), id="advice").add_class("lower")
            yield LogPane(4, log_title(), id="log").add_class("lower", "-shown")
        yield Quiet(id="hint", grows=True)

    def on_mount(self) -> None:
        if not self.query(LossChart):  # the app is being left, and mounts nothing any more
            return
        self.headline(Content.styled(one_line(self.run_directory.name, 60), "bold"), Content(_("reading its log…")))
        self.chart_title()
        self.query_one(LogPane).view.focus()
        self._read_so_far()

    @property
    def live_run(self) -> "RunDirectory | None":
        """The run, if it is going on."""
        live = self._following is not None and self._following.state.status in LIVE
        return self.run_directory if live else None

    def watched(self) -> Watched:
        """What is looked at; reads, so it is called in a thread."""
        return Live(self.run_directory)

    @work(exclusive=True, group="follow", exit_on_error=False)
    async def _read_so_far(self) -> None:
        """Read what was written so far in a thread: a long log takes a moment."""
        following: Watched = await in_thread(self.watched)
        self._following = following
        self._line = Line(following.state.losses)
        self._settled = time.monotonic()
        self._was_live = following.state.status in LIVE
        self.query_one(LogPane).replace(following.log.lines)
        self._draw()
        self.set_interval(POLL_SECONDS, self._poll)
        if self._resume_first:
            self.action_resume()

    def _poll(self) -> None:
        following = self._following
        if following is None:
            return
        lines = following.poll()
        now = time.monotonic()
        if lines:
            self._quiet_until = 0.0
            self._log(lines)
        if now - self._settled >= SETTLE_SECONDS and now >= self._quiet_until:
            self._settled = now
            following.settle()
        due = self._time_to_draw(now - self._drawn) or following.state.status != self._ended_shown
        if due and self.app.screen is self and not self.frozen:
            self._drawn, self._spent = now, time.process_time()
            self._draw()
        self._follow_to_result()

    def _log(self, lines: list[LogLine]) -> None:
        if not self._shows_worker_log and not self.frozen:
            self.query_one(LogPane).append(lines)

    def _time_to_draw(self, waited: float) -> bool:
        """Whether the app's own work since the last drawing, that drawing included, has become a small share of the time."""
        spent = time.process_time() - self._spent
        return waited >= SLOWEST_SECONDS or (waited >= DRAW_SECONDS and spent <= OWN_SHARE * waited)

    def _follow_to_result(self) -> None:
        """A run that ends while it is watched leads to its result."""
        assert self._following is not None
        live = self._following.state.status in LIVE
        done = self._was_live and self._following.state.status == "done"
        if done and self.app.screen is self and self.run_directory.report_file.exists():
            self.loracle.open_run(self.run_directory, result=True)
        self._was_live = self._was_live or live

    def on_resize(self, event: events.Resize) -> None:
        """Bars are as wide as there is room."""
        self.call_after_refresh(self.chart_title)
        self.call_after_refresh(self.appeared)

    def appeared(self) -> None:
        """Other panes are in sight."""
        if self._following is not None:
            self._draw()

    def arranged(self) -> None:
        """Bars and samples are as wide as their panes."""
        if self._following is not None:
            self._draw_to_size()

    def _draw(self) -> None:
        following = self._following
        if following is None or self._line is None:
            return
        state, now = following.state, following.now()
        if self._line.series is not state.losses:  # a playback went back to its begin
            self._line = Line(state.losses)
        self._line.evaluations, self._line.last = views.evaluation_losses(state), views.last_step_of(state)
        metric = self._metric
        roomy = self.has_class("-tall")
        left = views.headline(self.run_directory.name, state, roomy=self.has_class("-wide"))
        self.headline(left, self._right(now))
        width = max(self.size.width - 2, 20)
        self.query_one("#progress", Quiet).show(views.progress(state, width))
        if roomy:
            self.query_one("#phases", Quiet).show(views.phases(state, width))
        self.query_one("#now", Pane).title_words(_("now") if state.status in LIVE else _("at the end"))
        self.query_one("#metrics", Quiet).show(views.metrics(state, metric, roomy=roomy))
        self.query_one("#last", Quiet).show(views.last_step(state, now))
        told = advice(state, following.plan, now)
        self._draw_panes(told)
        self.draw_hint(told[0].text if told[0].text.startswith("!") else "")
        self._say_the_end()

    def _say_the_end(self) -> None:
        """The last words of a worker that died or failed, once; and news for whoever looks elsewhere."""
        assert self._following is not None
        status = self._following.state.status
        if status == self._ended_shown:
            return
        before, self._ended_shown = self._ended_shown, status
        self.refresh_bindings()
        if status in LIVE:
            return
        self._stopping = ""
        if before in LIVE:
            self.loracle.tell_elsewhere(self.run_directory, status)
        if status == "dead" or (status == "failed" and not (self._following.state.end or {}).get("cure")):
            self._show_last_words()  # what is known needs no traceback

    @work(group="words", exit_on_error=False)
    async def _show_last_words(self) -> None:
        words = await in_thread(self.run_directory.last_words)
        head = LogLine("", _("the end of worker.log:") if words.strip() else NO_WORDS, "error")
        self._log([head, *(line._replace(style="error") for line in printed(words))])

    def action_stop(self) -> None:
        """Ask for a stop with a checkpoint."""
        self._stop(now=False)

    def action_stop_now(self) -> None:
        """Ask the person, then the worker."""
        words = _("Stop at once? Steps since the last checkpoint are lost. {stop} stops after this step and saves.")
        question = Content(words.format(stop=keys.name("stop", "x")))
        self.ask(question, _("Stop now"), partial(self._stop, now=True))

    @work(group="stop", exit_on_error=False)
    async def _stop(self, *, now: bool) -> None:
        try:
            await in_thread(engine_side.stop, self.run_directory, now)
        except LoracleError as error:
            self.say(in_words(error.message), "warning")
            return
        self._stopping = _("Stopping at once.") if now else _("Stopping: it finishes this step and saves.")
        if self._following is not None:
            if not now:
                self._stopping = leaves_at_once(self._following.state) or self._stopping
            self.draw_hint()

    @work(exclusive=True, group="resume", exit_on_error=False)
    async def action_resume(self) -> None:
        """Go on from the newest checkpoint: what the worker before left behind no longer holds."""
        if self._following is None or self._following.state.status in LIVE:
            self.say(_("It is running: there is nothing to resume."), "warning")
            return
        try:
            await in_thread(engine_side.resume, self.run_directory)
        except LoracleError as error:
            self.say(in_words(error.message), "warning")
            return
        self._following.state.status = self._following.state.phase = "starting"
        self._following.state.end = None
        self._quiet_until = time.monotonic() + PATIENCE
        self._was_live = True
        self._ended_shown = None
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense now is offered."""
        status = self._following.state.status if self._following is not None else ""
        wanted = {"stop": LIVE, "stop_now": LIVE, "detach": LIVE, "resume": ("stopped", "failed", "dead"), "result": ("done",)}
        if action == "again":
            return status in ("stopped", "failed", "dead", "refused", "done")
        return action not in wanted or status in wanted[action]

    async def action_detach(self) -> None:
        """Quit; the run goes on."""
        await self.app.action_quit()

    def action_result(self) -> None:
        """Show what came out."""
        if self._following is not None and self._following.state.status == "done":
            self.loracle.open_run(self.run_directory, result=True)
        else:
            self.say(_("There is no result yet: the run is not done."), "warning")

    @property
    def _saner(self) -> str:
        """The setting, as `NAME=VALUE`, without which a failed run would fail again; empty where none is known."""
        end = self._following.state.end if self._following is not None else None
        return str((end or {}).get("setting") or "")

    @property
    def foremost(self) -> str:
        """A run that would fail again is to be changed before it is resumed."""
        return "again" if self._saner else ""

    def action_again(self) -> None:
        """The plan once more, to be changed; where a setting of it was the cause, with the saner one."""
        self.loracle.open_again(self.run_directory, self._saner)

    def action_replay(self) -> None:
        """Once more from its begin."""
        self.loracle.open_replay(self.run_directory)
