"""A run once more, from its events: at any speed, held still, from any place."""

from typing import ClassVar, cast

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content

from tui.background import in_thread
from tui.i18n import _
from tui.screens.run import RunScreen
from tui.watching import Playback, Watched
from tui.widgets.bars import progress_bar
from tui.widgets.log_pane import LogPane
from tui.widgets.quiet import Quiet
from tui.words import sign

SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
SEEK = 0.05
"""Of the whole run."""
FRAME_SECONDS = 0.25
OF_THE_WORKER = frozenset({"stop", "stop_now", "detach", "resume", "result", "again", "replay", "worker_log"})


class ReplayScreen(RunScreen):
    """The same screen as of a live run; only its clock is another."""

    ABOUT = _("A recording of the run: nothing is trained here. Long pauses are cut short.")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "freeze", _("Pause"), id="pause", tooltip=_("Pause or resume the recording")),
        Binding("plus,equals_sign", "speed(1)", _("Faster"), key_display="+", id="faster", tooltip=_("Up to 100 times as fast")),
        Binding("minus", "speed(-1)", _("Slower"), key_display="-", id="slower", tooltip=_("Down to real time")),
        Binding("full_stop", "seek(1)", _("Forward"), key_display=".", id="seek-forward", show=False, tooltip=_("Jump forward")),
        Binding("comma", "seek(-1)", _("Backward"), key_display=",", id="seek-back", show=False, tooltip=_("Jump backward")),
        Binding("0", "restart", _("Beginning"), id="seek-begin", show=False, tooltip=_("From the beginning")),
    ]
    _seeking = False

    def watched(self) -> Watched:
        """The recording."""
        return Playback(self.run_directory)

    @property
    def playback(self) -> Playback | None:
        """The recording, once it was looked through."""
        return cast("Playback | None", self._following)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing here reaches a worker."""
        return action not in OF_THE_WORKER

    @property
    def live_run(self) -> None:
        """A recording keeps nothing running."""
        return

    def _poll(self) -> None:
        if not self._seeking:
            super()._poll()

    def _time_to_draw(self, waited: float) -> bool:
        return waited >= FRAME_SECONDS

    def _follow_to_result(self) -> None:
        return

    def _say_the_end(self) -> None:
        assert self._following is not None
        self._ended_shown = self._following.state.status

    def _right(self, now: float) -> Content:
        return Content.styled(_("replay"), "$text-accent")

    def draw_hint(self, pressing: str = "") -> None:
        playback = self.playback
        if playback is None:
            return
        held = sign("■") if playback.paused or playback.over else sign("▶")
        times = _("{now} of {all}").format(now=_minutes(playback.position), all=_minutes(playback.length))
        words = f" {held} {playback.speed:g}x  {times}"
        share = playback.position / playback.length if playback.length else 1.0
        bar = progress_bar(share, max(self.size.width - Content(words).cell_length - 2, 10))
        self.query_one("#hint", Quiet).show(Content.assemble(bar, words))

    def action_freeze(self) -> None:
        """Hold the recording, or go on; from the begin if it is over."""
        playback = self.playback
        if playback is None:
            return
        if playback.over:
            self._seek_to(0.0)
            playback.paused = False
        else:
            playback.paused = not playback.paused
        self._draw()

    def action_speed(self, direction: int) -> None:
        """The next speed."""
        playback = self.playback
        if playback is not None:
            at = SPEEDS.index(playback.speed) + direction
            playback.speed = SPEEDS[min(max(at, 0), len(SPEEDS) - 1)]
            self.draw_hint()

    def action_seek(self, direction: int) -> None:
        """Jump by a share of the run."""
        if self.playback is not None:
            self._seek_to(self.playback.position + direction * SEEK * self.playback.length)

    def action_restart(self) -> None:
        """From the begin."""
        self._seek_to(0.0)

    @work(exclusive=True, group="seek", exit_on_error=False)
    async def _seek_to(self, position: float) -> None:
        playback = self.playback
        if playback is None:
            return
        self._seeking = True
        try:
            await in_thread(playback.seek, position)
        finally:
            self._seeking = False
        self.query_one(LogPane).replace(playback.log.lines)
        self._draw()


def _minutes(seconds: float) -> str:
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
