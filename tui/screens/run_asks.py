"""What the run screen asks of the worker: to stop, to stop at once, to go on."""

from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content

from recommender.errors import LoracleError
from tui import keys
from tui import work as engine_side
from tui.background import in_thread
from tui.endings import leaves_at_once
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.confirm import ConfirmScreen
from tui.screens.run_keys import RunKeys
from tui.words import LIVE

if TYPE_CHECKING:
    from engine.rundir import RunDirectory


class RunAsks(RunKeys):
    """Requests go through the run directory, as those of any other viewer do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", _("Stop and save"), id="stop",
                tooltip=_("Finish this step, save a checkpoint, stop; it can be resumed")),
        Binding("X", "stop_now", _("Stop now"), id="stop-now", show=False, tooltip=_("Stop at once, unsaved (asks first)")),
        Binding("r", "resume", _("Resume"), id="resume", tooltip=_("Go on from the newest checkpoint, once stopped")),
    ]  # fmt: skip
    run_directory: "RunDirectory"
    _stopping = ""
    """What a stop that was asked for does; empty before one was."""

    def draw_hint(self, pressing: str = "") -> None:
        """Say at the bottom what goes on."""
        raise NotImplementedError

    def resumed(self) -> None:
        """A worker was started."""
        raise NotImplementedError

    def action_stop(self) -> None:
        """Ask for a stop with a checkpoint."""
        self._stop(now=False)

    def action_stop_now(self) -> None:
        """Ask the person, then the worker."""
        words = _("Stop at once? Steps since the last checkpoint are lost. {stop} stops after this step and saves.")
        question = Content(words.format(stop=keys.name("stop", "x")))
        self.app.push_screen(ConfirmScreen(question, _("Stop now")), self._stop_now_answered)

    def _stop_now_answered(self, yes: bool | None) -> None:
        if yes:
            self._stop(now=True)

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
        """Go on from the newest checkpoint."""
        if self._following is None or self._following.state.status in LIVE:
            self.say(_("It is running: there is nothing to resume."), "warning")
            return
        try:
            await in_thread(engine_side.resume, self.run_directory)
        except LoracleError as error:
            self.say(in_words(error.message), "warning")
            return
        self.resumed()
