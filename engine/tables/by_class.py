"""A folder of texts for each class, as sets of reviews and mails are handed out (`train/pos/0.txt`, `train/neg/0.txt`)."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

from engine.tables.bounds import LONGEST_TEXT
from engine.tables.encoding import open_text
from engine.tables.source import Row, Source, Told, Wanted, in_batches
from engine.tables.split_names import split_named
from engine.tables.table import Table
from recommender.errors import InputError

UNLABELLED = frozenset({"unsup", "unlabeled", "unlabelled", "unsupervised"})
"""Folders of texts whose class nobody knows, beside those of the classes."""
_FEW_BESIDE = 0.1
"""Texts that may lie beside the folders, as lists of sources do, for each one inside of them."""
_LEAST_TEXTS, _LONG_TEXTS = 3, 20_000
"""Texts a class has at least, and bytes a text has at most, in the mean, where nothing but that says that folders are classes:
reviews, mails and news are many and short, chapters and logs are not."""
_LOOK_AT = 20
"""Texts of a folder whose length is looked at."""
_PART = re.compile(r"(?:part|chapter|chap|ch|book|volume|vol|section|act|scene|canto|episode|season)(?![a-z]).*")
_NUMBERED = re.compile(r"\d+|(?<![a-z])[ivxl]+$")
_NUMBERED_CLASSES = frozenset({"class", "label", "category", "topic", "star", "stars"})


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """The texts by class, in the order of their names; empty where the folder is no such set.

    In a folder that is called like a split (train) folders are classes. Elsewhere they are unless they look like parts of one
    text or of a project: called part 1, part 2, or with few or long texts.
    """
    places = [place for place in _entries(folder) if place.is_dir() and place.name.lower() not in UNLABELLED]
    found = {place.name: [Path(e.path) for e in _entries(place.path) if _is_text(e)] for place in places}
    found = {name: files for name, files in found.items() if files}
    beside = sum(map(_is_text, _entries(folder)))
    if len(found) < 2 or beside > _FEW_BESIDE * sum(map(len, found.values())):
        return {}
    return found if split_named(folder.absolute().name) is not None or _are_classes(found) else {}


def _are_classes(by_folder: dict[str, list[Path]]) -> bool:
    names = [name.lower() for name in by_folder]
    alike = {re.sub(r"[\W_]+", "", _NUMBERED.sub("", name)) for name in names}
    parts = all(map(_PART.fullmatch, names)) or (len(alike) == 1 and not alike <= _NUMBERED_CLASSES)
    many = sum(map(len, by_folder.values())) >= _LEAST_TEXTS * len(by_folder)
    looked_at = [file.stat().st_size for files in by_folder.values() for file in files[:_LOOK_AT]]
    return many and not parts and sum(looked_at) <= _LONG_TEXTS * len(looked_at)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _is_text(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".txt") and entry.is_file()


def open_by_class(folder: Path) -> Source:
    """Columns `text` and `label`, a row a file. Classes take turns, so that the first rows show them all."""
    by_class = classes_in(folder)
    turns = zip_longest(*([(name, file) for file in files] for name, files in by_class.items()))
    files = [pair for pair in chain.from_iterable(turns) if pair is not None]
    left_out = [place.name for place in _entries(folder) if place.name.lower() in UNLABELLED]
    written = f"folders (without {', '.join(left_out)})" if left_out else "folders"

    def place(number: int) -> str:
        return str(files[number - 1][1].relative_to(folder.parent))

    return Source(folder, written, partial(_read, folder, written, files), len(files), "rows", ("text", "label"), place=place)


def _text(file: Path) -> str:
    """What a file says: nearly all are UTF-8, and of a hundred thousand each look at one counts."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return open_text(file).text()
    return open_text(file).text() if "\0" in text else text  # which refuses it


def text_files(folder: Path) -> list[Path]:
    """What decides the rows."""
    return [file for files in classes_in(folder).values() for file in files]


def _read(folder: Path, written: str, files: Sequence[tuple[str, Path]], told: Told, _: Wanted) -> Iterator[Table]:
    for table in in_batches(folder, written, ("text", "label"), _rows(files)):
        yield table
        told(table.start + table.rows)


def _rows(files: Sequence[tuple[str, Path]]) -> Iterator[Row]:
    for label, file in files:
        length = file.stat().st_size
        if length > 4 * LONGEST_TEXT:  # a character has up to 4 bytes
            raise InputError(f"{file}: is one text of {length:,} bytes; at most {LONGEST_TEXT:,} characters are read. Split it.")
        yield (_text(file), label), length
