"""The result: before and after, what it cost, where it is still wrong, and what to do with it."""

from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.table import Table
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from engine.text import one_line
from recommender.errors import LoracleError
from tui import keys, views_wrong
from tui import views_result as views
from tui.background import in_thread
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.panes import PanesScreen
from tui.widgets.pane import Pane

if TYPE_CHECKING:
    from pathlib import Path

    from engine.rundir import RunDirectory

COPIED_WIDTH = 100


class ReportPane(Pane):
    """A part of the report; it scrolls."""

    _contents: "tuple[Content | Table, ...]" = ()

    def show(self, *contents: "Content | Table") -> None:
        """Show these, one under the other."""
        self._contents = contents
        self.query(Static).remove()
        self.mount_all(Static(content, markup=False) for content in contents)

    def copied(self) -> tuple[str, str]:
        """The part as text."""
        return self._words, as_text(*self._contents)


def as_text(*contents: "Content | Table") -> str:
    """What would stand on a screen, as plain text."""
    console = Console(width=COPIED_WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        for content in contents:
            console.print(content.plain if isinstance(content, Content) else content, markup=False, highlight=False)
    return capture.get().strip() + "\n"


def _of_group(run: "RunDirectory") -> dict[str, Any] | None:
    from engine.groups import Group

    return Group(run.group).report() if run.group is not None else None


def _is_merged(run: "RunDirectory") -> bool:
    from engine.merging import is_merged

    return is_merged(run.path / "merged")


class ResultScreen(PanesScreen):
    """Shows report.json."""

    ABOUT = _(
        "The same held-out rows, scored with the same code before and after. Intervals are 95% paired bootstrap. A linear probe "
        "is a simple classifier on what the untouched model makes of the texts; a constant answer is the best one that reads "
        "none. Macro-F1 is how well a class is found, averaged over the classes, so that rare ones count as much."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "try_it", _("Try it"), id="try", tooltip=_("Type a text: both the untouched model and the "
            "result answer it")),
        Binding("c", "pane(3)", _("Confusions"), id="confusions", show=False, tooltip=_("Where it is still wrong")),
        Binding("r", "again", _("Again"), id="again", tooltip=_("The plan of this run, to change and run again")),
        Binding("v", "compare", _("Compare"), id="compare", tooltip=_("Choose other runs to compare this one with")),
        Binding("o", "folder", _("Folder"), id="folder", tooltip=_("Open the model's folder, or copy its path")),
        Binding("M", "merge", _("Merge"), id="merge", show=False, tooltip=_("A standalone model from base and adapter")),
        Binding("Y", "copy_report", _("Copy report"), id="copy-report", show=False, tooltip=_("The whole report as text")),
        Binding("w", "watch", _("Curve and log"), id="watch", show=False, tooltip=_("The run's loss curve, metrics and log")),
        Binding("p", "replay", _("Replay"), id="replay", show=False, tooltip=_("Watch the run once more, at any speed")),
    ]  # fmt: skip

    def __init__(self, run: "RunDirectory") -> None:
        super().__init__()
        self.run_directory = run
        self._folder = str(run.model)
        self._report: dict[str, Any] | None = None
        self._spare = 0
        """Bytes of checkpoints that nothing needs any more."""
        self._merged = False
        self._note = ""
        self._of_group: dict[str, Any] | None = None
        """The report of the pilot or comparison that the run belongs to."""
        self._wide = False
        """Whether it was shown for a wide screen."""

    def body(self) -> ComposeResult:
        with Container(id="result"):
            yield ReportPane(1, _("before and after"), id="scores", help=_("! marks a gain whose interval contains zero."))
            yield ReportPane(2, _("predicted and actual"), id="cost")
            yield ReportPane(3, _("where it is still wrong"), id="wrong").add_class("lower", "-shown")
            yield ReportPane(4, _("what it means"), id="means").add_class("lower")
        yield Static(id="problem", markup=False)

    def on_mount(self) -> None:
        self._head()
        self.query_one("#scores").focus()
        self._load()

    @work(exclusive=True, exit_on_error=False)
    async def _load(self) -> None:
        try:
            report = await in_thread(self.run_directory.report)
            self._of_group = await in_thread(_of_group, self.run_directory)
            self._spare = await in_thread(self.run_directory.spare)
            self._merged = await in_thread(_is_merged, self.run_directory)
            self._note = await in_thread(self.run_directory.note)
        except LoracleError as error:
            self._problem(in_words(error.message))
            return
        if report is None:
            self._unreadable()
            return
        try:
            self._show(report)
        except Exception:
            self._report = None
            self._unreadable()
            raise  # what went wrong is said beside it

    def _unreadable(self) -> None:
        words = _("{file} is missing or damaged; {watch} shows the run's curve and log.")
        self._problem(words.format(file=self.run_directory.report_file, watch=keys.name("watch", "w")))

    def _problem(self, text: str) -> None:
        self.query_one("#result").display = False
        line = self.query_one("#problem", Static)
        line.display = True
        line.update(Content.styled(one_line(text, 500), "$text-error"))

    def on_resize(self, event: events.Resize) -> None:
        """Tables are made for the width there is."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if self._report is not None and self._wide != self.has_class("-wide"):
            self._show(self._report)

    def _show(self, report: dict[str, Any]) -> None:
        self._report, self._wide = report, self.has_class("-wide")
        self.query_one("#scores", Pane).title_words(views.scores_title(report))
        self._head()
        for pane, contents in self._parts(report).items():
            self.query_one(f"#{pane}", ReportPane).show(*contents)

    def _parts(self, report: dict[str, Any]) -> "dict[str, list[Content | Table]]":
        wrong = [views_wrong.confusion(report), views.samples(report), views_wrong.worst(report), views_wrong.per_class(report)]
        shown: list[Content | Table] = [part for part in wrong if not isinstance(part, Content) or part.plain]
        nothing = Content.styled(_("No single rows were kept."), "$text-muted")
        return {
            "scores": [views.scores(report, roomy=self.has_class("-wide"))],
            "cost": [views.cost(report, roomy=self.has_class("-wide"))],
            "wrong": shown or [nothing],
            "means": [
                *([Content.styled(f"“{self._note}”", "$text-muted")] if self._note else []),
                *([views.of_group(self._of_group)] if self._of_group else []),
                views.statements(report),
                views.where(report, self._folder, self._spare, merged=self._merged),
            ],
        }

    def action_copy_report(self) -> None:
        """Copy the whole report."""
        if self._report is None:
            self.say(_("There is no report to copy."), "warning")
            return
        contents = [content for part in self._parts(self._report).values() for content in part]
        self.copy_out(_("the report"), as_text(views.headline(self._report), *contents))

    def action_try_it(self) -> None:
        """Ask both models."""
        from tui.screens.try_it import TryScreen

        if self.run_directory.model.is_dir():
            self.app.push_screen(TryScreen(self.run_directory))
        else:
            self.say(_("The saved model is gone: {folder}").format(folder=self._folder), "warning")

    @work(exclusive=True, group="merge", exit_on_error=False)
    async def action_merge(self) -> None:
        """Ask where to, and merge in the background of the app, whose end is told wherever one is by then."""
        from engine.merging import check_adapter
        from tui.screens.merge import MergeScreen

        merges = self.loracle.merges
        if merges.run is not None:
            self.say(_("{name} is being merged; one at a time.").format(name=one_line(merges.run.name, 60)))
            return
        try:
            await in_thread(check_adapter, self.run_directory)
        except LoracleError as error:
            self.say(one_line(in_words(error.message), 300), "warning")
            return

        def answered(answer: "tuple[Path, bool] | None") -> None:
            if answer is not None:
                merges.start(self.run_directory, answer[0], replace=answer[1])

        self.app.push_screen(MergeScreen(self.run_directory.path / "merged"), answered)

    def merging(self) -> None:
        """The merge has come to something else, which the title line says."""
        if self.is_attached:
            self._head()
            if self.loracle.merges.run is None:
                self._load()

    def _head(self) -> None:
        named = Content.styled(one_line(self.run_directory.name, 60), "bold")
        left = named if self._report is None else views.headline(self._report, roomy=self.has_class("-wide"))
        self.headline(left, Content.styled(self.loracle.merges.doing_of(self.run_directory), "$text-muted"))

    def action_again(self) -> None:
        """The plan once more, to be changed."""
        self.loracle.open_again(self.run_directory)

    def action_compare(self) -> None:
        """With other runs."""
        self.loracle.choose_to_compare(self.run_directory)

    def action_watch(self) -> None:
        """The run screen, for its curve and log."""
        from tui.screens.run import RunScreen

        self.app.push_screen(RunScreen(self.run_directory))

    def action_replay(self) -> None:
        """Once more from its begin."""
        self.loracle.open_replay(self.run_directory)

    @work(group="folder", exit_on_error=False)
    async def action_folder(self) -> None:
        """Open the folder with the desktop's own program, or copy its path."""
        from tui.terminal import open_folder

        if await in_thread(open_folder, self._folder):
            self.say(_("Opened: {what}").format(what=self._folder))
        else:
            self.copy_out(self._folder, self._folder)
