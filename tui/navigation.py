"""The ways from one screen of the app to another."""

from typing import TYPE_CHECKING

from textual.app import App
from textual.widget import Widget

from engine.text import one_line
from tui.background import TellsMistakes
from tui.error_words import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from textual.actions import ActionParseResult
    from textual.dom import DOMNode

    from engine.rundir import RunDirectory
    from tui.draft import Draft


class Navigation(TellsMistakes, App[None]):
    """Screens are imported when they are opened: the first paint waits for none but its own."""

    def open_setup(self, draft: "Draft | None" = None, *, to_plan: bool = False) -> None:
        """Show the set-up screen, with what the draft says already; without one, with what was left behind.

        With `to_plan` the plan follows as soon as model and data were looked at.
        """
        from tui.screens.setup import SetupScreen

        self.push_screen(SetupScreen(draft, past_model=draft is not None, to_plan=to_plan))

    def choose_to_compare(self, run: "RunDirectory") -> None:
        """Choose what to compare a run with."""
        from tui.screens.compare import ChooseRuns

        self.push_screen(ChooseRuns(run))

    def open_compare(self, runs: "Sequence[RunDirectory]") -> None:
        """Show runs over one another."""
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(runs))

    def open_replay(self, run: "RunDirectory") -> None:
        """Play a run once more."""
        from tui.screens.replay import ReplayScreen

        self.push_screen(ReplayScreen(run))

    def open_again(self, run: "RunDirectory", setting: str = "") -> None:
        """Start from what a run was made of, to change it; with another `setting` where one is named, as after `--set`."""
        from recommender.errors import LoracleError
        from tui.draft import of_run

        try:
            draft = of_run(run)
            name, _sign, value = setting.partition("=")
            if value:
                draft = draft.with_setting(draft.method, name, value)
        except LoracleError as error:
            self.notify(one_line(in_words(error.message), 400), severity="warning", markup=False)
            return
        self.open_setup(draft, to_plan=True)

    def open_run(self, run: "RunDirectory", *, result: bool = False) -> None:
        """Show a run, or its result, on top of the list of runs."""
        self.only_home()
        if result:
            from tui.screens.result import ResultScreen

            self.push_screen(ResultScreen(run))
        else:
            from tui.screens.run import RunScreen

            self.push_screen(RunScreen(run))

    async def run_action(
        self,
        action: "str | ActionParseResult",
        default_namespace: "DOMNode | None" = None,
        namespaces: "Mapping[str, DOMNode] | None" = None,
    ) -> bool:
        """A key that comes while its screen is still put together is done once that stands: what it acts on is not there yet."""
        screen, run = self.screen, super().run_action
        if screen.is_mounted or not isinstance(default_namespace, Widget):
            return await run(action, default_namespace, namespaces)

        async def once_it_stands() -> None:
            if self.screen is screen:
                await run(action, default_namespace, namespaces)

        return screen.call_later(once_it_stands)

    def action_help(self) -> None:
        """Show the keys that work now."""
        from tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def back(self) -> None:
        """One screen back; from the list of runs nothing lies further back."""
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def only_home(self) -> None:
        """Back to the list of runs."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
