"""The merge that goes on in the background of the app, at most one: told wherever one is by then, ended when the app is left."""

from typing import TYPE_CHECKING

from engine.text import one_line
from recommender.errors import LoracleError
from tui.background import in_thread
from tui.error_words import in_words
from tui.i18n import _
from tui.merge_words import MERGING, merged_words

if TYPE_CHECKING:
    from pathlib import Path

    from engine.rundir import RunDirectory
    from tui.app import LoracleApp


class Merges:
    """Of this app."""

    def __init__(self, app: "LoracleApp") -> None:
        self._app = app
        self.run: RunDirectory | None = None
        """What is being merged."""
        self.doing = ""

    def doing_of(self, run: "RunDirectory") -> str:
        """What is being done with that run at this moment; empty where nothing is."""
        return self.doing if self.run is not None and self.run.path == run.path else ""

    def start(self, run: "RunDirectory", to: "Path", *, replace: bool) -> None:
        """Begin, unless one is going on."""
        if self.run is None:
            self.run = run
            self._app.run_worker(self._merge(run, to, replace), group="merge", exit_on_error=False)

    async def _merge(self, run: "RunDirectory", to: "Path", replace: bool) -> None:
        from engine.merging import merge

        self._now(_("Merging the adapter into its base, in the background …"))

        def told(doing: str) -> None:
            self._app.call_from_thread(self._now, MERGING[doing])

        try:
            said, wrong = merged_words(await in_thread(merge, run, to, told, replace=replace)), False
        except Exception as error:  # not where the app is left: whoever leaves says what became of it
            known = in_words(error.message) if isinstance(error, LoracleError) else ""
            said, wrong = known or _("Something went wrong: {error}").format(error=error), True
        self.run = None
        self._now("")
        self._app.notify(one_line(said, 600), severity="warning" if wrong else "information", markup=False, timeout=15)

    def _now(self, doing: str) -> None:
        self.doing = doing
        for screen in self._app.screen_stack:
            if callable(merging := getattr(screen, "merging", None)):
                merging()
