"""Files of rows, read with pyarrow: csv, tsv, json, jsonl, parquet. Every failure is one sentence with its place."""

import csv
import io
import json
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.text import one_line
from recommender.errors import InputError

MAX_FIELD = 10_000_000
LARGEST_BLOCK = 1 << 30
"""Bytes; pyarrow counts a block's in 32 bits."""
DELIMITERS = (",", "\t", ";", "|")
_TAGGED = {".conll", ".conllu", ".bio", ".iob", ".iob2"}
_LINE_END = re.compile(r"\r\n|\n|\r")
_ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".zst", ".rar"}


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, in the file's order."""

    path: Path
    format: str
    columns: dict[str, list[Any]]
    first_line: int | None = None
    """Line of the first row where rows are lines; `None` where they are not."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def where(self, row: int) -> str:
        """Where that row stands, for messages."""
        return f"{self.path.name}: row {row + 1}"


def read_table(name: str) -> Table:
    """All rows of a file.

    Raises:
        InputError: no such file, not a file of rows, or damaged.
    """
    path = existing_file(name)
    try:
        match _format(path):
            case "parquet":
                return _parquet(path)
            case "json":
                return _json(path)
            case "jsonl":
                return _jsonl(path)
            case kind:
                return _delimited(path, kind)
    except PermissionError:
        raise InputError(f"{path}: may not be read; check its permissions.") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory.") from None


def existing_file(name: str) -> Path:
    """The path of an ordinary, non-empty file.

    Raises:
        InputError: it is anything else.
    """
    if "://" in name:
        raise InputError(f"{name}: addresses are not read; download the file and give its path.")
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        near = _similar(path)
        raise InputError(f"{name}: there is no such file.{f' Did you mean {near}?' if near else ''}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({getattr(error, 'strerror', None) or 'not a path'}).") from None
    if stat.S_ISDIR(mode):
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".csv", ".tsv", ".jsonl", ".json", ".parquet"))
        hint = f"; did you mean {path / inside[0]}?" if inside else "."
        raise InputError(f"{name} is a folder; give a file with rows{hint}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{name} is not an ordinary file; save the rows to a csv or jsonl file first.")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty.")
    if path.suffix.lower() in _ARCHIVES:
        raise InputError(f"{name} is an archive; unpack it and give the file inside.")
    return path


def _similar(path: Path) -> str | None:
    import difflib

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, 1)
    return str(path.parent / close[0]) if close else None


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return "parquet"
    suffix = path.suffix.lower()
    if suffix in _TAGGED:
        raise InputError(f"{path}: holds tagged tokens ({suffix}); a file with one text and one label a row is needed.")
    if suffix in (".parquet", ".pq"):
        raise InputError(f"{path}: is called parquet and is none (its first bytes are wrong).")
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".json":
        return "jsonl" if head.lstrip().startswith(b"{") and b"}\n{" in head.replace(b"\r", b"") else "json"
    if suffix == ".tsv":
        return "tsv"
    if suffix not in (".csv", ".txt", "") and head.lstrip()[:1] in (b"{", b"["):
        return "jsonl" if head.lstrip().startswith(b"{") else "json"
    return "csv"


def _text(path: Path) -> str:
    """The file decoded: UTF-8, or UTF-16 with its mark.

    Raises:
        InputError: another encoding, with the line where it shows.
    """
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError:
            raise InputError(f"{path}: begins like UTF-16 but is not; save it as UTF-8.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: is not UTF-8 (byte 0x{raw[error.start]:02x}); save it as UTF-8,"
            f" for example with `iconv -f latin1 -t utf-8 {path.name}`."
        ) from None
    if "\x00" in text[:1_000_000]:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise InputError(f"{path}:{line}: holds null bytes, so it is no text file; save it as UTF-8 text.")
    return text


def _delimited(path: Path, kind: str) -> Table:
    import pyarrow as pa  # 0.2 s; only who reads rows pays
    import pyarrow.csv as pa_csv

    text = _text(path).lstrip("\r\n")
    if not text.strip():
        raise InputError(f"{path} holds no rows, only blank lines.")
    first = _LINE_END.split(text, maxsplit=1)[0]
    delimiter = "\t" if kind == "tsv" else max(DELIMITERS, key=first.count)
    names, body = _header(path, text, delimiter)
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InputError(f"{path}:1: two columns are called {one_line(twice, 60)}; give them different names.")
    body = re.sub(r"[\r\n][ \r\n]*\Z", "\n", body)
    if not body.strip():
        return Table(path, kind, {n: [] for n in names}, first_line=2)
    quoted = _is_quoted(body, delimiter, len(names))
    data = body.encode("utf-8")
    bad: list[tuple[int | None, int, int]] = []

    def remember(row: Any) -> str:
        bad.append((row.number, row.expected_columns, row.actual_columns))
        return "error"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            # One block where it can be: a block must not end inside a quoted text.
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=min(max(len(data) + 1, 1024), LARGEST_BLOCK), column_names=names
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=remember,
            ),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if bad:
            number, expected, actual = bad[0]
            place = f"{path}: row {number}" if number else str(path)
            raise InputError(
                f"{place}: has {actual} columns where the header has {expected}; quote the text or fix the row."
            ) from None
        raise InputError(f"{path}: not readable as {kind}: {_sentence(error)}.") from None
    return Table(path, kind, {n: table.column(n).to_pylist() for n in names}, first_line=2)


def _header(path: Path, text: str, delimiter: str) -> tuple[list[str], str]:
    """The columns' names, and the text after them. A quoted name may run over several lines."""
    csv.field_size_limit(MAX_FIELD)
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in io.StringIO(text, newline=""):
            consumed += len(line)
            yield line

    try:
        names = next(csv.reader(lines(), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{path}:1: the header cannot be read ({error}).") from None
    return [n.strip() or f"column {i + 1}" for i, n in enumerate(names)], text[consumed:]


def _is_quoted(body: str, delimiter: str, columns: int) -> bool:
    """Whether quotation marks enclose fields. In tab-separated files they are often part of the text.

    There they enclose fields only if lines do not come out even otherwise, or if every field that begins with one also
    ends with one and doubles those inside.
    """
    if '"' not in body:
        return False
    if delimiter != "\t":
        return True
    lines = [line for line in _LINE_END.split(body) if line]
    if any(line.count(delimiter) != columns - 1 for line in lines):
        return True
    begun = [field for line in lines for field in line.split(delimiter) if field.startswith('"')]
    return bool(begun) and all(len(f) > 1 and f.endswith('"') and '"' not in f[1:-1].replace('""', "") for f in begun)


def _sentence(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0], 200).rstrip(".")


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        return Table(path, "parquet", {n: table.column(n).to_pylist() for n in table.column_names})
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged parquet file: {_sentence(error)}.") from None


def _json(path: Path) -> Table:
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg}, column {error.colno}).") from None
    except (RecursionError, ValueError):
        raise InputError(f"{path}: not usable as JSON (nested too deeply, or with numbers too long).") from None
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise InputError(f"{path}: a list of objects was expected.")
    return _from_objects(path, "json", content, lambda i: f"{path}: item {i + 1}", None)


def _jsonl(path: Path) -> Table:
    objects: list[Any] = []
    numbers: list[int] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            objects.append(json.loads(line))
            numbers.append(number)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg}, column {error.colno}).") from None
        except (RecursionError, ValueError):
            raise InputError(f"{path}:{number}: not usable as JSON (nested too deeply, or numbers too long).") from None
    return _from_objects(path, "jsonl", objects, lambda i: f"{path}:{numbers[i]}", 1)


def _from_objects(path: Path, kind: str, objects: list[Any], where: Callable[[int], str], first_line: int | None) -> Table:
    names: dict[str, None] = {}
    for i, item in enumerate(objects):
        if not isinstance(item, dict):
            raise InputError(f"{where(i)}: an object with named fields was expected.")
        names.update(dict.fromkeys(item))
        if len(names) > 10_000:
            raise InputError(f"{where(i)}: more than 10,000 different fields.")
    if not objects:
        raise InputError(f"{path} holds no rows.")
    return Table(path, kind, {str(n): [item.get(n) for item in objects] for n in names}, first_line)
