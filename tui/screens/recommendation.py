"""Full, LoRA and QLoRA side by side, the advice, its reasons, and one key to start."""

from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.text import one_line
from recommender.errors import LoracleError
from tui import views_advice as views
from tui import work as engine_side
from tui.background import in_thread
from tui.screens.base import LoracleScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.goal import GoalScreen
from tui.widgets.candidate_card import CandidateCard

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.inspect import DataInspection, ModelInspection
    from recommender.facts import Goal

METHODS = ("full", "lora", "qlora")


class RecommendationScreen(LoracleScreen):
    """Decides nothing: it shows what `recommend` said and starts what the person picks."""

    ABOUT = "Three ways to train this model on this data, judged for this machine. ~ marks estimates; ★ is the advice."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start", id="start", tooltip="Start the chosen method"),
        Binding("1", "choose('full')", "Full", id="full", tooltip="Choose full fine-tuning"),
        Binding("2", "choose('lora')", "LoRA", id="lora", tooltip="Choose LoRA"),
        Binding("3", "choose('qlora')", "QLoRA", id="qlora", tooltip="Choose QLoRA"),
        Binding("left", "beside(-1)", show=False),
        Binding("right", "beside(1)", show=False),
        Binding("g", "goal", "Goal", id="goal", tooltip="Say what you want, where it would change the advice"),
        Binding("m", "measure", "Look again", id="measure", tooltip="Look at the machine again: free memory changes"),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(
        self,
        model: "ModelInspection",
        data: "DataInspection",
        goal: "Goal | None" = None,
        keep_goal: "Callable[[Goal], None] | None" = None,
    ) -> None:
        super().__init__()
        self._model, self._data, self._goal, self._keep_goal = model, data, goal, keep_goal
        self.advice: engine_side.Advice | None = None
        self.chosen = "full"
        self._starting = False

    def body(self) -> ComposeResult:
        yield Static(Content.styled("Comparing…", "dim"), id="verdict", markup=False)
        yield Static(id="goal", markup=False)
        yield Horizontal(id="cards")
        yield Static(id="legend", markup=False)
        with VerticalScroll(id="why"):
            yield Static(id="reasons", markup=False)
            yield Static(id="more", markup=False)
        yield Static(id="message", markup=False)

    def on_mount(self) -> None:
        self.machine_known()
        self.query_one("#why").focus()
        self._advise(again=False)

    def machine_known(self) -> None:
        """The machine was looked at."""
        data = one_line(self._data.path.rsplit("/", 1)[-1], 30)
        model = one_line(self._model.facts.id or self._model.path.rstrip("/").rsplit("/", 1)[-1], 30)
        self.headline(Content.assemble((data, "bold"), " on ", (model, "bold")))

    @work(exclusive=True, group="advice", exit_on_error=False)
    async def _advise(self, *, again: bool) -> None:
        machine = None if again else self.loracle.machine
        if machine is None:
            machine = await in_thread(engine_side.inspect_machine, self.loracle.runs)
            self.loracle.know_machine(machine)
        advice = await in_thread(engine_side.advise, machine, self._model, self._data, self._goal)
        self.advice = advice
        await self._show(advice)

    async def _show(self, advice: engine_side.Advice) -> None:
        recommendation = advice.recommendation
        best = recommendation.best.method
        cards = self.query_one("#cards", Horizontal)
        await cards.remove_children()
        whole = self._model.facts.parameters
        for index, candidate in enumerate(recommendation.candidates, 1):
            starred = candidate.method == recommendation.verdict
            await cards.mount(CandidateCard(candidate, index, starred=starred, whole=whole))
        self.query_one("#verdict", Static).update(views.verdict(recommendation))
        said = views.goal(advice.facts.goal, advice.questions)
        line = self.query_one("#goal", Static)
        line.update(said)
        line.display = bool(said.plain)
        self.query_one("#legend", Static).update(views.legend(recommendation))
        self.query_one("#reasons", Static).update(views.why(recommendation))
        self.action_choose(best)

    @on(CandidateCard.Chosen)
    def _clicked(self, event: CandidateCard.Chosen) -> None:
        self.action_choose(event.method)

    def action_choose(self, method: str) -> None:
        """Choose a method; its settings are shown."""
        if self.advice is None:
            return
        self.chosen = method
        for card in self.query(CandidateCard):
            card.set_class(card.id == f"card-{method}", "-chosen")
        self.query_one("#more", Static).update(views.more(self.advice.recommendation, method))
        self._message("")

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
            self.app.push_screen(GoalScreen(self.advice, self._goal_changed))
        else:
            self._message("Nothing that you could say about your goal would change this advice.", wrong=False)

    def _goal_changed(self, advice: engine_side.Advice) -> None:
        self.advice, self._goal = advice, advice.facts.goal
        if self._keep_goal is not None:
            self._keep_goal(self._goal)
        self._redraw(advice)

    @work(exclusive=True, group="advice", exit_on_error=False)
    async def _redraw(self, advice: engine_side.Advice) -> None:
        await self._show(advice)

    def action_measure(self) -> None:
        """Look at the machine again and decide again."""
        self._advise(again=True)

    def action_start(self) -> None:
        """Start the chosen method, after a question where the advice is against it."""
        if self.advice is None or self._starting:
            return
        obstacle = engine_side.obstacle(self.advice, self.chosen)
        if obstacle is None:
            self._start(anyway=False)
        elif obstacle.final:
            self._message(f"This cannot start. {obstacle.text}")
        else:
            self.app.push_screen(ConfirmScreen(views.against(obstacle.text), "Start anyway"), self._answered)

    def _answered(self, yes: bool | None) -> None:
        if yes:
            self._start(anyway=True)

    @work(exclusive=True, group="start", exit_on_error=False)
    async def _start(self, *, anyway: bool) -> None:
        assert self.advice is not None
        self._starting = True
        self._message("starting…", wrong=False)
        try:
            run = await in_thread(engine_side.start, self.advice, self.chosen, anyway, self.loracle.runs)
        except LoracleError as error:
            self._message(error.message)
            return
        finally:
            self._starting = False
        self.loracle.open_run(run)

    def _message(self, text: str, *, wrong: bool = True) -> None:
        line = self.query_one("#message", Static)
        line.display = bool(text)
        line.update(Content.styled(one_line(text, 500), "$text-error" if wrong else "dim"))
