"""The settings of one method, each to be changed, with what the change would take said while one types."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.text import one_line
from recommender.errors import LoracleError
from recommender.facts import CLASSIFYING
from tui import editable, keys, views_candidate
from tui import work_plan as engine_side
from tui.cells import padded
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.dialog import Dialog
from tui.widgets.choices import Choices
from tui.words import sign

if TYPE_CHECKING:
    from recommender.plan import Plan


class EditScreen(Dialog[None]):
    """Every change is judged at once: recommending is arithmetic and takes milliseconds."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", _("Back"), id="back"),
        Binding("delete,ctrl+z", "advised", _("As advised"), id="advised", tooltip=_("Take the advised value")),
        Binding("space", "next_choice", _("Next choice"), id="next-choice", show=False,
                tooltip=_("Of a setting with few values, the next one")),
    ]

    def __init__(
        self, now: Callable[[], engine_side.Advice], method: str, taken: Callable[[engine_side.Advice], None]
    ) -> None:
        """`now` gives the advice of the screen below, which `taken` changes."""
        super().__init__()
        self._now, self._method, self._taken = now, method, taken
        advice = self._tried = now()
        """With what stands in the field, as far as that can be read."""
        facts = advice.data.facts
        classifies = facts.task in (None, *CLASSIFYING)
        self._names = editable.names(method, held_out=advice.data.eval_path is not None, classifies=classifies)
        self._reasons = engine_side.reasons_of(advice, method)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="edit"):
            yield Static(id="edit-title", markup=False)
            yield Choices(id="settings-list", markup=False, compact=True)
            with Horizontal(id="edit-row"):
                yield Static(id="edit-name", markup=False)
                yield Input(id="edit-value", compact=True, max_length=200)
            yield Static(id="edit-estimate", markup=False)
            with VerticalScroll(id="edit-notes", can_focus=False):
                yield Static(id="edit-says", markup=False)
            yield Static(id="edit-keys", markup=False)

    def on_mount(self) -> None:
        self._list(0)
        self.query_one("#settings-list").focus()

    @property
    def _advice(self) -> engine_side.Advice:
        return self._now()

    @property
    def name_now(self) -> str:
        """The setting under the cursor."""
        return self._names[self.query_one("#settings-list", OptionList).highlighted or 0]

    def _list(self, at: int) -> None:
        """Draw the settings with their values."""
        plan = engine_side.plan_with(self._advice, self._method, self._advice.draft.assignments(self._method))
        settings = self.query_one("#settings-list", OptionList)
        settings.clear_options()
        usual = engine_side.plan_with(self._advice, self._method, [])
        settings.add_options([Option(self._line(name, plan, usual)) for name in self._names])
        settings.highlighted = at
        changed = len(self._advice.draft.settings.get(self._method, {}))
        count = _("{n} changed").format(n=changed) if changed else _("as advised")
        title = _("Settings of {method}").format(method=views_candidate.NAMES[self._method])
        self.query_one("#edit-title", Static).update(Content.assemble((title, "bold"), f" {sign('·')} {count}"))

    def _line(self, name: str, plan: "Plan", advised: "Plan") -> Content:
        value, usual = (editable.written(engine_side.setting_of(p, name)) for p in (plan, advised))
        words = editable.SETTINGS[name]
        line = Content.assemble(padded(words, 40), (padded(value or sign("–"), 14), "bold" if value != usual else ""))
        if value != usual:
            line = Content.assemble(line, (_("advised: {value}").format(value=usual or sign("–")), "$text-accent"))
        return line

    @on(OptionList.OptionHighlighted)
    def _moved(self) -> None:
        """Another setting: its value goes into the field, and why it is what it is below."""
        plan = engine_side.plan_with(self._advice, self._method, self._advice.draft.assignments(self._method))
        value = self.query_one("#edit-value", Input)
        with self.prevent(Input.Changed):
            value.value = editable.written(engine_side.setting_of(plan, self.name_now))
        self._tried = self._advice
        self.query_one("#edit-name", Static).update(Content.styled(self.name_now.removeprefix("data."), "bold"))
        self._say(None)

    @on(OptionList.OptionSelected)
    def _chosen(self) -> None:
        self.query_one("#edit-value", Input).focus()  # its text is selected: typing takes its place

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        """Judge what was typed so far."""
        wrong = None
        try:
            self._tried = engine_side.change(self._advice, self._method, self.name_now, event.value.strip() or None)
        except LoracleError as error:
            self._tried, wrong = self._advice, in_words(error.message).removeprefix("--set: ").removeprefix("--set ")
        self._say(wrong)

    @on(Input.Submitted)
    def _take(self) -> None:
        """Keep what was typed, if it can be kept."""
        value = self.query_one("#edit-value", Input).value.strip()
        try:
            advice = engine_side.change(self._advice, self._method, self.name_now, value or None)
        except LoracleError:  # is being said already
            return
        self._keep(advice)

    def _keep(self, advice: engine_side.Advice) -> None:
        self._taken(advice)
        at = self.query_one("#settings-list", OptionList).highlighted or 0
        self._list(at)
        self.query_one("#settings-list").focus()
        self._moved()

    def action_advised(self) -> None:
        """Take the advised value back."""
        self._keep(engine_side.change(self._advice, self._method, self.name_now, None))

    def action_next_choice(self) -> None:
        """Of a setting with few values, the next one."""
        choices = editable.choices(self.name_now)
        if not choices:
            self._chosen()
            return
        now = self.query_one("#edit-value", Input).value
        start = choices.index(now) if now in choices else -1
        for step in range(1, len(choices)):
            try:
                value = choices[(start + step) % len(choices)]
                advice = engine_side.change(self._advice, self._method, self.name_now, value)
            except LoracleError:  # one of them may need another setting first
                continue
            self._keep(advice)
            return

    def action_back(self) -> None:
        """From the field to the list, from the list to the plan."""
        if self.query_one("#edit-value").has_focus:
            self.query_one("#settings-list").focus()
            self._moved()
        else:
            self.dismiss()

    @on(DescendantFocus)
    def _keys(self) -> None:
        """The keys that work where the focus is."""
        editing = self.query_one("#edit-value").has_focus
        back = keys.name("back", "esc")
        said = _("enter keeps it · {back} leaves it").format(back=back)
        if not editing:
            words = _("enter changes · {next} next choice · {advised} as advised · {back} goes back")
            said = words.format(next=keys.name("next-choice", "space"), advised=keys.name("advised", "del"), back=back)
        self.query_one("#edit-keys", Static).update(Content.styled(said, "dim"))

    def _say(self, wrong: str | None) -> None:
        """What the settings as they stand would take, what is wrong with them, and why the advised value is what it is."""
        self.query_one("#edit-estimate", Static).update(views_candidate.estimate(self._tried.candidate(self._method)))
        lines = []
        if wrong is not None:
            lines.append(Content.styled(f"{sign('✗')} {one_line(wrong, 300)}", "$text-error"))
        lines += [Content.styled(f"! {one_line(c.text, 300)}", "$text-warning") for c in self._tried.cautions(self._method)]
        if choices := editable.choices(self.name_now):
            lines.append(Content.styled(_("One of {choices}.").format(choices=", ".join(choices)), "dim"))
        why = self._reasons.get(self.name_now.removeprefix("data."))
        if why:
            lines.append(Content.styled(one_line(why, 500), "dim"))
        self.query_one("#edit-says", Static).update(Content("\n").join(lines))
