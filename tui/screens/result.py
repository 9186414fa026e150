"""The result: before and after, what it cost, where the model is."""

from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.text import one_line
from recommender.errors import LoracleError
from tui import views_result as views
from tui import work as engine_side
from tui.background import in_thread
from tui.screens.base import LoracleScreen

if TYPE_CHECKING:
    from engine.rundir import RunDirectory

PARTS = (views.scores, views.statements, views.samples, views.per_class, views.confusion, views.cost)


class ResultScreen(LoracleScreen):
    """Shows report.json."""

    ABOUT = "The same held-out rows, scored with the same code before and after. Intervals are 95% paired bootstrap."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,o", "copy", "Copy model path", id="copy", tooltip="Copy the model's folder to the clipboard"),
        Binding("w", "watch", "Curve and log", id="watch", tooltip="The run's loss curve, metrics and log"),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, run: "RunDirectory") -> None:
        super().__init__()
        self.run_directory = run
        self._folder = str(run.model)

    def body(self) -> ComposeResult:
        yield VerticalScroll(id="result")

    def on_mount(self) -> None:
        self.headline(Content.styled(one_line(self.run_directory.name, 60), "bold"), Content(""))
        self.query_one("#result").focus()
        self._load()

    @work(exclusive=True, exit_on_error=False)
    async def _load(self) -> None:
        box = self.query_one("#result")
        try:
            report = await in_thread(engine_side.report, self.run_directory)
        except LoracleError as error:
            await box.mount(Static(Content.styled(one_line(error.message, 500), "$text-error"), markup=False))
            return
        if report is None:
            missing = f"{self.run_directory.report_file} is missing or damaged; w shows the run's curve and log."
            await box.mount(Static(Content.styled(one_line(missing, 500), "$text-error"), markup=False))
            return
        await self._show(report, box)

    async def _show(self, report: dict[str, Any], box: Any) -> None:
        self.headline(views.headline(report), Content(""))
        contents = [*(part(report) for part in PARTS), views.where(report, self._folder)]
        await box.mount_all(Static(content, markup=False) for content in contents)

    def action_copy(self) -> None:
        """Copy the model's folder (OSC 52)."""
        self.app.copy_to_clipboard(self._folder)
        self.say(f"Copied: {self._folder}")

    def action_watch(self) -> None:
        """The run screen, for its curve and log."""
        from tui.screens.run import RunScreen

        self.app.push_screen(RunScreen(self.run_directory))

    def action_scroll(self, step: int) -> None:
        """Scroll by a line."""
        self.query_one("#result").scroll_relative(y=step, animate=False)
