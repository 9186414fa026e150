"""Files of rows, each by the reader of its format. Every failure is one sentence with its place."""

import re
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from engine.files import expanded
from engine.tables.annotated import annotated
from engine.tables.arrow import is_saved, open_arrow, open_parquet, open_saved
from engine.tables.by_class import open_by_class
from engine.tables.cells import with_talks
from engine.tables.delimited import open_delimited
from engine.tables.encoding import TextFile, open_text
from engine.tables.files import files_of, folder_of, told_plainly
from engine.tables.layout import is_separated
from engine.tables.lines import (
    LABEL,
    looks_ended,
    looks_tagged,
    looks_universal,
    open_ended,
    open_marked,
    open_plain,
    open_tagged,
)
from engine.tables.objects import open_json, open_jsonl
from engine.tables.rasa import looks_rasa, open_rasa
from engine.tables.source import Source, Told, Wanted
from engine.tables.table import Table
from recommender.errors import InputError

_HEAD = 64 << 10
_TAGGED = (".conll", ".conllu", ".bio", ".iob", ".iob2")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_DOCUMENTS = (".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".html", ".htm", ".xml", ".yml", ".yaml")
_STORES = (".db", ".sqlite", ".sqlite3", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".hdf5", ".pt", ".safetensors", ".sql", ".ann")
_PRINTED = re.compile(r"\s*\{(?:|[^\n]*[^\s}\]],|[^\n]*[\[{])[ \t\r]*\n")
"""A first line that ends within an object: such files hold one or many over several lines each."""
_SPELT = re.compile(r'": *"\[ *\{ *(\\"|\'|\\u0022)(role|content|from|value)\b')
"""A text that begins like a list of turns written out."""
_FIRST = 500
"""Rows that tell whether texts are such lists."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_SHEET_START = b"\xd0\xcf\x11\xe0"
"""Of Excel's old files."""
_STORE_STARTS = {
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"), "pickle"),
    b"SQLite format 3": "SQLite",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "npy",
}
_ARCHIVE_STARTS = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"\x28\xb5\x2f\xfd", b"Rar!\x1a\x07")


def first_rows(source: Source, most: int | None, *, size: int | None = None) -> Table:
    """The first rows: batches of them, until there are `most` rows or about `size` bytes of values; `None` means all.

    Raises:
        InputError: damaged, with the place.
    """
    columns: dict[str, list[object]] = {n: [] for n in source.names}
    rows = held = 0
    with told_plainly(source.path):
        for batch in source.batches():
            for column in batch.columns:
                columns.setdefault(column, [None] * rows)  # a field that no earlier object had
            for column, values in columns.items():
                values += batch.columns.get(column) or [None] * batch.rows
            rows += batch.rows
            if most is not None and rows >= most:
                break
            held += sum(map(_bytes_of, batch.columns.values())) if size is not None else 0
            if size is not None and held >= size:
                break
    return Table(source.path, source.format, columns, place=source.place)


def _bytes_of(values: Iterable[Any]) -> int:
    """About so many: of texts their characters, of other values 8 each, by depth as `bounds.checked` looks at them."""
    level, found = list(values), 0
    while level:
        texts = [v for v in level if type(v) is str]
        found += sum(map(len, texts)) + 8 * (len(level) - len(texts))
        inside = (v if type(v) is list else v.values() for v in level if type(v) in (list, dict))
        level = list(chain.from_iterable(inside)) if len(texts) < len(level) else []
    return found


def open_source(name: str) -> Source:
    """A file, a folder that `datasets` has saved, one that holds a folder of texts for each class, or several files named by a
    pattern with `*`, ready to be read.

    Raises:
        InputError: no such file, not a file of rows, or damaged where it begins.
    """
    paths = files_of(name)
    with told_plainly(Path(name)):
        if len(paths) == 1:
            if not paths[0].is_dir():
                return _open(paths[0])
            return open_saved(paths[0]) if is_saved(paths[0]) else open_by_class(paths[0])
        return _together(expanded(name), [_open(path) for path in paths])


def _open(path: Path) -> Source:
    with path.open("rb") as file:
        start = file.read(64)
    suffix = path.suffix.lower()
    if start.startswith(_POINTER):
        raise InputError(f"{path}: is a Git LFS pointer, not the rows; run `git lfs pull` in that folder.")
    if suffix in _SHEETS:
        raise InputError(f"{path} is a spreadsheet; save it as csv, in UTF-8, and give that file.")
    if suffix in _STORES:
        raise InputError(f"{path}: {suffix[1:]} files are not read; write the rows to a csv or jsonl file.")
    if suffix in _DOCUMENTS and not (suffix in (".yml", ".yaml") and looks_rasa(open_text(path).head(_HEAD))):
        form = "write the rows to a csv or jsonl file, or the text to a txt file"
        raise InputError(f"{path}: {suffix[1:]} files are not read; {form}.")
    if start.startswith(b"PAR1"):
        return open_parquet(path)
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return open_arrow(path)
    if start.startswith(_SHEET_START) or (start.startswith(b"PK") and _is_sheet(path)):
        raise InputError(f"{path} is a spreadsheet, whatever its name says; save it as csv, in UTF-8, and give that file.")
    store = next((name for begin, name in _STORE_STARTS.items() if start.startswith(begin)), None)
    if store is not None:
        raise InputError(f"{path}: {store} files are not read; write the rows to a csv or jsonl file.")
    if start.startswith(_ARCHIVE_STARTS):
        raise InputError(f"{path} is an archive; unpack it and give the file inside.")
    if suffix in (".parquet", ".pq", ".arrow", ".feather"):
        raise InputError(f"{path}: is named {suffix[1:]} but is not one (its first bytes are wrong).")
    return _open_text(path)


def _is_sheet(path: Path) -> bool:
    """Whether an archive is what spreadsheets are kept in."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False
    return any(name.startswith("xl/") for name in names) or "content.xml" in names


def _open_text(path: Path) -> Source:
    file = open_text(path)
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    head = file.head(_HEAD)
    opening = head.lstrip()[:1]
    if head.lstrip()[:14].lower().startswith(("<!doctype html", "<html")):
        raise InputError(f"{path}: is a web page, not a file of rows; download the file itself.")
    printed = _PRINTED.match(head) is not None
    between = {"{": "}\n{", "[": "]\n["}.get(opening)
    several = not printed and between is not None and between in head.replace("\r", "")
    if suffix in (".yml", ".yaml", ".md") and looks_rasa(head):
        return open_rasa(file)
    if suffix in _TAGGED:
        return open_tagged(file)
    if suffix in (".jsonl", ".ndjson"):
        return _objects(file, a_line=several or (not printed and re.match(r"\s*\[\s*\{", head) is None))
    if suffix == ".json":
        return _objects(file, a_line=several)
    if suffix == ".tsv":
        return open_tagged(file) if looks_tagged(head) or looks_universal(head) else open_delimited(file, "tsv")
    if suffix == ".csv":
        return open_delimited(file, "csv")
    if suffix not in (".txt", "") and opening in ("{", "["):
        return _objects(file, a_line=opening == "{" and not printed)
    if looks_tagged(head) or looks_universal(head):
        return open_tagged(file)
    if head.lstrip().startswith(LABEL):
        return open_marked(file)
    if looks_ended(head):
        return open_ended(file)
    if suffix in (".txt", ".text", ".md") and not is_separated(head):
        return open_plain(file)
    return open_delimited(file, "csv")


def _objects(file: TextFile, *, a_line: bool) -> Source:
    source = annotated(open_jsonl(file) if a_line else open_json(file), file)
    first = next(source.batches(), None) if _SPELT.search(file.head(_HEAD)) is not None else None
    return source if first is None else with_talks(source, {n: values[:_FIRST] for n, values in first.columns.items()})


def _together(path: Path, parts: list[Source]) -> Source:
    if any(part.format != parts[0].format for part in parts):
        raise InputError(f"{path}: names files of different formats; give those of one format.")
    size = sum(part.size for part in parts)
    picks = None if parts[0].picks is None else lambda wanted: _together(path, [part.only(wanted) for part in parts])
    base = folder_of(path)
    before: list[int] = []

    def place(number: int) -> str:
        part = bisect_left(before, number) - 1
        return f"{parts[part].path.relative_to(base)}: row {number - before[part]}"

    return replace(parts[0], path=path, read=partial(_one_after_the_other, parts, before), size=size, place=place, picks=picks)


def _one_after_the_other(parts: list[Source], before: list[int], told: Told, _: Wanted) -> Iterator[Table]:
    """Their rows; `before` is told how many stand before each part, as far as they are read."""
    rows = done = 0
    for i, part in enumerate(parts):
        before[i:] = [rows]
        for batch in part.batches(lambda now, before=done: told(before + now)):  # type: ignore[misc]
            yield replace(batch, start=rows)
            rows += batch.rows
        done += part.size
