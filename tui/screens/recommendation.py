"""Full, LoRA and QLoRA side by side, the advice, its reasons, settings to change, and one key to start."""

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.inspection.child import Cancel
from engine.inspection.hub_list import hub_data
from engine.text import one_line
from recommender.errors import LoracleError
from recommender.kinds import METHODS
from tui import views_advice as views
from tui import views_candidate
from tui import work as machine_side
from tui import work_measure as measuring
from tui import work_plan as engine_side
from tui import work_start as starting
from tui.background import in_thread
from tui.cells import fitted
from tui.draft import Draft
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.goal import GoalScreen
from tui.screens.plan_starts import PlanStarts
from tui.widgets.candidate_card import CandidateCard

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.inspect import DataInspection, ModelInspection

NAMES_CELLS = 34
"""Of model and data in the title; the machine stands beside them."""


class RecommendationScreen(PlanStarts):
    """Decides nothing: it shows what `recommend` said and starts what the person picks."""

    ABOUT = _("Three ways to train this model on this data, judged for this machine. ~ marks estimates; ★ is the advice.")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "choose('full')", _("Full"), id="full", show=False, tooltip=_("Choose full fine-tuning")),
        Binding("2", "choose('lora')", "LoRA", id="lora", show=False, tooltip=_("Choose LoRA")),
        Binding("3", "choose('qlora')", "QLoRA", id="qlora", show=False, tooltip=_("Choose QLoRA")),
        Binding("left", "beside(-1)", show=False),
        Binding("right", "beside(1)", show=False),
        Binding("e", "edit", _("Edit"), id="edit", tooltip=_("Change the settings of the chosen method")),
        Binding("g", "goal", _("Goal"), id="goal", tooltip=_("Your goal, as far as it would change the advice")),
        Binding("w", "chain", _("Why"), id="why", tooltip=_("The whole decision: every rule with its points and source")),
        Binding("c", "command", _("Command"), id="command", tooltip=_("Copy this run as a command for a shell")),
        Binding("m", "measure", _("Look again"), id="measure", tooltip=_("Look at the machine again: free memory changes")),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(
        self, model: "ModelInspection", data: "DataInspection", draft: Draft, keep: "Callable[[Draft | None], None] | None" = None
    ) -> None:
        super().__init__()
        self._model, self._data, self._draft, self._keep = model, data, draft, keep
        self.chosen = draft.method or "full"

    def body(self) -> ComposeResult:
        yield Static(Content.styled(_("Comparing…"), "dim"), id="verdict", markup=False)
        yield Static(id="goal", markup=False)
        with Horizontal(id="cards"):
            yield from (CandidateCard(method) for method in METHODS)
        yield Static(id="legend", markup=False)
        yield Static(id="settings", markup=False)
        yield Static(id="own", markup=False)
        with VerticalScroll(id="why"):
            yield Static(id="reasons", markup=False)
            yield Static(id="more", markup=False)
        yield Static(id="message", markup=False)

    def begun(self) -> None:
        """A run was started from the draft."""
        if self._keep is not None:
            self._keep(None)

    def on_mount(self) -> None:
        self.machine_known()
        self.query_one("#why").focus()
        self._advise()

    def machine_known(self) -> None:
        """The machine was looked at."""
        data = one_line((hub_data(self._data.path) or self._data.path).rsplit("/", 1)[-1])
        name = self._model.facts.id or self._model.path
        model = one_line(name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name)
        model = fitted(model, max(NAMES_CELLS - cell_len(data), NAMES_CELLS // 2))
        data = fitted(data, NAMES_CELLS - cell_len(model))
        self.headline(Content.assemble((model, "bold"), _(" on "), (data, "bold")))

    @work(exclusive=True, group="advice", exit_on_error=False)
    async def _advise(self) -> None:
        """Look at the machine, for it may be long ago that set-up did, and decide."""
        self._looking = True
        try:
            await in_thread(self._ready.leave)  # what it holds is there for the run
            machine = await in_thread(machine_side.inspect_machine, self.loracle.runs)
        finally:
            self._looking = False
        self.loracle.know_machine(machine)
        try:
            advice = await in_thread(engine_side.advise, machine, self._model, self._data, self._draft)
        except LoracleError as error:
            self._message(in_words(error.message))
            return
        self._trying = measuring.wants_trial(advice)
        self._take(advice, choose=self._draft.method or advice.recommendation.best.method)
        if self._trying:
            await self._try_bf16(advice)
        self._count()

    async def _try_bf16(self, advice: engine_side.Advice) -> None:
        """Find out whether this processor is faster in bf16, beside a plan that can be read already; a start waits for it."""
        try:
            with Cancel() as cancel:
                facts = await in_thread(measuring.tried, advice, cancel)
        finally:
            self._trying = False
        if self._starting:
            return
        await self._take_measured(lambda now: measuring.measured_again(now, facts))
        await self._go_on()

    async def _take_measured(self, measured: "Callable[[engine_side.Advice], engine_side.Advice]") -> None:
        """Show the advice with something that was measured; what is said while it is decided anew holds."""
        made = now = None
        while made is None or self.advice is not now:
            now = self.advice
            assert now is not None
            made = await in_thread(measured, now)
        self._take(made)

    @work(exclusive=True, group="counting", exit_on_error=False)
    async def _count(self) -> None:
        """Count the memory of what is on the screen; until then what was counted before stands there, and is marked."""
        for _round in range(measuring.ROUNDS):
            if self.advice is None or self._starting or not measuring.is_uncounted(self.advice):
                break
            self._counting = True
            self._take(self.advice)
            with Cancel() as cancel:
                facts = await in_thread(measuring.counted, self.advice, cancel)
            self._counting = False  # not where this was given up: then the next one counts
            if not self._starting:
                await self._take_measured(lambda now, facts=facts: measuring.with_profile(now, facts))  # type: ignore[misc]
        await self._go_on()
        await self._count_beside()

    async def _count_beside(self) -> None:
        """Count what decides beside the steps on the screen, which can be read already."""
        for _round in range(measuring.ROUNDS):
            if self.advice is None or self._starting or self._trying or measuring.is_uncounted(self.advice):
                return
            with Cancel() as cancel:
                facts = await in_thread(measuring.counted_beside, self.advice, cancel)
            if facts is None or self._starting:
                return
            await self._take_measured(lambda now, facts=facts: measuring.with_profile(now, facts))  # type: ignore[misc]

    async def _go_on(self) -> None:
        """Do what was asked for while something was measured."""
        waiting, self._waiting = self._waiting, ""
        if waiting and not self._trying and self.app.screen is self:
            await self.run_action(waiting)

    def _changed(self, advice: engine_side.Advice) -> None:
        """Show what a person has changed, at once, and count it."""
        self._waiting = ""
        self._take(advice)
        self._count()

    def _take(self, advice: engine_side.Advice, *, choose: str | None = None) -> None:
        """Show that advice, and keep what was said on the way to it."""
        self.advice, self._draft = advice, advice.draft
        if self._keep is not None:
            self._keep(advice.draft)
        recommendation = advice.recommendation
        for index, method in enumerate(METHODS, 1):
            candidate = advice.candidate(method)
            starred, edited = method == recommendation.verdict, method in advice.edits
            heading = views_candidate.heading(candidate, index, starred=starred, edited=edited)
            card = self.query_one(f"#card-{method}", CandidateCard)
            card.show(candidate, heading, self._model.facts.parameters, counting=self._counting, trying=self._trying)
        said = views.goal(advice.facts.goal, advice.questions)
        line = self.query_one("#goal", Static)
        line.update(said)
        line.display = bool(said.plain)
        self.query_one("#legend", Static).update(views.legend(recommendation))
        self._show_why()
        self._show_chosen(choose or self.chosen)

    def _show_why(self) -> None:
        if self.advice is not None:
            reasons = views.why(self.advice.recommendation, warned=self.has_class("-wide"))
            self.query_one("#reasons", Static).update(reasons)

    def on_resize(self, event: events.Resize) -> None:
        """Warnings stand beside the reasons or below them. (Textual calls the handlers of all classes.)"""
        self.call_after_refresh(self._show_why)

    @on(CandidateCard.Chosen)
    def _clicked(self, event: CandidateCard.Chosen) -> None:
        self.action_choose(event.method)

    def action_choose(self, method: str) -> None:
        """Choose a method; its settings are shown."""
        if self.advice is None:
            return
        self._waiting = ""
        self._show_chosen(method)
        self._draft = self.advice.draft
        if self._keep is not None:
            self._keep(self._draft)

    def _show_chosen(self, method: str) -> None:
        assert self.advice is not None
        self.chosen = method
        self.query_one("#verdict", Static).update(views.verdict(self.advice.recommendation, method))
        for card in self.query(CandidateCard):
            card.set_class(card.id == f"card-{method}", "-chosen")
        line = views_candidate.settings_of(self.advice.candidate(method), edited=method in self.advice.edits, trying=self._trying)
        self.query_one("#settings", Static).update(line)
        computing = engine_side.computing(self.advice, method)
        self.query_one("#more", Static).update(views.more(self.advice.recommendation, computing))
        own = self.query_one("#own", Static)
        said = views.own_settings(self.advice.cautions(method))
        own.update(said)
        own.display = bool(said.plain)
        doing = _("… trying bf16, a minute at most, once for such texts; starting waits for it.")
        self._message(doing if self._trying else "", wrong=False)
        self._prepare()

    def action_beside(self, step: int) -> None:
        """Choose the next card."""
        self.action_choose(METHODS[(METHODS.index(self.chosen) + step) % len(METHODS)])

    def action_scroll(self, step: int) -> None:
        """Scroll the reasons."""
        self.query_one("#why").scroll_relative(y=step, animate=False)

    def action_goal(self) -> None:
        """Ask what the person wants."""
        if self.advice is None:
            return
        if any(q.matters or q.current != q.default for q in self.advice.questions):
            self.app.push_screen(GoalScreen(self._now, self._changed))
        else:
            self._message(_("No other goal would change this advice."), wrong=False)

    def action_edit(self) -> None:
        """Change the settings of the chosen method."""
        if self.advice is None:
            return
        from tui.screens.edit import EditScreen

        self.app.push_screen(EditScreen(self._now, self.chosen, self._changed))

    def _now(self) -> engine_side.Advice:
        """The advice, for a dialog: what is measured while it is open changes it."""
        assert self.advice is not None
        return self.advice

    def copyable(self) -> tuple[str, str] | None:
        """The recommendation as text."""
        if self.advice is None:
            return super().copyable()
        return _("the recommendation"), views.as_text(self.advice)

    def action_chain(self) -> None:
        """Show the whole decision."""
        if self.advice is None:
            return
        from tui.screens.text import TextScreen

        steps = engine_side.chain(self.advice)
        self.app.push_screen(TextScreen(_("How this was decided"), views.chain(steps)))

    def action_command(self) -> None:
        """Copy the run as a command."""
        if self.advice is None:
            return
        obstacle = starting.obstacle(self.advice, self.chosen)
        command = self.advice.draft.command(self.chosen, anyway=obstacle is not None and not obstacle.final)
        self.app.copy_to_clipboard(command)
        self._message(_("Copied: {command}").format(command=command), wrong=False)

    def action_measure(self) -> None:
        """Look at the machine again and decide again; a start that waits for what is measured was for the advice as it was."""
        self._waiting = ""
        self._message(_("inspecting this machine…"), wrong=False)
        self._advise()
