"""What the app asks of the engine and the recommender: blocking calls for threads, every import inside.

The heavy modules are imported on first use, after the first paint.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    """Go on with a run from its newest sound checkpoint.

    Raises:
        InputError: it is done, or still running.
        Refused: there is not enough disk.
    """
    from engine.runs import resume

    resume(run)
