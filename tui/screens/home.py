"""Home: all runs, newest first."""

import threading
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from engine.text import one_line
from tui import keys
from tui import views_home as views
from tui.background import in_thread
from tui.cells import fitted
from tui.i18n import _, plural
from tui.screens.home_trash import HomeTrash
from tui.widgets.run_filter import RunFilter
from tui.widgets.run_table import RunTable
from tui.words import LIVE, short_name, sign, status_word

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from tui.run_rows import RunRow

REFRESH_SECONDS = 5.0
RESUMABLE = ("stopped", "failed", "dead", "")
"""Whether a run that was not read yet can be resumed, its screen finds out."""
MOST_MARKED = 4
OF_RUNS = frozenset({"open", "attach", "resume", "mark", "compare", "replay", "delete", "filter"})


class HomeScreen(HomeTrash):
    """The list of runs. With none yet the set-up opens at once."""

    ABOUT = _(
        "All runs, newest first. A run in progress can be watched; a stopped or dead one can be resumed. ~ marks scores on "
        "validation rows."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", _("New run"), id="new", tooltip=_("Choose a model and data")),
        Binding("enter", "open", _("Open"), id="open", priority=True, tooltip=_("Watch the run, or see its result")),
        Binding("a", "attach", _("Attach"), id="attach", show=False,
                tooltip=_("Watch the run in progress, or the one under the cursor")),
        Binding("r", "resume", _("Resume"), id="resume", show=False, tooltip=_("Resume a stopped, failed or dead run")),
        Binding("space", "mark", _("Mark"), id="mark", show=False, tooltip=_("Mark runs, to compare them")),
        Binding("v", "compare", _("Compare"), id="compare", tooltip=_("Compare the marked runs, or choose some")),
        Binding("p", "replay", _("Replay"), id="replay", show=False, tooltip=_("Watch the run once more, at any speed")),
        Binding("delete,backspace", "delete", _("Delete"), id="delete", key_display="del",
                tooltip=_("Move the run to the trash; it can be restored until the app is closed")),
        Binding("u", "undo", _("Undo"), id="undo", show=False, tooltip=_("Restore the run that was deleted last")),
        Binding("E", "empty", _("Empty the trash"), id="empty", show=False, tooltip=_("Delete for good and free the disk")),
        Binding("slash", "filter", _("Filter"), key_display="/", id="filter", show=False, tooltip=_("Show only some runs")),
        Binding("j", "move(1)", id="down", show=False),
        Binding("k", "move(-1)", id="up", show=False),
        Binding("g", "end(-1)", id="first", show=False),
        Binding("G", "end(1)", id="last", show=False),
    ]  # fmt: skip

    def __init__(self, *, go_to_setup: bool) -> None:
        super().__init__()
        self._go_to_setup = go_to_setup
        self._all: list[RunRow] = []
        self._rows: list[RunRow] = []
        """Those that are shown."""
        self._marked: set[str] = set()

    @property
    def live_run(self) -> "RunDirectory | None":
        """A run of the list that is going on: whoever leaves from here is told of it too."""
        return next((row.run for row in self._all if row.status in LIVE), None)

    def body(self) -> ComposeResult:
        table = RunTable(id="runs", cursor_type="row", zebra_stripes=True)
        table.display = False
        yield table
        yield RunFilter()
        yield Static(Content.styled(_("Looking for earlier runs…"), "$text-muted"), id="note", classes="-alone", markup=False)

    def on_mount(self) -> None:
        self.machine_known()
        self.set_interval(REFRESH_SECONDS, self._refresh_if_shown)

    def machine_known(self) -> None:
        """The machine was looked at."""
        self.headline(Content.styled("Loracle", "bold"))

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._refresh_if_shown)

    def _refresh_if_shown(self) -> None:
        """After the paint, and not below another screen: reading long logs twice would hold up the run that is attached to."""
        if self.app.screen is self:
            self.loracle.look_at_machine()
            self.load()

    def on_screen_suspend(self) -> None:
        """What is shown now has the processor; what was read so far is kept."""
        self.workers.cancel_group(self, "runs")

    @work(exclusive=True, group="runs", exit_on_error=False)
    async def load(self) -> None:
        """List all runs at once, and their states as they are read."""
        given_up = threading.Event()

        def meanwhile(rows: "list[RunRow]") -> None:  # called in the thread that reads
            self.call_later(self._show_meanwhile, rows, given_up)

        try:
            rows = await in_thread(self.loracle.run_list.rows, self.loracle.runs, meanwhile, given_up)
        finally:
            given_up.set()
        self._take(rows)

    def _show_meanwhile(self, rows: "list[RunRow]", given_up: threading.Event) -> None:
        if not given_up.is_set():
            self._take(rows)

    def _take(self, rows: "list[RunRow]") -> None:
        self._tell_endings(rows)
        self._show(rows)
        if self.app.screen is self:  # else it was covered in this moment, and is listed again once it is shown
            if self._go_to_setup and not rows:
                self.loracle.open_setup()
            self._go_to_setup = False

    def _tell_endings(self, rows: "list[RunRow]") -> None:
        """A run that ended while one looked elsewhere."""
        before = {row.run.path: row.status for row in self._all}
        for row in rows:
            if before.get(row.run.path) in LIVE and row.status not in LIVE:
                self.loracle.tell_elsewhere(row.run, row.status)

    def _show(self, rows: "list[RunRow]") -> None:
        self._all, before, field = rows, bool(self._rows), self.query_one(RunFilter)
        self._rows = rows = list(filter(field.takes, rows))
        if before and self._all and not rows and not field.has_focus:  # the last of them is gone, and nobody types
            self.action_back()
            return
        if bool(rows) != before:
            self.call_after_refresh(self.refresh_bindings)
        self._marked &= {str(row.run.path) for row in self._all}
        room, colours = views.room_for_names(rows, self.size.width), self.app.theme_variables
        table, whole, lines = self.query_one(RunTable), self.has_class("-wide"), {}
        for row in rows:
            key = str(row.run.path)
            lines[key] = views.cells(row, room, colours, whole=whole, marked=key in self._marked)
        table.show(views.COLUMNS, lines)
        self._note()
        table.display = bool(rows)
        self.query_one("#note").set_class(not rows, "-alone")
        if rows and self.app.screen is self and self.focused is None:
            table.focus()

    def on_resize(self, event: events.Resize) -> None:
        """Names are cut for the width there is. (Textual calls the handlers of all classes.)"""
        if self._rows:
            self.call_after_refresh(lambda: self._show(self._all))

    def _note(self) -> None:
        new, compare = keys.name("new", "n"), keys.name("compare", "v")
        if not self._rows and self._all:
            said = _("No run has all of these words.")
        elif self.query_one(RunFilter).has_focus:  # where n, u and space are typed
            words = _("{open} opens a run · {back} shows all runs")
            said = words.format(open=keys.name("open", "enter"), back=keys.name("back", "esc"))
        elif self.loracle.discarded:
            words = _("{name} is in the trash: {undo} restores it, {empty} frees its disk.")
            name = fitted(one_line(short_name(self.loracle.discarded[-1].name)), 26)
            said = words.format(name=name, undo=keys.name("undo", "u"), empty=keys.name("empty", "E"))
        elif not self._rows:
            said = _("No run yet: press {new} for the first one.").format(new=new)
        elif self._marked:
            words = plural("{n} run marked · {compare} compares", "{n} runs marked · {compare} compares", len(self._marked))
            said = words.format(n=len(self._marked), compare=compare)
        elif any(row.score is not None and not row.held_out for row in self._rows):
            words = _("{mark} marks, {compare} compares · ~ on validation rows, others on held-out rows")
            said = words.format(mark=keys.name("mark", "space"), compare=compare)
        else:
            words = _("{open} opens a run · {new} starts a new one · {mark} marks, {compare} compares")
            said = words.format(open=keys.name("open", "enter"), new=new, mark=keys.name("mark", "space"), compare=compare)
        self.query_one("#note", Static).update(Content.styled(said.replace("·", sign("·")), "$text-muted"))

    def _chosen(self) -> "RunRow | None":
        row = self.query_one(RunTable).cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing lies further back than home, and what is done to runs needs one."""
        if action in OF_RUNS:
            return bool(self._rows)
        if action in ("undo", "empty"):
            return bool(self.loracle.discarded)
        return action != "back" or (bool(found := self.query(RunFilter)) and found.first().display)

    @on(Input.Changed, "#filter")
    def action_filter(self) -> None:
        """Show the runs with the words of that line, which is opened."""
        field = self.query_one(RunFilter)
        if not field.display:
            field.display = True
            field.focus()
            self.refresh_bindings()
        self._show(self._all)

    def action_back(self) -> None:
        """To all runs; nothing else lies further back."""
        field = self.query_one(RunFilter)
        with self.prevent(Input.Changed):
            field.value = ""
        field.display = False
        self._show(self._all)
        self.query_one(RunTable).focus()
        self.refresh_bindings()

    def copyable(self) -> tuple[str, str] | None:
        """The folder of the run under the cursor."""
        row = self._chosen()
        return (str(row.run.path), str(row.run.path)) if row is not None else None

    def action_new(self) -> None:
        """Go to set-up."""
        self._go_to_setup = False
        self.loracle.open_setup()

    @on(DataTable.RowSelected)
    def action_open(self) -> None:
        """Watch the run under the cursor, or see what came out."""
        row = self._chosen()
        if row is not None:
            done = row.status == "done" or (not row.status and row.run.report_file.is_file())
            self.loracle.open_run(row.run, result=done)

    def action_attach(self) -> None:
        """Watch the one that goes on; where several do, or none, the one under the cursor."""
        live = [row for row in self._rows if row.status in LIVE]
        row = live[0] if len(live) == 1 else self._chosen()
        if row is not None:
            self.loracle.open_run(row.run)

    def action_resume(self) -> None:
        """Open the run under the cursor and go on with it."""
        row = self._chosen()
        if row is None:
            return
        if row.status in RESUMABLE:
            from tui.screens.run import RunScreen

            self.app.push_screen(RunScreen(row.run, resume=True))
        else:
            words = _("{name} is {state}: only a stopped, failed or dead run can be resumed.")
            self.say(words.format(name=row.run.name, state=status_word(row.status)), "warning")

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away."""
        row = self._chosen()
        if row is None:
            return
        key = str(row.run.path)
        if key in self._marked or len(self._marked) < MOST_MARKED:
            self._marked ^= {key}
            self._show(self._all)
        else:
            self.say(_("Four runs at most."), "warning")

    def action_compare(self) -> None:
        """Compare what is marked; a single run with others that are chosen then."""
        marked = [row.run for row in self._all if str(row.run.path) in self._marked]
        row = self._chosen()
        if len(marked) > 1:
            self.loracle.open_compare(marked)
        elif marked or row is not None:
            self.loracle.choose_to_compare(marked[0] if marked else row.run)  # type: ignore[union-attr]

    def action_replay(self) -> None:
        """Play the run under the cursor once more."""
        row = self._chosen()
        if row is not None:
            self.loracle.open_replay(row.run)

    def action_move(self, step: int) -> None:
        """Cursor down or up."""
        table = self.query_one(RunTable)
        table.move_cursor(row=table.cursor_row + step)

    def action_end(self, which: int) -> None:
        """To the first or last run."""
        self.query_one(RunTable).move_cursor(row=0 if which < 0 else len(self._rows) - 1)
