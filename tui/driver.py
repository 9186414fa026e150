"""The process that works a group of runs off when nobody waits for it."""

import subprocess
import time

from engine import runs
from engine.groups import Group
from engine.processes import execute
from recommender.errors import InputError

PATIENCE = 20.0
"""Seconds until a driver that was left running must have begun."""


def leave_running(group: Group) -> None:
    """Let a process of its own session work the group off.

    Raises:
        InputError: it ended at once, or the group's folder cannot be written.
        Refused: no process can be started.
    """
    with runs.written(group.path), (group.path / "driver.log").open("ab") as log:
        words = ["tui.cli", "resume", str(group.path)]
        driver = execute(words, cwd=group.path, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + PATIENCE
    while not group.driven() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if driver.poll() is not None:
        raise InputError(f"{group.name} could not be left running; see {group.path / 'driver.log'}.")
