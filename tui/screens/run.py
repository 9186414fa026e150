"""A run, live: follows the event log, asks for stops, notices a dead worker."""

import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import RichLog

from engine.text import clean, one_line
from recommender.errors import LoracleError
from tui import views_run as views
from tui import work as engine_side
from tui.background import in_thread
from tui.screens.base import LoracleScreen
from tui.screens.confirm import ConfirmScreen
from tui.widgets.loss_chart import LossChart
from tui.widgets.quiet import Quiet

if TYPE_CHECKING:
    from engine.events import Event
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
LOG_LINES = 2_000
STEP_LINE_SECONDS = 5.0
"""The log gets a line about steps at most this often."""
NO_WORDS = "worker.log is empty: the worker may have been killed, for instance for its memory"
LEAVING = "Leaving keeps it running; `loracle attach` comes back to it."
PANES = {"loss": "loss   train line   eval ●", "now": "now", "machine": "machine", "evaluations": "evaluations", "log": "log"}
LIVE = ("starting", "running")


class RunScreen(LoracleScreen):
    """Only reads the run directory; the run goes on whether this is looked at or not."""

    ABOUT = "The run is a process of its own: leaving, or losing the connection, does not stop it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop and save", id="stop", tooltip="Finish this step, save a checkpoint, stop; it can be resumed"),
        Binding("X", "stop_now", "Stop now", id="stop-now", tooltip="Stop at once, without saving (asks first)", show=False),
        Binding("d", "detach", "Detach", id="detach", tooltip="Quit the app; the run goes on"),
        Binding("r", "resume", "Resume", id="resume", tooltip="Go on from the newest checkpoint, once stopped"),
        Binding("enter", "result", "Result", id="result", tooltip="What came out, once the run is done"),
        Binding("y", "copy", "Copy path", id="copy", tooltip="Copy the run's folder to the clipboard", show=False),
    ]

    def __init__(self, run: "RunDirectory", *, resume: bool = False) -> None:
        super().__init__()
        self.run_directory = run
        self._following: engine_side.Following | None = None
        self._resume_first = resume
        self._stopping = False
        self._settled = 0.0
        self._drawn = 0.0
        self._spent = 0.0
        self._quiet_until = 0.0
        self._last_step_line = 0.0
        self._last_line = ""
        self._was_live = False
        self._ended_shown: str | None = None

    def body(self) -> ComposeResult:
        yield Quiet(id="progress")
        with Horizontal(id="upper"):
            with Vertical(id="loss", classes="pane"):
                yield LossChart(id="chart")
            with Vertical(id="now", classes="pane"):
                yield Quiet(id="metrics")
                yield Quiet(id="last")
        with Horizontal(id="middle"):
            yield Quiet(id="evaluations", classes="pane")
            yield Quiet(id="machine", classes="pane")
        yield RichLog(id="log", max_lines=LOG_LINES, markup=False, highlight=False, wrap=True, auto_scroll=True, min_width=20)
        yield Quiet(id="hint", grows=True)

    def on_mount(self) -> None:
        for name, words in PANES.items():
            self.query_one(f"#{name}").border_title = words
        self.headline(Content.styled(one_line(self.run_directory.name, 60), "bold"), Content(""))
        self.query_one("#log").focus()
        self._read_so_far()

    @property
    def live_run(self) -> "RunDirectory | None":
        """The run, if it is going on."""
        live = self._following is not None and self._following.state.status in LIVE
        return self.run_directory if live else None

    @work(exclusive=True, group="follow", exit_on_error=False)
    async def _read_so_far(self) -> None:
        """Read what was written so far in a thread: a long log takes a moment."""
        following, events = await in_thread(engine_side.follow, self.run_directory)
        self._following = following
        self._settled = time.monotonic()
        self._was_live = following.state.status in LIVE
        self._write_log(events[-LOG_LINES:])
        self._draw()
        self.set_interval(POLL_SECONDS, self._poll)
        if self._resume_first:
            self.action_resume()

    def _poll(self) -> None:
        following = self._following
        if following is None:
            return
        events = following.poll()
        now = time.monotonic()
        if events:
            self._quiet_until = 0.0
            self._write_log(events)
        if now - self._settled >= SETTLE_SECONDS and now >= self._quiet_until:
            self._settled = now
            following.settle()
        due = self._time_to_draw(now - self._drawn) or following.state.status != self._ended_shown
        if due and self.app.screen is self:
            self._drawn, self._spent = now, time.process_time()
            self._draw()
        self._follow_to_result()

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
            self.app.bell()
            self.loracle.open_run(self.run_directory, result=True)
        self._was_live = self._was_live or live

    def _draw(self) -> None:
        assert self._following is not None
        state, plan = self._following.state, self._following.plan
        name = plan.metric if plan is not None else "macro_f1"
        self.headline(views.headline(self.run_directory.name, state), views.time_left(state))
        for widget, content in (
            ("progress", views.progress(state, max(self.size.width - 2, 20))),
            ("metrics", views.metrics(state, name)),
            ("last", views.last_step(state)),
            ("evaluations", views.evaluations(state, name)),
            ("machine", views.machine(state, self._predicted(), *self.query_one("#machine").content_size)),
        ):
            self.query_one(f"#{widget}", Quiet).show(content)
        self.query_one(LossChart).show_points(state.losses, views.evaluation_losses(state))
        self._draw_hint()
        self._say_the_end()

    def _predicted(self) -> int | None:
        assert self._following is not None
        value = self._following.state.info.get("predicted_memory") or self._following.predicted_memory
        return int(value) if isinstance(value, int | float) else None

    def _draw_hint(self) -> None:
        assert self._following is not None
        state, hint = self._following.state, self.query_one("#hint", Quiet)
        cause = one_line((state.end or {}).get("cause") or "", 200)
        cure = one_line((state.end or {}).get("cure") or "", 200)
        at = f" at the checkpoint of step {state.checkpoint}" if state.checkpoint else ""
        words = {
            "done": "Done: enter shows the result.",
            "stopped": f"Stopped{at}: r goes on from there.",
            "failed": f"Failed: {cause or 'the worker gave no cause'} {cure} r tries again from the newest checkpoint.",
            "refused": f"Refused: {cause} {cure}",
            "dead": "The worker died; the log shows its last lines. r resumes the run.",
        }
        live = "Stopping: it finishes this step and saves." if self._stopping else LEAVING
        hint.set_class(state.status in ("failed", "refused", "dead"), "-alarm")
        hint.show(Content(words.get(state.status, live)))

    def _say_the_end(self) -> None:
        """The last words of a worker that died or failed, once."""
        assert self._following is not None
        status = self._following.state.status
        if status == self._ended_shown:
            return
        self._ended_shown = status
        self.refresh_bindings()
        if status not in LIVE:
            self._stopping = False
        if status in ("dead", "failed"):
            self._show_last_words()

    @work(group="words", exit_on_error=False)
    async def _show_last_words(self) -> None:
        words = await in_thread(self.run_directory.last_words)
        log = self.query_one(RichLog)
        log.write(Text("the end of worker.log:" if words.strip() else NO_WORDS, "bold red"))
        for line in words.splitlines():
            log.write(Text(clean(line, 1_000), "red"))

    def _write_log(self, events: "list[Event]") -> None:
        log = self.query_one(RichLog)
        for event in events:
            moment = event.get("time")
            when = float(moment) if isinstance(moment, int | float) else 0.0
            if event["kind"] == "step":
                if 0 <= when - self._last_step_line < STEP_LINE_SECONDS:
                    continue
                self._last_step_line = when
            try:
                line = views.event_line(event)
            except (KeyError, TypeError, ValueError):  # a log may hold anything
                continue
            if line is not None and line[0] != self._last_line:
                self._last_line = line[0]
                clock = time.strftime("%H:%M:%S", time.localtime(when))
                log.write(Text.assemble((f"{clock}  ", "dim"), (line[0], line[1])))

    def action_stop(self) -> None:
        """Ask for a stop with a checkpoint."""
        self._stop(now=False)

    def action_stop_now(self) -> None:
        """Ask the person, then the worker."""
        question = Content("Stop at once? Steps since the last checkpoint are lost. x stops after this step and saves.")
        self.app.push_screen(ConfirmScreen(question, "Stop now"), self._stop_now_answered)

    def _stop_now_answered(self, yes: bool | None) -> None:
        if yes:
            self._stop(now=True)

    @work(group="stop", exit_on_error=False)
    async def _stop(self, *, now: bool) -> None:
        try:
            await in_thread(engine_side.stop, self.run_directory, now)
        except LoracleError as error:
            self.say(error.message, "warning")
            return
        self._stopping = True
        if self._following is not None:
            self._draw_hint()

    @work(exclusive=True, group="resume", exit_on_error=False)
    async def _resume(self) -> None:
        if self._following is None or self._following.state.status in LIVE:
            self.say("It is running: there is nothing to resume.", "warning")
            return
        try:
            await in_thread(engine_side.resume, self.run_directory)
        except LoracleError as error:
            self.say(error.message, "warning")
            return
        self._following.state.status = "starting"
        self._following.state.end = None
        self._quiet_until = time.monotonic() + PATIENCE
        self._was_live = True
        self._ended_shown = None
        self._draw()

    def action_resume(self) -> None:
        """Go on from the newest checkpoint."""
        self._resume()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense now is offered."""
        status = self._following.state.status if self._following is not None else ""
        wanted = {"stop": LIVE, "stop_now": LIVE, "detach": LIVE, "resume": ("stopped", "failed", "dead"), "result": ("done",)}
        return action not in wanted or status in wanted[action]

    async def action_detach(self) -> None:
        """Quit; the run goes on."""
        await self.app.action_quit()

    def action_result(self) -> None:
        """Show what came out."""
        if self._following is not None and self._following.state.status == "done":
            self.loracle.open_run(self.run_directory, result=True)
        else:
            self.say("There is no result yet: the run is not done.", "warning")

    def action_copy(self) -> None:
        """Copy the run's folder (OSC 52)."""
        self.app.copy_to_clipboard(str(self.run_directory.path))
        self.say(f"Copied: {self.run_directory.path}")
