"""Runs thrown away, and brought back: they are moved beside, into `.trash`, and gone for good only later."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from engine.groups import Group
from engine.rundir import RunDirectory, is_run
from engine.state import FINISHED
from recommender.errors import InputError

FOLDER = ".trash"
KEPT_SECONDS = 24 * 3600.0
"""What an app that ended without a word has left there is kept for so long."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """A run, or a whole group of runs, in the trash."""

    name: str
    was: Path
    now: Path


def discard(run: RunDirectory) -> Discarded:
    """Move a run into the trash beside it; of a group the whole group, whose report rests on all of its runs.

    Raises:
        InputError: it is running, or cannot be moved.
    """
    folder = run.group or run.path
    if run.group is not None and Group(folder).driven():  # between two of its runs none of them is running
        raise InputError(f"{folder.name} is running; stop it first, then delete it.")
    members = [RunDirectory(p) for p in folder.iterdir() if is_run(p)] if run.group is not None else [run]
    for member in members:
        if member.alive() and member.state().status not in FINISHED:  # only then its log, which may be long, is read
            raise InputError(f"{member.name} is running; stop it first, then delete it.")
    trash = folder.parent / FOLDER
    now = trash / f"{time.time_ns()}-{folder.name}"
    try:
        trash.mkdir(mode=0o700, exist_ok=True)
        os.replace(folder, now)
        os.utime(now)  # it counts from today how long it is kept
    except OSError as error:
        raise InputError(f"{folder}: cannot be moved to {trash} ({error.strerror}).") from None
    return Discarded(folder.name, folder, now)


def restore(thing: Discarded) -> None:
    """Bring it back to where it was.

    Raises:
        InputError: it is gone, or its place is taken.
    """
    if thing.was.exists():
        raise InputError(f"{thing.name} cannot be restored: {thing.was} is in the way.")
    if not thing.now.is_dir():
        raise InputError(f"{thing.name} cannot be restored: {thing.now} is gone.")
    try:
        os.replace(thing.now, thing.was)
    except OSError as error:
        raise InputError(f"{thing.name} cannot be restored ({error.strerror}).") from None


def empty(things: list[Discarded]) -> None:
    """Delete these for good; what cannot be deleted stays in the trash."""
    for thing in things:
        shutil.rmtree(thing.now, ignore_errors=True)
        _remove_if_empty(thing.now.parent)


def forget_old(root: Path) -> None:
    """Delete for good what has lain in the trash of a runs folder for longer than `KEPT_SECONDS`."""
    trash = root / FOLDER
    try:
        old = [p for p in trash.iterdir() if time.time() - p.stat().st_mtime > KEPT_SECONDS]
    except OSError:
        return
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    _remove_if_empty(trash)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
