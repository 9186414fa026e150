"""The folder of a new run: its name, what it begins with, and whether there can be one."""

import errno
import os
import re
import shutil
import time
import unicodedata
from pathlib import Path

from engine.files import write_atomically, write_json
from engine.inspection.hub_list import hub_data
from engine.rundir import RunDirectory
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.plan_file import dump
from recommender.recommendation import Recommendation


def new_folder(root: Path, plan: Plan, kind: str) -> Path:
    """An empty folder below `root` named after the time, the plan's data and `kind`.

    Raises:
        InputError: a thousand exist already.
        OSError: it cannot be made.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    file = Path(plan.data.train)
    source = hub_data(plan.data.train) or (file.parent.name if _plain(plan.data.train) in ("train", "data") else file.stem)
    slug = f"{_plain(source.rpartition('/')[2])[:32]}-{kind}"
    root.mkdir(parents=True, exist_ok=True)
    for n in range(1, 1000):
        path = root / (f"{stamp}-{slug}" if n == 1 else f"{stamp}-{slug}-{n}")
        try:
            path.mkdir(mode=0o700)
            return path
        except FileExistsError:
            continue
    raise InputError(f"{root}: a thousand runs were started within this second.")


def create(
    root: Path, plan: Plan, recommendation: Recommendation | None, facts: Facts | None = None, *, name: str | None = None
) -> RunDirectory:
    """A new run directory below `root` holding the plan, and the recommendation and its facts if there are any.

    With `name` that is its folder's name, and what is left there of an earlier try that got no plan is removed.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        if name is None:
            path = new_folder(root, plan, plan.method)
        else:
            path = root / name
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
        for folder in ("control", "checkpoints", "scores"):
            (path / folder).mkdir(mode=0o700)
        if recommendation is not None:
            write_json(path / "recommendation.json", recommendation.model_dump(mode="json"))
        if facts is not None:
            write_json(path / "facts.json", facts.model_dump(mode="json"))
        write_atomically(path / "plan.yaml", dump(plan))  # last: it makes the folder a run
    except OSError as error:
        raise unwritable(root, error) from None
    return RunDirectory(path.resolve())


def check_root(root: Path) -> None:
    """Refuse now what would fail once everything was looked at.

    Raises:
        InputError: no run can be written below that folder.
    """
    there = next(p for p in (root.absolute(), *root.absolute().parents) if os.path.lexists(p))
    for wrong, number in ((not there.is_dir(), errno.ENOTDIR), (not os.access(there, os.W_OK | os.X_OK), errno.EACCES)):
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
