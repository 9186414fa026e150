"""Set-up: goal, model, data, limits, and on to the plan. It can be left at any moment; the draft is kept."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, ContentSwitcher, Static

from recommender.kinds import METHODS
from tui import keys
from tui import views_setup as views
from tui import work_setup as engine_side
from tui.background import in_thread
from tui.draft import Draft
from tui.i18n import _
from tui.screens.setup_drafts import SetupDrafts
from tui.screens.step import Step
from tui.screens.step_data import DataStep
from tui.screens.step_goal import GoalStep
from tui.screens.step_limits import LimitsStep
from tui.screens.step_model import ModelStep
from tui.widgets.field import Field
from tui.widgets.step_bar import StepBar

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection

STEPS = ("goal", "model", "data", "limits")


class SetupScreen(SetupDrafts):
    """Four steps and a line that says what memory the three methods would need so far."""

    ABOUT = _(
        "Fill in what you know, in any order: enter goes on, {back} goes back, and outside of a field the number of a step opens "
        "it. Your answers are kept when you leave."
    ).format(back=keys.name("back", "esc"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "recommend", _("Plan"), id="recommend", tooltip=_("Compare full, LoRA and QLoRA")),
        Binding("ctrl+o", "browse", _("Browse files"), id="browse", tooltip=_("Pick the file of this field from a list")),
        Binding("ctrl+n", "anew", _("Start over"), id="anew", tooltip=_("Put this draft aside and start a new one")),
        Binding("ctrl+l", "drafts", _("Drafts"), id="drafts", tooltip=_("Continue another draft"), show=False),
        *(Binding(str(n), f"go('{step}')", show=False) for n, step in enumerate(STEPS, 1)),
        Binding("5", "recommend", show=False),
    ]

    def __init__(self, draft: Draft | None, *, past_model: bool = False, to_plan: bool = False) -> None:
        """`past_model` opens it behind a model that was named just now."""
        super().__init__(draft)
        self._first = "goal" if not self.draft.model else "data" if past_model or self.draft.data else "model"
        self._straight = to_plan
        self._to_plan = False
        """On to the plan as soon as model and data are known."""
        self._opening = True
        """Until a step was chosen or something said: then it opens at what was refused of what was said before."""

    def body(self) -> ComposeResult:
        yield StepBar()
        with ContentSwitcher(initial=f"step-{self._first}", id="steps"):
            yield GoalStep(self.draft)
            yield ModelStep(self.draft)
            yield DataStep(self.draft)
            yield LimitsStep(self.draft)
        yield Static(id="memory-line", markup=False)
        with Horizontal(id="next"):
            yield Static(id="ready", markup=False)
            yield Button(_("Back"), id="before", compact=True)
            yield Button(_("Next"), id="go", variant="primary", compact=True)

    def leaving(self) -> None:
        """Take what was typed and not yet told by the steps."""
        if len(self.query(Step)) == len(STEPS):
            self._gather()

    def on_mount(self) -> None:
        if len(self.query(Step)) < len(STEPS):  # the app is being left, and mounts nothing any more
            return
        self.loracle.look_at_machine()
        self.machine_known()
        self._show(self._first)
        self._opening, self._to_plan = True, self._straight
        self._look_for_demos()
        if self._put_aside:
            words = _("Your draft is kept: {key} lists all drafts.")
            self.say(words.format(key=keys.name("drafts", "ctrl+l")))
        self.query_one(ModelStep).look(final=bool(self.draft.model))
        self.query_one(DataStep).look(final=bool(self.draft.data))

    def machine_known(self) -> None:
        """The machine was looked at."""
        self.headline(Content.assemble(("Loracle", "bold"), f" · {_('new run')}"))
        self._changed()

    @work(exclusive=True, group="changed", exit_on_error=False)
    async def on_screen_resume(self) -> None:
        """What was advised on the plan's screen may have been done to the rows meanwhile."""
        for step in self.query(DataStep):
            await step.look_if_changed()

    @work(exclusive=True, group="demos", exit_on_error=False)
    async def _look_for_demos(self) -> None:
        chat = await in_thread(engine_side.demo, "chat")
        self.query_one(GoalStep).know_demos(chat=chat is not None)

    @property
    def step(self) -> Step:
        """The step that is shown."""
        return self.query_one(f"#{self.query_one(ContentSwitcher).current}", Step)

    def field(self, name: str) -> Field:
        """The field of that name: `model`, `data` or `held-out`."""
        return self.query_one(f"#{name}-field", Field)

    def _show(self, name: str) -> None:
        self._to_plan = self._opening = False
        self.query_one(ContentSwitcher).current = f"step-{name}"
        self.step.enter()
        self._changed()

    @on(Step.Said)
    def _said(self) -> None:
        if len(self.query(Step)) < len(STEPS):
            return
        before = self._named
        self._gather()
        self._opening &= self._named == before
        refused = next((name for name in STEPS if self.query_one(f"#step-{name}", Step).refused), None)
        if refused is not None:
            self._to_plan = False
            if self._opening:
                self._show(refused)
        if self._to_plan and self.ready:
            self._to_plan = False
            self.action_recommend()

    @property
    def _named(self) -> tuple[str, ...]:
        return self.draft.model, self.draft.data, self.draft.held_out

    def _gather(self) -> None:
        """Make the draft anew from what the steps say."""
        said: dict[str, object] = {}
        for kind in (GoalStep, ModelStep, DataStep, LimitsStep):
            said |= self.query_one(kind).said()
        hours, goal = said.pop("hours"), said.pop("goal")
        assert isinstance(goal, dict)
        goal |= {"time_budget_hours": hours} if hours is not None else {}
        data = self.query_one(DataStep)
        model = self.query_one(ModelStep).known
        tokenizer = model.path if model is not None else None
        data.reads = model.facts.max_positions if model is not None else None
        asked = (said["train_rows"], said["eval_rows"], tokenizer)
        if asked != (data.train_rows, data.eval_rows, data.tokenizer):
            data.train_rows, data.eval_rows, data.tokenizer = asked  # type: ignore[assignment]
            data.look(final=data.final)
        draft = replace(self.draft, goal=goal, **said)  # type: ignore[arg-type]
        if (draft.model, draft.data) != (self.draft.model, self.draft.data):
            draft = replace(draft, settings={}, method="")  # they were for something else
        self._take(draft)
        self._changed()

    def _take_back(self, draft: Draft | None) -> None:
        """What was said on the plan screen; nothing where a run was started there."""
        if draft is None:
            self.used()
            return
        self.query_one(GoalStep).take(draft.goal)
        self.query_one(LimitsStep).take(draft.goal.get("time_budget_hours"))
        self._take(draft)

    @property
    def ready(self) -> bool:
        """Whether model and data are known."""
        return all(bool(found := self.query(kind)) and found.first(Step).ready for kind in (ModelStep, DataStep))

    def _changed(self) -> None:
        """Draw what depends on the answers."""
        if len(self.query(Step)) < len(STEPS):  # still being put together, or being left
            return
        steps = [self.query_one(f"#step-{name}", Step) for name in STEPS]
        done = {s.TITLE: s.ready for s in steps} | {_("Plan"): False}
        refused = [f"{n} {s.TITLE}" for n, s in enumerate(steps, 1) if s.refused]
        self.query_one(StepBar).show(done, self.step.TITLE, [s.TITLE for s in steps if s.refused])
        missing = [s.TITLE for s in steps if not s.ready]
        text = _("Ready: {key} compares full, LoRA and QLoRA.").format(key=keys.name("recommend", "ctrl+r"))
        if missing:
            text = _("Still needed: {steps}.").format(steps=_(", ").join(missing))
        if refused:
            text = _("Cannot be used: {steps}.").format(steps=_(", ").join(refused))
        self.query_one("#ready", Static).update(Content(text))
        data = self.query_one(DataStep).known
        rows = (data.facts.rows, data.facts.eval_rows) if data is not None else (None, None)
        self.query_one(LimitsStep).know(*rows, named=bool(self.field("held-out").value))
        self._estimate()

    @work(exclusive=True, group="estimate", exit_on_error=False)
    async def _estimate(self) -> None:
        """What the three methods would need, with what is known so far."""
        model, data, machine = self.query_one(ModelStep).known, self.query_one(DataStep).known, self.loracle.machine
        line = self.query_one("#memory-line", Static)
        if model is None or machine is None:
            without = _("needs another model: step 2 says why") if self.query_one(ModelStep).refused else _("needs a model")
            waits = _("inspecting the machine") if model is not None else without
            line.update(Content.styled(f"{_('Memory')}  {waits}", "dim"))
            return
        candidates, advice = await in_thread(engine_side.so_far, machine, model, data, self.draft)
        line.update(views.memory_line(candidates, whole=data is not None))
        self.query_one(DataStep).tell(advice)

    @on(Step.Done)
    @on(Button.Pressed, "#go")
    def _next(self) -> None:
        at = STEPS.index(str(self.query_one(ContentSwitcher).current).removeprefix("step-"))
        if at + 1 < len(STEPS):
            self._show(STEPS[at + 1])
        else:
            self.action_recommend()

    @on(Button.Pressed, "#before")
    def action_back(self) -> None:
        """One step back; from the first one to where one came from."""
        at = STEPS.index(str(self.query_one(ContentSwitcher).current).removeprefix("step-"))
        if at > 0:
            self._show(STEPS[at - 1])
        else:
            super().action_back()

    @on(StepBar.Pressed)
    def _pressed(self, event: StepBar.Pressed) -> None:
        if event.index < len(STEPS):
            self._show(STEPS[event.index])
        else:
            self.action_recommend()

    def action_go(self, step: str) -> None:
        """Show that step."""
        self._show(step)

    @on(GoalStep.Demo)
    async def _demo(self, event: GoalStep.Demo) -> None:
        draft = await in_thread(engine_side.demo, event.kind)
        if draft is None:
            self.say(_("The demo's files are not here."), "warning")
            return
        self.field("model").fill(draft.model)
        self.field("data").fill(draft.data)
        self.field("held-out").fill(draft.held_out)
        self._show("data")
        self._to_plan = True
        self.query_one(ModelStep).look(final=True)
        self.query_one(DataStep).look(final=True)

    @on(DataStep.Longer)
    def _longer(self, event: DataStep.Longer) -> None:
        draft = self.draft
        for method in METHODS:
            draft = draft.with_setting(method, "max_length", str(event.length))
        self._take(draft)
        self._changed()

    def action_recommend(self) -> None:
        """On to the plan."""
        model, data = self.query_one(ModelStep).known, self.query_one(DataStep).known
        if model is None or data is None:
            if self.query_one(ModelStep).looking or self.query_one(DataStep).looking:
                self._to_plan = True
                self.query_one("#ready", Static).update(Content(_("Inspecting model and data; the plan follows.")))
            else:
                self.say(_("A valid model and valid data are needed first."), "warning")
                self.query_one(ModelStep).look(final=True, again=True)
                self.query_one(DataStep).look(final=True, again=True)
            return
        self._open_plan(model, data)

    @work(exclusive=True, group="plan", exit_on_error=False)
    async def _open_plan(self, model: "ModelInspection", data: "DataInspection") -> None:
        if await self.query_one(DataStep).look_if_changed():
            self._to_plan = True
            self.query_one("#ready", Static).update(Content(_("The data has changed: it is read again; the plan follows.")))
            return
        from tui.screens.recommendation import RecommendationScreen

        self.app.clear_notifications()  # what was said here would lie over the plan
        self.app.push_screen(RecommendationScreen(model, data, self.draft, self._take_back))

    def action_browse(self) -> None:
        """Pick a file for the field that has the focus (that of the step otherwise)."""
        from tui.screens.files import FilesScreen

        focused = self.focused.id if self.focused is not None else None
        usual = "model" if isinstance(self.step, ModelStep) else "data"
        target = focused if focused in ("model", "data", "held-out") else usual
        start = Path(os.path.expanduser(self.field(target).value or "."))

        def picked(path: Path | None) -> None:
            if path is not None:
                self.field(target).fill(str(path))
                self.query_one(f"#{target}").focus()

        self.app.push_screen(FilesScreen(start, folders=target == "model"), picked)
