"""A folder of files on this machine, read as a hub data set of the same files would be."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engine.inspection.hub_data import SUFFIXES, card_of, chosen_files, name_of
from engine.tables.by_class import classes_in
from engine.tables.split_names import split_named
from engine.text import one_line
from recommender.errors import InputError

MOST_FILES = 20_000
"""Looked at; a folder of more is no data set of rows in files."""


def splits_in(folder: Path) -> dict[str, str]:
    """Files of rows by split, as names that `engine.tables.read` takes; empty where nothing says that they belong together.

    They do where their names say train, test or the like, where README.md lists them, or where they differ in numbers only
    (`part-0001.parquet`). Plain texts belong together wherever nothing else lies beside them; in a folder for each class they are
    read as such (`engine.tables.by_class`).

    Raises:
        InputError: texts in folders that are no classes, several data sets, or files that belong together and cannot be named
            together.
    """
    files = list(_inside(folder))
    rows = [f for f in files if f.endswith(SUFFIXES)]
    if rows:
        card = card_of(folder)
        if len(rows) == 1 and not split_named(rows[0]):
            return {}
        try:
            splits = chosen_files(str(folder), files, card, "")
        except InputError:  # it speaks of the hub, where one of several sets has a name
            wanted = f"give the file or folder of one of them, like {one_line(folder / rows[0], 200)}."
            raise InputError(f"{folder}: holds several sets of rows; {wanted}") from None
        if not card.get("configs") and any(len({re.sub(r"\d+", "", name) for name in names}) > 1 for names in splits.values()):
            return {}  # nothing says that such files hold rows of one kind
        return {split: name_of(folder, names) for split, names in splits.items()}
    texts = [f for f in files if f.endswith(".txt")]
    places = sorted({f.rpartition("/")[0] for f in texts})
    if any(f.endswith(".ann") for f in files):
        raise InputError(
            f"{folder}: holds annotations of brat (.ann), which are not read; write them to one jsonl file, one row per "
            "text, with text and spans (start, end, label)."
        )
    if len(texts) > 1 and places == [""]:
        return {"train": str(folder / "*.txt")}
    if classes_in(folder):
        return {}
    parts = dict.fromkeys(place.partition("/")[0] for place in places)
    by_class = {split: str(folder / name) for name in parts if (split := split_named(name)) and classes_in(folder / name)}
    if by_class:
        return by_class
    if len(places) > 1 and texts:
        shown = ", ".join(one_line(place, 40) or "the folder itself" for place in places[:4])
        raise InputError(
            f"{folder}: holds texts in folders of their own ({shown}); give {folder}/**/*.txt (in quotes on a command line) "
            "to learn from them as raw text. If the folders are classes, put them into a folder called train, or write the "
            "texts to a csv or jsonl file, one row per text, with the folder's name as the label."
        )
    return {}


def _inside(folder: Path) -> Iterator[str]:
    """Paths of its files from there, hidden ones left out, in order."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            if seen > MOST_FILES:
                return
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()
