"""Set-up, data: files of rows, what was found in them, and what can be put right with one key."""

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.events import DescendantBlur, Resize
from textual.message import Message
from textual.widgets import Input, Static

from engine.files import expanded
from engine.inspection.child import Cancel
from engine.inspection.layouts import nameable
from recommender.errors import LoracleError
from tui import keys
from tui import views_setup as views
from tui import work_setup as engine_side
from tui.background import in_thread
from tui.draft import Draft
from tui.error_words import in_words
from tui.i18n import _
from tui.observations import columns_of
from tui.progress import amount
from tui.screens.pick import PickScreen
from tui.screens.step import PAUSE, Step
from tui.screens.step_data_found import Found
from tui.widgets.field import Field
from tui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from engine.inspect import DataInspection
    from recommender.recommendation import Recommendation

BESIDE_FINDINGS = 5
"""Cells of the frame and the scroll bar."""


class DataStep(Step):
    """Two fields, what was found, the first rows."""

    TITLE = _("Data")

    @dataclass
    class Longer(Message):
        """Rows are to be read up to that many tokens."""

        length: int

    def __init__(self, draft: Draft) -> None:
        super().__init__(id="step-data")
        self._start = draft
        self.known: DataInspection | None = None
        self.tokenizer: str | None = None
        """The model's folder, once it is known: its tokenizer counts."""
        self.reads: int | None = None
        """Tokens that the model reads at most."""
        self.train_rows, self.eval_rows = draft.train_rows, draft.eval_rows
        self._for, self._columns, self._of = draft.task, dict(draft.columns), draft.data
        """What the person said of the file `_of`."""
        self._drop = draft.drop_conflicts
        self._asked: object = None
        """The question that was asked last; it is not asked twice."""
        self.final = False
        """Whether it was asked for good, and not while somebody types: then it may name a set on the hub."""
        self._reading: object = None
        self._stamps: object = None
        """What the files that are known looked like from outside when they were read."""
        self._going_on = False
        """Enter was pressed while the rows are still looked at: to what was found, once it is there."""
        self._longer: int | None = None
        self._advice: Recommendation | None = None

    def compose(self) -> ComposeResult:
        hint = _("A file, a saved set or a hub id; tab completes, {browse} lists.").format(browse=keys.name("browse", "ctrl+o"))
        yield Field(_("Training data"), self._start.data, name="data", files=True, placeholder=_("path to a file"), hint=hint)
        hint = _("Scored before and after; without it some rows are held out.")
        held_out = self._start.held_out
        yield Field(_("Held-out data"), held_out, name="held-out", files=True, placeholder=_("optional"), hint=hint)
        found = Found(id="found")
        found.border_title = _("what was found")
        found.border_subtitle = _("enter moves here, then these keys work")
        yield found

    def field(self, name: str) -> Field:
        """The field of that name: `data` or `held-out`."""
        return self.query_one(f"#{name}-field", Field)

    @property
    def ready(self) -> bool:
        return self.known is not None

    def said(self) -> dict[str, Any]:
        mine = self.field("data").value == self._of
        return {
            "data": self.field("data").value,
            "held_out": self.field("held-out").value,
            "task": self._for if mine else "",
            "columns": dict(self._columns) if mine else {},
            "drop_conflicts": self._drop and mine,
        }

    def enter(self) -> None:
        self.query_one("#found" if self.known is not None else "#data").focus()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._going_on = False
        self.look(final=False)

    @on(DescendantBlur)
    def _left(self, event: DescendantBlur) -> None:
        if event.widget.id in ("data", "held-out"):
            self.look(final=True)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        """Enter: look now; then to the other field, to what was found, and on."""
        event.stop()
        self.look(final=True, again=True)
        if event.input.id == "data":
            self.query_one("#held-out").focus()
        elif self.known is not None:
            self.query_one("#found").focus()
        else:
            self._going_on = True

    @on(PathInput.Alternatives)
    def _alternatives(self, event: PathInput.Alternatives) -> None:
        event.stop()
        self.field(str(event.field.id)).offer(views.names_of(event.names))

    def _draft(self) -> Draft:
        return Draft(train_rows=self.train_rows, eval_rows=self.eval_rows, **self.said())

    def look(self, *, final: bool, again: bool = False) -> None:
        """Ask about the rows, unless that very question was asked already."""
        if self.field("data").value != self._of:
            self._for, self._columns, self._of = "", {}, self.field("data").value
            self._drop = False
        question = (self._draft(), self.tokenizer)
        if self._asked == question and not (again and self.known is None):
            return
        self._asked, self.final = None, final
        self.known = None
        self.looking, self.refused = True, False
        self.post_message(self.Said())
        self._ask(question, final)

    async def look_if_changed(self) -> bool:
        """Ask anew where a file was put right since it was read, and say whether it was."""
        if self.known is None or self._stamps == await in_thread(_stamps, self.said()):
            return False
        self.known = None
        self.look(final=True, again=True)
        return True

    @work(exclusive=True, group="data", exit_on_error=False)
    async def _ask(self, question: tuple[Draft, str | None], final: bool) -> None:
        draft, tokenizer = question
        field, held_out = self.field("data"), self.field("held-out")
        held_out.hint(held_out.offered)  # what was wrong with it, or found in it, was told of another question
        if not draft.data:
            field.hint()
            self.query_one("#found").display = False
            self.looking = False
            return
        if not final:
            await asyncio.sleep(PAUSE)
            if not await in_thread(_are_files, draft.data, draft.held_out):
                if not await in_thread(_are_files, draft.data):  # what was found of another name says nothing of this one
                    field.hint(field.offered)
                    self.query_one("#found").display = False
                self.looking = False
                return
        self._asked = question
        field.hint(_("looking…"))
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int, unit: str) -> None:  # called in the thread that waits for the child
            loop.call_soon_threadsafe(self._tell_progress, reading, amount(done, total, unit))

        try:
            with Cancel() as reading:
                self._reading = reading
                self._stamps = await in_thread(_stamps, self.said())
                known = await in_thread(engine_side.inspect_data, draft, tokenizer, progress=tell, cancel=reading)
        except (LoracleError, OSError, RuntimeError) as error:
            message = getattr(error, "message", str(error))
            if _is_of(message, draft.held_out, draft.data):
                held_out.wrong(in_words(message))
                field.hint(_("waits for the held-out file"))
            else:
                field.wrong(in_words(message))
                if held_out.has_focus_within and not held_out.value:  # where enter led meanwhile
                    self.query_one("#data").focus()
            self.looking, self.refused, self._going_on = False, True, False
            self.post_message(self.Said())
            return
        self._reading = None
        self.known = known
        self.looking = False
        self._show(known)
        self.post_message(self.Said())
        if self._going_on and self.has_focus_within:
            self.query_one("#found").focus()
        self._going_on = False

    def _tell_progress(self, reading: object, text: str) -> None:
        """How far reading has come, unless another question was asked since."""
        if reading is self._reading and self.known is None:
            self.field("data").hint(f"{_('looking…')} {text}")

    def _show(self, known: "DataInspection") -> None:
        self.field("data").note(views.data_facts(known))
        if known.facts.eval_rows is not None:
            self.field("held-out").note(views.held_out_facts(known))
        else:
            self.field("held-out").hint()
        self.query_one("#rows", Static).update(views.preview_lines(known, 300))
        self.tell(None)
        self.query_one("#found").display = True

    def tell(self, advice: "Recommendation | None") -> None:
        """Say what was found, and what of it `advice` knows: how many rows would be cut."""
        self._advice = advice
        if self.known is not None:
            cut = next((w for w in advice.warnings if w.code in views.CUT), None) if advice is not None else None
            self._longer = views.whole_length(self.known.facts, cut, self.reads)
            found = self.query_one("#found", Found)
            found.can_read_longer = self._longer is not None
            found.can_drop_conflicts = self._drop or bool(self.known.facts.conflict_share)
            found.refresh_bindings()
            width = self.size.width - BESIDE_FINDINGS
            self.query_one("#found-lines", Static).update(views.findings(self.known, cut, self._longer, width))

    def on_resize(self, event: Resize) -> None:
        """The classes are listed for the width there is."""
        self.tell(self._advice)

    @on(Found.Fix)
    def _fix(self, event: Found.Fix) -> None:
        event.stop()
        match event.what:
            case "task":
                self.app.push_screen(PickScreen(_("What are the rows for?"), views.tasks_to_pick()), self._task_picked)
            case "column" if self.known is not None:
                roles = views.columns_to_pick(self.known.facts)
                self.app.push_screen(PickScreen(_("Which column should change?"), roles), self._role_picked)
            case "conflicts":
                self._drop = not self._drop
                self.look(final=True)
            case "length" if self._longer is not None:
                self.post_message(self.Longer(self._longer))

    def _task_picked(self, task: str | None) -> None:
        if task is not None:
            self._for, self._columns = task, {}
            self.look(final=True)

    def _role_picked(self, role: str | None) -> None:
        if role is None or self.known is None:
            return
        offered = views.columns_for(role, self.known)

        def picked(name: str | None) -> None:
            if name is not None and self.known is not None:
                columns = nameable(columns_of(self.known.facts)) | {role: name}
                self._columns = {r: n for r, n in columns.items() if n}
                self.look(final=True)

        self.app.push_screen(PickScreen(_("{role}: which column?").format(role=role), offered), picked)


def _is_of(message: str, held_out: str, data: str) -> bool:
    """Whether a message is about the held-out file: it begins with its path, or its name, if the other has another."""
    names = {held_out, str(expanded(held_out)), os.path.basename(held_out)} - {data, os.path.basename(data), ""}
    return message.startswith(tuple(f"{name}{behind}" for name in names for behind in (":", " ")))


def _are_files(*names: str) -> bool:
    return all(os.path.isfile(os.path.expanduser(n)) for n in names if n)


def _stamps(said: dict[str, Any]) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for name in (said["data"], said["held_out"]):
        try:
            seen = os.stat(os.path.expanduser(name))
        except (OSError, ValueError):
            found.append(None)
        else:
            found.append((seen.st_mtime_ns, seen.st_size))
    return found
