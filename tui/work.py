"""What the app asks of the engine and the recommender: blocking calls for threads, every import inside.

The heavy modules are imported on first use, after the first paint.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.groups import Group
    from engine.rundir import RunDirectory
    from recommender.facts import Machine


def inspect_machine(runs: Path | None) -> "Machine":
    """What this machine has; never raises."""
    from engine.inspect import inspect_machine

    return inspect_machine(runs)


def stop(run: "RunDirectory", now: bool) -> None:
    """Ask the worker to stop.

    Raises:
        InputError: it is not running.
    """
    from engine.runs import stop

    stop(run, now=now)


def resume(run: "RunDirectory") -> None:
    """Go on with a run from its newest sound checkpoint; where its pilot or comparison stands still at it, with all of that.

    Raises:
        InputError: it is done, or still running.
        Refused: there is not enough disk.
    """
    from engine.runs import resume
    from tui import driver

    group = _standing_still_at(run)
    if group is None:
        resume(run)
    else:
        driver.leave_running(group)


def _standing_still_at(run: "RunDirectory") -> "Group | None":
    """The group of a run whose turn it is, where nobody works it off; of a candidate that was dropped it is not."""
    if run.group is None:
        return None
    from engine.groups import Group
    from tui.commands_group import FOLLOWING

    group = Group(run.group)
    if group.driven() or (group.report() or {}).get("complete"):
        return None
    task = FOLLOWING[group.content()["kind"]](group, frozenset())
    return group if task is not None and task.key == run.path.name else None
