"""Set-up, model: typed, or taken from what was used last, lies here, is in the hub's cache, or is found on the hub."""

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.events import DescendantBlur, Key
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from engine.inspection.child import Cancel
from engine.text import one_line
from recommender.errors import LoracleError
from tui import views_setup as views
from tui import work_setup as engine_side
from tui.background import in_thread
from tui.cells import padded
from tui.draft import Draft
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.step import PAUSE, Step
from tui.widgets.choices import Options
from tui.widgets.field import Field
from tui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from engine.inspect import ModelInspection

SEARCH_PAUSE = 0.8
"""Seconds without a key before the hub is asked."""
SHORTEST = 3
"""Letters from which on the hub is asked."""
REST_SECONDS = 60.0
"""After a search that reached no hub, until the next one is tried."""


class ModelStep(Step):
    """A field, and below it what could be meant."""

    TITLE = _("Model")
    HELP = _("Type a folder or a hub id, or press down for models used last, in this folder, in the hub's cache or on the hub.")

    def __init__(self, draft: Draft) -> None:
        super().__init__(id="step-model")
        self._start = draft.model
        self.known: ModelInspection | None = None
        self._asked: str | None = None
        """The name that was asked about last; the same question is not asked twice."""
        self._going_on = False
        """Enter was pressed on what is still looked at: on to the next step once it is known."""
        self._here: list[tuple[str, str]] = []
        self._hub: list[tuple[str, str]] = []
        self._shown: list[str] = []
        self._hub_words = ""
        """What came of asking the hub, in the frame of the list."""
        self._no_hub_until = 0.0

    def compose(self) -> ComposeResult:
        hint = _("A folder with config.json, a hub id, or demo; tab completes.")
        yield Field(_("Model"), self._start, name="model", files=False, placeholder=_("folder, hub id or demo"), hint=hint)
        choices = Options(id="models", markup=False, compact=True)
        choices.border_title = _("to choose from: down moves there, enter takes one")
        yield choices

    def on_mount(self) -> None:
        self._look_around()

    @property
    def field(self) -> Field:
        """The field of the model's name."""
        return self.query_one("#model-field", Field)

    @property
    def ready(self) -> bool:
        return self.known is not None

    def said(self) -> dict[str, Any]:
        return {"model": self.field.value}

    def enter(self) -> None:
        self.query_one("#model").focus()

    @work(exclusive=True, group="models", exit_on_error=False)
    async def _look_around(self) -> None:
        self._here = await in_thread(engine_side.models_here)
        self._list()

    def _list(self) -> None:
        """What could be meant by what is typed; all there is while nothing is, or nothing that can be used."""
        typed = self.field.value.lower()
        taken = self.known is not None or self.refused
        fitting = [(n, w) for n, w in (*self._here, *self._hub) if taken or typed in n.lower()]
        choices = self.query_one("#models", OptionList)
        at = None if choices.highlighted is None else self._shown[choices.highlighted]
        choices.clear_options()
        self._shown = list(dict(fitting))
        where = dict(reversed(fitting))
        choices.add_options([Option(_line(name, where[name]), id=name) for name in self._shown])
        choices.highlighted = self._shown.index(at) if at in self._shown else None
        choices.border_subtitle = self._hub_words
        choices.display = bool(self._shown or self._hub_words)

    @on(Input.Changed, "#model")
    def _typed(self) -> None:
        self._going_on = False
        self.look(final=False)
        self._list()
        self._search(self.field.value)

    @on(DescendantBlur)
    def _left(self) -> None:
        self.call_after_refresh(self._look_if_left)

    def _look_if_left(self) -> None:
        """What is typed is meant, unless something is about to be chosen for it."""
        if self.query("#model-field") and not self.query("#model:focus, #models:focus"):
            self.look(final=True)

    @on(Input.Submitted, "#model")
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        if self.known is not None and self._asked == self.field.value:
            self.post_message(self.Done())
        else:
            self._going_on = True
            self.look(final=True, again=True)

    @on(OptionList.OptionSelected, "#models")
    def _taken(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.field.fill(str(event.option_id))  # by now there may be other names at its place
        self.look(final=True, again=True)
        self.enter()

    @on(PathInput.Alternatives)
    def _alternatives(self, event: PathInput.Alternatives) -> None:
        event.stop()
        self.field.offer(views.names_of(event.names))

    def on_key(self, event: Key) -> None:
        """Down leads from the field into the list."""
        if event.key == "down" and self.query_one("#model").has_focus and self._shown:
            event.stop()
            choices = self.query_one("#models", OptionList)
            choices.focus()
            choices.highlighted = 0

    @work(exclusive=True, group="hub", exit_on_error=False)
    async def _search(self, text: str) -> None:
        """Ask the hub, unless what is typed can only be a folder or the model is known already."""
        await asyncio.sleep(SEARCH_PAUSE)
        if len(text) < SHORTEST or text.startswith(("/", ".", "~")) or self.known is not None:
            self._hub_says("")
            return
        if time.monotonic() < self._no_hub_until:
            return
        self._hub_says(_("asking the hub…"))
        found = await in_thread(engine_side.models_on_hub, text)
        if found is None:
            self._no_hub_until = time.monotonic() + REST_SECONDS
            self._hub_says(_("no answer from the hub: only what is on this machine"))
            return
        self._hub = found
        self._hub_says("" if found else _("the hub has nothing by that name"))

    def _hub_says(self, words: str) -> None:
        self._hub_words = words
        self._list()

    def look(self, *, final: bool, again: bool = False) -> None:
        """Ask about the model, unless that very question was asked already."""
        name = self.field.value
        if self._asked == name and not (again and self.known is None):
            return
        self._asked = None
        self.known = None
        self.looking, self.refused = True, False
        self.post_message(self.Said())
        self._ask(name, final)

    @work(exclusive=True, group="model", exit_on_error=False)
    async def _ask(self, name: str, final: bool) -> None:
        """Exclusive: a newer question cancels this one, so a late answer never overwrites a newer one."""
        if not name:
            self.field.hint()
            self.looking = False
            return
        if not final:
            await asyncio.sleep(PAUSE)
            if not await in_thread(_is_local_model, name):
                self.field.hint(self.field.offered or _("enter looks for this model on the hub"))
                self.looking = False
                return
        self._asked = name
        self.field.hint(_("looking…"))
        try:
            with Cancel() as cancel:
                self.known = await in_thread(engine_side.inspect_model, name, cancel)
        except (LoracleError, OSError, RuntimeError) as error:
            self.field.wrong(in_words(getattr(error, "message", str(error))))
            self.looking, self.refused, self._going_on = False, True, False
            self._list()
            self.post_message(self.Said())
            return
        self.field.note(views.model_facts(self.known))
        self._list()
        self.looking = False
        self.post_message(self.Said())
        if self._going_on and self.has_focus_within:
            self.post_message(self.Done())
        self._going_on = False


def _line(name: str, where: str) -> Content:
    return Content.assemble(padded(one_line(name, 44), 46), (where, "$text-muted"))


def _is_local_model(name: str) -> bool:
    return name in ("demo", "demo-chat") or os.path.isfile(os.path.join(os.path.expanduser(name), "config.json"))
