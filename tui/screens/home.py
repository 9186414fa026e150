"""Home: all runs, newest first."""

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Static

from engine.text import one_line
from tui import judged
from tui.background import in_thread
from tui.screens.base import LoracleScreen
from tui.words import metric, seconds_ago, status_with_sign

if TYPE_CHECKING:
    from tui.work import RunRow

SHORT = {"accuracy": "acc"}
REFRESH_SECONDS = 5.0


class HomeScreen(LoracleScreen):
    """The list of runs. With none yet the set-up opens at once."""

    ABOUT = "All runs, newest first. A run that is going on can be watched; a stopped or dead one can be resumed."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New run", id="new", tooltip="Choose a model and data"),
        Binding("enter", "open", "Open", id="open", tooltip="Watch the run, or see its result"),
        Binding("r", "resume", "Resume", id="resume", tooltip="Go on with a stopped, failed or dead run"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
    ]

    def __init__(self, *, go_to_setup: bool) -> None:
        super().__init__()
        self._go_to_setup = go_to_setup
        self._rows: list[RunRow] = []
        self._looked = False

    def body(self) -> ComposeResult:
        table: DataTable[Text] = DataTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield table
        yield Static(Content.styled("Looking for earlier runs…", "dim"), id="note", markup=False)

    def on_mount(self) -> None:
        self.query_one(DataTable).add_columns("run", "state", "method", "best", "started")
        self.machine_known()
        self.call_after_refresh(self.load)
        self.set_interval(REFRESH_SECONDS, self._refresh_if_shown)

    def machine_known(self) -> None:
        """The machine was looked at."""
        self.headline(Content.styled("Loracle", "bold"))

    def on_screen_resume(self) -> None:
        if self._looked:  # the first look waits for the first paint
            self.load()

    def _refresh_if_shown(self) -> None:
        if self.app.screen is self:
            self.load()

    @work(exclusive=True, group="runs", exit_on_error=False)
    async def load(self) -> None:
        """Read the states of all runs."""
        from tui import work as engine_side

        rows = await in_thread(engine_side.list_runs, self.loracle.runs)
        self._show(rows)
        if self._go_to_setup and not rows:
            self.loracle.open_setup()
        self._go_to_setup, self._looked = False, True

    def _show(self, rows: "list[RunRow]") -> None:
        table = self.query_one(DataTable)
        cursor = table.cursor_row
        table.clear()
        for row in rows:
            name = SHORT.get(row.metric, judged.words(row.metric))
            score = f"{name} {metric(row.score)}" if row.score is not None else metric(None)
            cells = (one_line(row.run.name, 60), status_with_sign(row.status), row.method, score, seconds_ago(row.started))
            table.add_row(*(Text(one_line(cell)) for cell in cells))
        self._rows = rows
        if rows:
            table.move_cursor(row=min(cursor, len(rows) - 1))
        note = "enter opens a run · n starts a new one" if rows else "No run yet: press n for the first one."
        self.query_one("#note", Static).update(Content.styled(note, "dim"))
        table.display = bool(rows)
        if rows and self.app.screen is self:
            table.focus()

    def _chosen(self) -> "RunRow | None":
        row = self.query_one(DataTable).cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing lies further back than home."""
        return action != "back"

    def action_new(self) -> None:
        """Go to set-up."""
        self.loracle.open_setup()

    @on(DataTable.RowSelected)
    def action_open(self) -> None:
        """Watch the run under the cursor, or see what came out."""
        row = self._chosen()
        if row is not None:
            self.loracle.open_run(row.run, result=row.status == "done")

    def action_resume(self) -> None:
        """Open the run under the cursor and go on with it."""
        row = self._chosen()
        if row is None:
            return
        if row.status in ("stopped", "failed", "dead"):
            from tui.screens.run import RunScreen

            self.app.push_screen(RunScreen(row.run, resume=True))
        else:
            self.say(f"{row.run.name} is {row.status}: only a stopped, failed or dead run can be resumed.", "warning")

    def action_down(self) -> None:
        """Cursor down."""
        self.query_one(DataTable).action_cursor_down()

    def action_up(self) -> None:
        """Cursor up."""
        self.query_one(DataTable).action_cursor_up()
