"""Which file serves for training and which is held out, where a data set comes in splits."""

import os
from dataclasses import dataclass, field

from engine.files import expanded
from engine.inspection.folders import splits_in
from engine.tables.arrow import is_saved, splits_of
from engine.text import one_line
from recommender.errors import InputError

HELD_OUT_NAMES = ("test", "validation", "valid", "val", "dev", "eval", "evaluation")
"""The split that is held out when nobody says which: the first of these that there is and that can be scored."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of files as `engine.tables.read` takes them."""

    train: str
    eval: tuple[str, ...]
    """What may be held out, the first that can be scored."""
    offered: bool = False
    """Whether those came with the data set and were not asked for."""
    splits: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path(name: str) -> str:
        """The absolute form of a name; links stay, the hub cache's files lose their suffix without them."""
        return os.path.abspath(expanded(name))


def resolve(train: str, held_out: str | None, splits: dict[str, str] | None = None) -> Splits:
    """What to read for a file, for a folder with several splits or files, or for `splits` found on the hub.

    Raises:
        InputError: a folder of splits without one to train on.
    """
    if splits is None:
        try:
            folder = expanded(train)
            splits = {name: str(path) for name, path in splits_of(folder).items()}
            if not splits and folder.is_dir() and not is_saved(folder):
                splits = splits_in(folder)
        except OSError:
            splits = {}
    asked = (held_out,) if held_out is not None else ()
    if not splits:
        return Splits(train, asked)
    chosen = splits.get("train") or (next(iter(splits.values())) if len(splits) == 1 else None)
    if chosen is None:
        listed = ", ".join(one_line(name, 40) for name in splits)
        raise InputError(f"{train}: has the splits {listed} and none called train; give the folder of one of them.")
    if held_out is not None:
        return Splits(chosen, (splits.get(held_out, held_out),), splits=splits)
    offered = tuple(splits[n] for n in HELD_OUT_NAMES if n in splits)
    return Splits(chosen, offered, offered=bool(offered), splits=splits)
