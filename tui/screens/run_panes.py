"""What the panes of the run screen show, each as wide as it is."""

from typing import cast

from textual.content import Content

from tui import keys, views_samples
from tui import views_run as views
from tui.endings import ending
from tui.i18n import _
from tui.live_advice import ENDED_BADLY, Advice
from tui.screens.run_keys import RunKeys
from tui.widgets.loss_chart import Line, LossChart
from tui.widgets.pane import Pane, TextPane
from tui.widgets.quiet import Quiet

LEAVING = _("Leaving keeps it running; `loracle attach` comes back to it.")
HINT_ROWS, MOST_HINT_ROWS = 4, 8
"""The stylesheet has the second: in a high terminal, and where nothing was trained, so that there is no curve."""


class RunPanes(RunKeys):
    """Draws the panes in sight, and the hint below them."""

    _line: Line | None = None
    """The curve."""
    _evaluations_shown: object = None
    _stopping = ""
    """What a stop that was asked for does; empty before one was."""

    @property
    def _metric(self) -> str:
        """What decides which evaluation is the best."""
        plan = self._following.plan if self._following is not None else None
        return plan.metric if plan is not None else "macro_f1"

    def _draw_panes(self, told: list[Advice]) -> None:
        """Those in sight; the others are drawn when they come into it."""
        panes = {pane.id: pane for pane in self.query(Pane) if pane.display}
        if "loss" in panes:
            self.query_one(LossChart).show(cast(Line, self._line))
        if isinstance(pane := panes.get("advice"), TextPane):
            pane.show(Content("\n").join(Content.styled(a.text, a.style) for a in told))
        self._draw_to_size()

    def _right(self, now: float) -> Content:
        assert self._following is not None
        if self.frozen:
            return Content.styled(_("frozen · {freeze} goes on").format(freeze=keys.name("freeze", "space")), "$text-warning")
        return views.time_left(self._following.state, now)

    def _draw_to_size(self) -> None:
        """What is drawn as wide as its pane; one that comes into sight has its size after the next layout."""
        assert self._following is not None
        machine = self.query_one("#machine", TextPane)
        if machine.display and (room := machine.scrollable_content_region):
            machine.show(views.machine(self._following.state, self._predicted(), *room.size))
        pane, state = self.query_one("#evaluations", TextPane), self._following.state
        if pane.display and (width := pane.scrollable_content_region.width):
            told_of = id(state), len(state.evaluations), width
            if told_of != self._evaluations_shown:
                self._evaluations_shown = told_of
                pane.show(views.evaluations(state, self._metric, width))
        self._draw_samples()

    def _draw_samples(self) -> None:
        assert self._following is not None
        state, pane = self._following.state, self.query_one("#samples", TextPane)
        panes, title = self.query_one("#panes"), views_samples.title(state) if state.samples else _("samples")
        if panes.has_class("-no-samples") == bool(state.samples) or title != pane.name_of:  # the lowest frame says it too
            panes.set_class(not state.samples, "-no-samples")
            pane.title_words(title)
            self.call_after_refresh(self._tell_hidden)
            self.call_after_refresh(self._draw_samples)  # a pane that was not there has its width only then
        words = _("No sample answers yet: they come with evaluations, or before and after for models that generate text.")
        nothing = Content.styled(words, "$text-muted")
        if pane.display:
            pane.show(views_samples.samples(state, pane.scrollable_content_region.width) if state.samples else nothing)

    def _predicted(self) -> int | None:
        assert self._following is not None
        value = self._following.state.info.get("predicted_memory") or self._following.predicted_memory
        return int(value) if isinstance(value, int | float) else None

    def draw_hint(self, pressing: str = "") -> None:
        """How it ended and what to do now; while it goes on, what is pressing."""
        assert self._following is not None
        state, hint = self._following.state, self.query_one("#hint", Quiet)
        ended_badly = state.status in ENDED_BADLY
        hint.set_class(ended_badly, "-alarm")
        self.query_one("#panes").set_class(ended_badly and not state.losses, "-no-curve")
        width = max(self.size.width - 2, 20)
        rows = MOST_HINT_ROWS if self.has_class("-tall") or not state.losses else HINT_ROWS
        room = (rows - 1) * width  # words that do not fit into a row leave some of it blank, paths much of it
        hint.show(Content(ending(state, room) or self._stopping or pressing or LEAVING))
