"""Showing the app until it is left, and what is said on the terminal then."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.text import one_line
from tui.app import LoracleApp
from tui.i18n import _
from tui.line_breaks import between_signs
from tui.signals import HUNG_UP, catch_signals, end_children, forget_terminal

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from tui.draft import Draft


def run_app(*, draft: "Draft | None" = None, runs: Path | None = None, attach: "RunDirectory | None" = None) -> int:
    """Show the app until it is left; its exit code (0; 129, 130, 143 after a signal).

    It begins with set-up where there is a `draft`, with a run where one is to be attached to, else with the list of runs.
    """
    between_signs()
    app = LoracleApp(draft=draft, runs=runs, attach=attach)
    catch_signals(app.leave)
    app.run()
    end_children()
    if app.discarded and app.return_code != HUNG_UP:
        print(_("Deleting for good what is in the trash…"), flush=True)
    app.empty_trash()
    if app.return_code == HUNG_UP:
        forget_terminal()
        return HUNG_UP
    if app.left_running is not None and app.left_running.alive():
        name = one_line(app.left_running.name)
        print(_("{name} keeps running.").format(name=name) + f"\n  loracle attach {name}\n  loracle stop {name}")
    if app.merges.run is not None:
        name = one_line(app.merges.run.name)
        print(_("The merge of {name} was cancelled; what it wrote was removed.").format(name=name))
    return app.return_code or 0
