"""Starting what the plan screen shows: a run, or a pilot, after a question where there is one."""

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from engine.inspection.child import Cancel
from engine.text import one_line
from engine.threads import start
from recommender.errors import LoracleError
from tui import keys
from tui import views_advice as views
from tui import work_start as starting
from tui.background import in_thread
from tui.error_words import in_words
from tui.i18n import _
from tui.progress import amount
from tui.ready import Ready
from tui.screens.base import LoracleScreen
from tui.words import duration
from tui.work_plan import Advice

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.inspection.pipes import Progress
    from engine.rundir import RunDirectory

LOOKED_AT = 0.5
"""Seconds after which a method that was chosen is not one that was only passed by."""
READ = 600.0
"""Seconds that a worker waits beside a plan that nobody touches, for it holds some 400 MB; the next choice calls one again."""


class PlanStarts(LoracleScreen):
    """The chosen method of `advice` as a run, and all of them as a pilot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", _("Start"), id="start", tooltip=_("Start the chosen method")),
        Binding("p", "pilot", _("Pilot"), id="pilot", tooltip=_("Try the candidates on a slice, go on with the winner")),
    ]
    advice: Advice | None = None
    chosen = ""
    """The method."""
    _starting = False
    _trying = False
    """Whether it is being found out if bf16 pays: what is started before that would compute in fp32, often twice as long."""
    _counting = False
    """Whether the memory of what is shown is being counted: that it does not fit is not certain before."""
    _looking = False
    """Whether the machine is looked at again: what a worker holds would be missing from its memory."""
    _waiting = ""
    """The action that comes after that."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = Ready()
        self._unread: Timer | None = None
        """What sends that worker away."""

    @work(exclusive=True, group="ready", exit_on_error=False)
    async def _prepare(self) -> None:
        """Have a worker import its libraries, seconds of work, while the plan is read."""
        await asyncio.sleep(LOOKED_AT)
        if self.advice is not None:
            await in_thread(self._ready.prepare, self.advice, self.chosen, self._is_read)
            if self._unread is not None:
                self._unread.stop()
            self._unread = self.set_timer(READ, partial(in_thread, self._ready.leave))

    def _is_read(self) -> bool:
        """Whether there is nothing that a worker which imports would disturb."""
        return not (self._starting or self._trying or self._looking)

    def on_unmount(self) -> None:
        # Not waited for: a driver that does not answer must not keep the app from closing, and then the worker ends by itself.
        start(threading.Thread(target=self._ready.leave, kwargs={"over": True}, daemon=True, name="loracle-leave"))

    def action_start(self) -> None:
        """Start the chosen method, after a question where the advice is against it."""
        asked_again = self._waiting == "start"
        if self.advice is None or self._starting or self._waits("start"):
            return
        obstacle, wait = starting.obstacle(self.advice, self.chosen), views.long_wait(self.advice, self.chosen)
        if obstacle is None and wait is not None:
            self.ask(wait, _("Start"), partial(self._start_run, anyway=False))
        elif obstacle is None:
            self._start_run(anyway=False)
        elif self._counting and not asked_again:
            self._waiting = "start"
            self._message(_("Starts once its memory is counted, if it fits."), wrong=False)
        elif obstacle.final:
            self._message(_("This cannot start. {why}").format(why=obstacle.text))
        else:
            self.ask(views.against(obstacle.text), _("Start anyway"), partial(self._start_run, anyway=True))

    def _waits(self, action: str) -> bool:
        """Whether it is better to wait for the trial of bf16 first; who asks again does not."""
        if not self._trying or self._waiting == action:
            self._waiting = ""
            return False
        self._waiting = action
        key = keys.name("start", "enter") if action == "start" else keys.name("pilot", "p")
        self._message(
            _("Starts once bf16 has been tried, a minute at most; {key} again: now, in fp32.").format(key=key), wrong=False
        )
        return True

    def _start_run(self, *, anyway: bool) -> None:
        self._starting = True
        start = partial(starting.start, method=self.chosen, anyway=anyway)
        self._start(start, "", ("advice", "counting", "ready"))  # what goes on there would only slow the run down

    def _start_pilot(self) -> None:
        self._starting = True
        self._start(starting.start_pilot, _("starting the pilot…"), ())

    @work(exclusive=True, group="start", exit_on_error=False)
    async def _start(self, start: "Callable[..., RunDirectory | None]", here: str, over: tuple[str, ...]) -> None:
        """`here` is said where the model is on this machine; what goes on in the groups `over` is given up."""
        assert self.advice is not None
        for group in over:
            self.workers.cancel_group(self, group)
        self._message(here if here and self.advice.model.weights_here else views.starting(self.advice), wrong=False)
        try:
            with Cancel() as cancel:
                tell = self._telling(self.advice, cancel)
                run = await in_thread(start, self.advice, self.loracle.runs, cancel, tell, self._ready)
        except LoracleError as error:
            self._message(in_words(error.message))
            return
        finally:
            self._starting = False
        self.begun()
        if run is None:
            self._message(_("The pilot has begun; the list of runs shows it."), wrong=False)
        else:
            self.loracle.open_run(run)

    def _telling(self, advice: Advice, cancel: Cancel) -> "Progress":
        """What says how much of the model has come, as long as it is waited for; called in the thread that downloads."""
        loop = asyncio.get_running_loop()

        def show(text: str) -> None:
            if self._starting and not cancel.cancelled:
                self._message(text, wrong=False)

        def tell(done: int, total: int, unit: str) -> None:
            loop.call_soon_threadsafe(show, views.starting(advice, amount(done, total, unit)))

        return tell

    def action_pilot(self) -> None:
        """Ask whether a pilot is to be started, with what it would do."""
        if self.advice is not None and not self._starting and not self._waits("pilot"):
            self._ask_for_pilot(self.advice)

    @work(exclusive=True, group="start", exit_on_error=False)
    async def _ask_for_pilot(self, advice: Advice) -> None:
        try:
            self._message(_("working out what a pilot would do…"), wrong=False)
            hours, names, in_folds = await in_thread(starting.pilot_hours, advice)
        except LoracleError as error:
            self._message(_("No pilot: {why}").format(why=in_words(error.message)))
            return
        self._message("")
        question = views.pilot(names, duration(3600 * hours), own=bool(advice.draft.settings), in_folds=in_folds)
        self.ask(question, _("Start the pilot"), self._start_pilot)

    def begun(self) -> None:
        """A run, or a pilot, was started."""
        raise NotImplementedError

    def _message(self, text: str, *, wrong: bool = True) -> None:
        line = self.query_one("#message", Static)
        line.update(Content.styled(one_line(text, 500), "$text-error" if wrong else "dim"))
