"""The folder of a new run: its name, what it begins with, and whether there can be one."""

import errno
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

from engine.files import name_beside, remove_unfinished, write_atomically, write_json
from engine.inspection.hub_list import hub_data
from engine.rundir import RunDirectory
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.plan_file import dump
from recommender.recommendation import Recommendation

UNFINISHED = "new-run"
"""What a folder is called that is not whole yet."""
UNFINISHED_SECONDS = 60.0
"""How old it must be to be taken for what a killed process left: another machine may be making one."""


def new_folder(root: Path, plan: Plan, kind: str, fill: Callable[[Path], object], *, name: str | None = None) -> Path:
    """A folder below `root` with what `fill` writes into it, whole or not there at all; it is named after the time, the plan's
    data and `kind`, or `name`, in place of what has that name.

    Raises:
        InputError: a thousand exist already.
        OSError: it cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    remove_unfinished(root, UNFINISHED, older=UNFINISHED_SECONDS)
    beside = name_beside(root / UNFINISHED)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(mode=0o700)
        fill(beside)
        if name is not None:
            shutil.rmtree(root / name, ignore_errors=True)
            return beside.rename(root / name)
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(plan)}-{kind}"
        for n in range(1, 1000):
            path = root / (stem if n == 1 else f"{stem}-{n}")
            try:
                return beside.rename(path)
            except OSError:
                if not path.exists():  # what is said of a name that is taken differs from one file system to the next
                    raise
        raise InputError(f"{root}: a thousand runs were started within this second.")
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _slug(plan: Plan) -> str:
    """What the plan's data are called."""
    file = Path(plan.data.train)
    source = hub_data(plan.data.train) or (file.parent.name if _plain(plan.data.train) in ("train", "data") else file.stem)
    return _plain(source.rpartition("/")[2])[:32]


def create(
    root: Path, plan: Plan, recommendation: Recommendation | None, facts: Facts | None = None, *, name: str | None = None
) -> RunDirectory:
    """A new run directory below `root` holding the plan, and the recommendation and its facts if there are any.

    With `name` that is its folder's name.

    Raises:
        InputError: the folder cannot be written.
    """

    def fill(path: Path) -> None:
        for folder in ("control", "checkpoints", "scores"):
            (path / folder).mkdir(mode=0o700)
        if recommendation is not None:
            write_json(path / "recommendation.json", recommendation.model_dump(mode="json"))
        if facts is not None:
            write_json(path / "facts.json", facts.model_dump(mode="json"))
        write_atomically(path / "plan.yaml", dump(plan))

    try:
        return RunDirectory(new_folder(root, plan, plan.method, fill, name=name).resolve())
    except OSError as error:
        raise unwritable(root, error) from None


def check_root(root: Path) -> None:
    """Refuse now what would fail once everything was looked at.

    Raises:
        InputError: no run can be written below that folder.
    """
    there = next(p for p in (root.absolute(), *root.absolute().parents) if os.path.lexists(p))
    closed = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
    for wrong, number in ((not there.is_dir(), errno.ENOTDIR), (not os.access(there, os.W_OK | os.X_OK), closed)):
        if wrong:
            raise unwritable(root, OSError(number, os.strerror(number)))


def unwritable(root: Path, error: OSError) -> InputError:
    """That no run can be written below that folder, and why."""
    return InputError(f"{root}: runs cannot be written here ({error.strerror}); choose another folder with --runs.")


def _plain(name: str) -> str:
    """Letters and digits of any script, with the marks that some write vowels as, and `-` between them."""
    letters = unicodedata.normalize("NFC", Path(name).stem.lower())
    kept = (c if c.isalnum() or unicodedata.category(c) in ("Mn", "Mc") else "-" for c in letters)
    return re.sub("-+", "-", one_line("".join(kept))).strip("-") or "run"
