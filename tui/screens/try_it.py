"""Try it: a text of one's own, and what the untouched model and the result say to it, side by side."""

import time
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input

from engine.text import clean, one_line
from recommender.errors import LoracleError
from recommender.figures import share
from tui import keys
from tui.background import in_thread
from tui.cells import padded
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.panes import PanesScreen
from tui.widgets.pane import TextPane
from tui.widgets.quiet import Quiet
from tui.words import duration, sign, unicode_terminal

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from engine.trying import Trial

TICK_SECONDS = 0.5
LABEL, MOST_BAR, AFTER = 17, 20, 6
"""Cells of a label, of the longest bar, and of the share behind it."""
MOST_KEPT = 50


class Question(Input):
    """The text to ask; Textual's own field would scroll with these keys, if it could."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.recall(-1)", _("Earlier text"), id="text-earlier", show=False, tooltip=_("The text typed before")),
        Binding("down", "screen.recall(1)", _("Later text"), id="text-later", show=False, tooltip=_("The text typed after")),
    ]


class TryScreen(PanesScreen):
    """A child process holds both models for as long as this screen is open."""

    ABOUT = _(
        "Type a text and press enter: both models answer it. For pairs, type both texts with ||| between them. Nothing is kept."
    )

    def __init__(self, run: "RunDirectory") -> None:
        super().__init__()
        self.run_directory = run
        self._trial: Trial | None = None
        self._ready = False
        self._asked: list[str] = []
        self._at = 0
        self._since: float | None = None
        self._doing = ""
        self._waiting = ""
        """What was entered before the models were there."""
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        with Horizontal(id="answers-of"):
            yield TextPane(1, _("untouched model"), id="said-base")
            yield TextPane(2, _("result"), id="said-tuned")
        yield Quiet(id="hint", grows=True)
        yield Question(id="text", placeholder=_("A text to try; enter asks both models"), compact=True)

    def on_mount(self) -> None:
        name = one_line(self.run_directory.name, 60)
        self.headline(Content.assemble((name, "bold"), f" {sign('·')} {_('try it')}"), Content(""))
        self.query_one(Input).focus()
        self._timer = self.set_interval(TICK_SECONDS, self._tick)
        self._load()

    async def on_unmount(self) -> None:
        """The child goes with the screen."""
        if self._trial is not None:
            await self._trial.close()

    def _busy(self, words: str, since: float | None = None) -> None:
        self._doing, self._since = words, since or time.monotonic()
        self._tick()

    def _idle(self, words: str, *, wrong: bool = False) -> None:
        self._since = None
        hint = self.query_one("#hint", Quiet)
        hint.set_class(wrong, "-alarm")
        hint.show(Content(one_line(words, 400)))

    def _tick(self) -> None:
        """No wait without a word."""
        if self._since is not None:
            waited = time.monotonic() - self._since
            self.query_one("#hint", Quiet).show(Content(f"{self._doing} {duration(waited)}"))

    @work(exclusive=True, group="try", exit_on_error=False)
    async def _load(self) -> None:
        from engine import launch
        from engine.trying import Trial

        self._busy(_("Loading both models…"))
        self._trial = Trial(self.run_directory)
        try:
            await self._trial.start(await in_thread(launch.environment))
        except LoracleError as error:
            self._idle(in_words(error.message), wrong=True)
            return
        self._ready = True
        self._idle(self._welcome())
        field = self.query_one(Input)
        if self._waiting and field.value.strip() == self._waiting:
            await field.action_submit()

    def _welcome(self) -> str:
        assert self._trial is not None
        system, tools = self._trial.system, ", ".join(self._trial.tools)
        told = [_("system message “{words}”").format(words=one_line(system, 20))] if system else []
        told += [_("tools {names}").format(names=one_line(tools, 14))] if tools else []
        words = _("Ready, as your rows ask: {what}") if told else _("Ready: type a text and press enter.")
        return words.format(what=_(", ").join(told))

    @on(Input.Submitted, "#text")
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text:
            return
        if self._since is not None and not self._ready:
            self._waiting = text
            self._busy(_("Your text is answered as soon as both models are loaded…"), since=self._since)
            return
        if not self._ready or self._since is not None:
            self.say(_("One moment: the models are still answering."), "warning")
            return
        self._waiting = ""
        self._asked = [*(t for t in self._asked if t != text), text][-MOST_KEPT:]
        self._at = len(self._asked)
        event.input.value = ""
        self._ask(text)

    @work(exclusive=True, group="try", exit_on_error=False)
    async def _ask(self, text: str) -> None:
        assert self._trial is not None
        self._busy(_("Both models answer…"))
        question = Content.styled(clean(text, 2_000), "bold")
        for side in ("base", "tuned"):
            self.query_one(f"#said-{side}", TextPane).show(question)

        def told(side: str, words: str) -> None:
            if side in ("base", "tuned") and self.is_attached:
                self.query_one(f"#said-{side}", TextPane).show(Content.assemble(question, "\n\n", clean(words, 10_000), "…"))

        try:
            found = await self._trial.ask(text, told)
        except LoracleError as error:
            self._idle(in_words(error.message), wrong=True)
            return
        for side in ("base", "tuned"):
            pane = self.query_one(f"#said-{side}", TextPane)
            said = answer(found.get(side), pane.scrollable_content_region.width)
            pane.show(Content.assemble(question, "\n\n", said))
        took = found.get("seconds")
        words = _("Answered in {time}; {key} brings back a text.")
        self._idle(words.format(time=duration(float(took) if took else None), key=keys.name("text-earlier", "up")))

    def action_recall(self, step: int) -> None:
        """Texts typed before."""
        if self._asked:
            self._at = min(max(self._at + step, 0), len(self._asked))
            field = self.query_one(Input)
            field.value = self._asked[self._at] if self._at < len(self._asked) else ""
            field.cursor_position = len(field.value)


def answer(found: Any, width: int) -> Content:
    """What a model said, with how sure it is of each label, in `width` cells."""
    if not isinstance(found, dict):
        return Content("")
    lines = [Content.styled(clean(found.get("text") or _("(nothing)"), 10_000), "$text-accent")]
    shares = [pair for pair in found.get("shares") or [] if isinstance(pair, list) and len(pair) == 2]
    if shares:
        lines.append(Content(""))
    full, empty = ("█", "·") if unicode_terminal() else ("#", ".")
    room = min(max(width - LABEL - AFTER, 4), MOST_BAR)
    for label, value in shares:
        part = float(value) if isinstance(value, int | float) else 0.0
        cells = round(part * room)
        bar = Content.assemble((full * cells, "$primary"), (empty * (room - cells), "$text-disabled"))
        lines.append(Content.assemble(padded(one_line(label, LABEL - 1), LABEL), bar, f" {share(part):>5}"))
    return Content("\n").join(lines)
