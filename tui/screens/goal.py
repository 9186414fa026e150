"""What the person wants: only questions whose answer would change the advice, each answer with what it leads to."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import keys
from tui import views_advice as views
from tui import work_plan as engine_side
from tui.background import in_thread
from tui.i18n import _
from tui.screens.dialog import Dialog
from tui.widgets.choices import Choices

if TYPE_CHECKING:
    from recommender.questions import Answer, Question


class GoalScreen(Dialog[None]):
    """Every answer is decided on at once; the screen below shows the new advice as soon as it is there.

    At least one question of the advice must matter, or have been answered. `now` gives the advice of the screen below.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,g,q", "dismiss", _("Back"), id="back")]

    def __init__(self, now: Callable[[], engine_side.Advice], decided: Callable[[engine_side.Advice], None]) -> None:
        super().__init__()
        self._now, self._decided = now, decided
        self._goal = now().facts.goal
        self._shown: set[str] = set()
        """Fields that were shown once; they stay, so that nothing moves away under the cursor."""
        self._answers: dict[str, tuple[str, Answer]] = {}
        """Field and answer by the id of their line."""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="goal"):
            yield Static(id="goal-now", markup=False)
            yield Choices(id="questions", markup=False)
            said = _("up and down move, enter chooses, {back} goes back").format(back=keys.name("back", "esc"))
            yield Static(Content.styled(said, "dim"), markup=False)

    def on_mount(self) -> None:
        self._show()
        self.query_one("#questions").focus()

    def _show(self) -> None:
        """Draw the questions, and keep the cursor on its answer."""
        advice = self._now()
        asked = [q for q in advice.questions if q.matters or q.current != q.default or q.field in self._shown]
        self._shown |= {q.field for q in asked}
        questions = self.query_one("#questions", OptionList)
        at = questions.highlighted_option.id if questions.highlighted_option is not None else None
        questions.clear_options()
        questions.add_options(self._lines(asked))
        questions.highlighted = questions.get_option_index(at) if at in self._answers and at else self._first(asked)
        self.query_one("#goal-now", Static).update(views.now(advice.recommendation))

    def _lines(self, asked: "list[Question]") -> list[Option]:
        self._answers = {}
        lines: list[Option] = []
        for question in asked:
            lines.append(Option(views.question(question, first=not lines), disabled=True))
            for n, answer in enumerate(question.answers):
                name = f"{question.field}-{n}"
                self._answers[name] = (question.field, answer)
                lines.append(Option(views.answer(question, answer), id=name))
        return lines

    def _first(self, asked: "list[Question]") -> int:
        """The line of the first question's current answer."""
        return 1 + asked[0].answers.index(asked[0].now)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        if event.option.id in self._answers:
            field, answer = self._answers[event.option.id]
            self._goal = self._goal.model_copy(update={field: answer.value})
            self._reconsider()

    @work(exclusive=True, group="goal", exit_on_error=False)
    async def _reconsider(self) -> None:
        """Exclusive: a newer answer, which holds those before it, takes the place of one that is still decided on."""
        made = now = None
        while made is None or self._now() is not now:  # something was measured meanwhile
            now = self._now()
            made = await in_thread(engine_side.reconsider, now, self._goal)
        self._decided(made)
        self._show()
