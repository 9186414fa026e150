"""Set-up, goal: what the model is to learn, or the demo."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import keys
from tui.draft import Draft
from tui.goal import TO_LEARN
from tui.i18n import _
from tui.screens.step import Step
from tui.widgets.choices import Choices
from tui.words import sign


class GoalStep(Step):
    """A list; the first answer is taken when nothing is said."""

    TITLE = _("Goal")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "demo('support')", _("Try the demo"), id="demo", tooltip=_("A small encoder and 600 support messages")),
        Binding("D", "demo('chat')", _("Chat demo"), id="demo-chat", tooltip=_("A small chat model and 212 conversations")),
    ]

    @dataclass
    class Demo(Message):
        """The demo is wanted."""

        kind: str

    def __init__(self, draft: Draft) -> None:
        super().__init__(id="step-goal")
        self._purpose = ""
        self._chat_demo = False
        self._read(draft.goal)

    def compose(self) -> ComposeResult:
        yield Static(Content.styled(_("What is the model to learn?"), "bold"), markup=False)
        yield Choices(id="purposes", markup=False, compact=True)
        yield Static(id="goal-more", markup=False)

    def on_mount(self) -> None:
        self._show()
        self.know_demos(chat=False)

    def know_demos(self, *, chat: bool) -> None:
        """Whether the chat demo's model is here."""
        self._chat_demo = chat
        lines = [
            _("Enter goes on. Everything can be changed later; nothing is required."),
            "",
            _("New here? {key} tries the demo: a small encoder learns to classify 600 messages.").format(
                key=keys.name("demo", "d")
            ),
        ]
        words = _("{key} tries the chat demo: a small model learns to answer in 212 conversations.")
        lines += [words.format(key=keys.name("demo-chat", "D"))] if chat else []
        self.query_one("#goal-more", Static).update(Content.styled("\n".join(lines), "$text-muted"))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The chat demo is offered where its model is."""
        return not (action == "demo" and parameters == ("chat",) and not self._chat_demo)

    def _show(self) -> None:
        purposes = self.query_one("#purposes", OptionList)
        purposes.clear_options()
        for name, words in TO_LEARN.items():
            mark = sign("●") if name == self._purpose else " "
            purposes.add_option(Option(Content(f"({mark}) {words}")))
        purposes.highlighted = list(TO_LEARN).index(self._purpose) if self._purpose in TO_LEARN else 0

    def _read(self, goal: Mapping[str, Any]) -> None:
        self._purpose = str(goal.get("purpose", ""))
        self._others: dict[str, Any] = {n: v for n, v in goal.items() if n not in ("purpose", "time_budget_hours")}

    def take(self, goal: Mapping[str, Any]) -> None:
        """Something else was said of the goal elsewhere."""
        self._read(goal)
        self._show()

    def said(self) -> dict[str, Any]:
        return {"goal": self._others | ({"purpose": self._purpose} if self._purpose else {})}

    def enter(self) -> None:
        self.query_one("#purposes").focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._purpose = list(TO_LEARN)[event.option_index]
        self._show()
        self.post_message(self.Said())
        self.post_message(self.Done())

    def action_demo(self, kind: str) -> None:
        """Fill in the demo."""
        self.post_message(self.Demo(kind))
