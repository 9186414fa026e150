"""How separated values are written down in a file: which separator, a row of names or none, quotation marks or none."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from engine.tables.bounds import check_width
from engine.tables.encoding import TextFile
from engine.tables.source import Told, nobody
from recommender.errors import InputError

DELIMITERS = (",", "\t", ";", "|")
MAX_FIELD = 10_000_000
_LEAST_LINES = 20
"""From which on values that repeat are told from chance."""
_MOST_SPEAKERS = 4
"""Of many labels in no order one is seldom that of the line before either."""
HEAD = 1 << 20
"""Bytes at the start that tell separator and header."""
_NAMES = (
    "text sentence review content message body comment tweet document description question utterance title label labels"
    " class category target sentiment intent topic tag tags y stars rating score id idx index instruction input output"
    " prompt completion response answer source summary name date url lang language chosen rejected premise hypothesis"
    " sentence1 sentence2 tokens"
)
COMMON_NAMES = frozenset(_NAMES.split())
"""Words that stand in a header and hardly ever in a first row of data."""
_LINE_END = re.compile(r"\r\n|\n|\r")
_SAID = re.compile(r'"?sep=([,\t;|])"?(?:\r\n|\n|\r)', re.IGNORECASE)
"""What spreadsheets write before the first row, and leave out of what they show."""
NAME_COLUMNS = "remove what stands above the header, or name the columns in the first line"
"""What to do where the first line names one column of several."""
_ESCAPED = re.compile(r'(?:^|[,;|\n])"[^"\n]*\\"[^,;|\t\r\n"]')
"""A quoted text in which a backslash stands before a mark, and more text behind it."""
_ENCLOSED = re.compile(r' +"[^"]*"\s*')
_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the values are written down."""

    names: tuple[str, ...]
    header: bool
    delimiter: str
    body: int
    """Bytes before the first row of data."""
    quoted: bool
    spaced: bool = False
    """Whether a space stands between a separator and the quotation mark of the next field (`"a", "b"`)."""


def layout_of(file: TextFile, kind: str) -> Layout:
    raw = file.head(HEAD)
    text = raw.lstrip("\r\n")
    if not text.strip():
        raise InputError(f"{file.path} holds no rows, only blank lines.")
    said = _SAID.match(text)
    if said is not None:
        text = text[said.end() :]
    first = _LINE_END.split(text, maxsplit=1)[0]
    delimiter = said.group(1) if said is not None else "\t" if kind == "tsv" else separator_of(text, first)
    spaced = is_spaced(text, delimiter)
    names, length = _first_row(file.path, text, delimiter, spaced=spaced)
    _refuse_title(file.path, names, _rows(text[length:], delimiter, 200, spaced=spaced))
    check_width(file.path, len(names))  # telling apart millions that are called alike would take for ever
    header = _is_header(names, _rows(text[length:], delimiter, 1_000, spaced=spaced))
    if header:
        named = _told_apart([n.strip() or f"column {i + 1}" for i, n in enumerate(names)])
    else:
        named, length = tuple(f"column {i + 1}" for i in range(len(names))), 0
    found = _ESCAPED.search(text) if delimiter != "\t" else None
    if found is not None:
        line = raw[: len(raw) - len(text)].count("\n") + text.count("\n", 0, found.end()) + 1
        raise InputError(
            f'{file.path}:{line}: a quotation mark within a text is written \\" here, which csv does not know; write it twice'
            ' ("").'
        )
    body = len((raw[: len(raw) - len(text)] + text[:length]).encode())
    return Layout(named, header, delimiter, body, _is_quoted(file, body, delimiter, len(named)), spaced)


def _refuse_title(path: Path, names: list[str], rows: list[list[str]]) -> None:
    """Spreadsheets often begin with a title, of which a name would be made, and a class of the names below it.

    Raises:
        InputError: the first line holds a single value, where most others hold several.
    """
    first = names[0].strip().lower()
    if not first or any(name.strip() for name in names[1:]):
        return
    filled = sorted(sum(bool(value.strip()) for value in row) for row in rows)
    usual = filled[len(filled) // 2] if filled else 1
    lengths = Counter(map(len, rows))
    uneven = len(lengths) > 2 and (first in COMMON_NAMES or max(lengths.values()) < 0.5 * len(rows))
    if usual > 1 and len(names) == 1 and uneven:
        raise InputError(
            f"{path}: holds one column of texts with commas in them and no quotation marks around them; save it as a txt "
            "file, one text per line, without the header."
        )
    if first in COMMON_NAMES:
        return
    if usual > 1:
        raise InputError(f"{path}:1: holds one value where the row below has {usual}; {NAME_COLUMNS}.")


def is_separated(head: str) -> bool:
    """Whether lines of a text file are cut alike by a separator; commas only count below a row of short names."""
    lines = [line for line in re.split(r"\r\n|\n|\r", head) if line.strip()][:200]
    if len(lines) == 200 or len(head) >= 64 << 10:
        lines = lines[:-1]  # may be cut
    if not lines:
        return True
    for delimiter in DELIMITERS:
        counts = {line.count(delimiter) for line in lines}
        names = lines[0].split(delimiter)
        short = all(0 < len(n.strip()) <= 30 and n.count(" ") <= 1 for n in names)
        if len(counts) == 1 and counts != {0} and (delimiter == "\t" or short):
            return True
        if short and len(names) > 1 and len(lines) > 1 and '"' in "".join(lines[1:]):
            return True
        cells = list(zip(*(line.split(delimiter) for line in lines), strict=True)) if counts == {1} and delimiter != "," else []
        if any(map(_are_labels, cells)) and not _take_turns(cells[0]):
            return True
    return False


def _are_labels(values: Sequence[str]) -> bool:
    """Whether they are a few words that come again and again, as the labels beside texts without a header (`i feel fine;joy`)."""
    few = set(values)
    return len(values) >= _LEAST_LINES and len(few) <= len(values) / 5 and all(v and len(v) <= 30 and " " not in v for v in few)


def _take_turns(values: Sequence[str]) -> bool:
    """Whether what stands first changes in nearly every line, though there are few: then it is who speaks (`A; hello`)."""
    changes = sum(a != b for a, b in pairwise(values))
    return len(set(values)) <= _MOST_SPEAKERS and changes >= 0.95 * (len(values) - 1)


def _told_apart(names: list[str]) -> tuple[str, ...]:
    """Columns called alike, as some exports have them, get a number behind their names, as pandas gives them."""
    seen = Counter[str]()
    found: list[str] = []
    for name in names:
        called = name
        while called in found:
            seen[name] += 1
            called = f"{name}.{seen[name]}"
        found.append(called)
    return tuple(found)


def separator_of(text: str, first: str) -> str:
    """The separator that cuts most rows into as many fields as the first; among equals the most frequent one."""
    best, found = (0.0, 0), ","
    for delimiter in DELIMITERS:
        if delimiter not in first:
            continue
        counts = [len(row) for row in _rows(text, delimiter, 200)]
        alike = sum(n == counts[0] for n in counts) / len(counts) if counts and counts[0] > 1 else 0.0
        score = (round(alike, 1), first.count(delimiter))
        if score > best:
            best, found = score, delimiter
    return found


def is_spaced(text: str, delimiter: str) -> bool:
    """Whether quotation marks behind a separator and a space enclose fields: in nearly every row one does, or some do and only
    so all rows come out as long as the first."""
    if delimiter == "\t" or f'{delimiter} "' not in text:
        return False
    apart, joined = (_rows(text, delimiter, 200, spaced=spaced) for spaced in (False, True))
    even = len({len(row) for row in joined[:-1]}) == 1 < len({len(row) for row in apart[:-1]})
    enclosed = sum(any(_ENCLOSED.fullmatch(field) for field in row[1:]) for row in apart)
    return even or 0 < enclosed >= 0.9 * (len(apart) - 1)  # names may stand without


def _rows(text: str, delimiter: str, most: int, *, spaced: bool = False) -> list[list[str]]:
    """The first rows, as far as they can be read."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    lines = io.StringIO(text, newline="")
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=spaced):
            if row:
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error:
        return rows
    return rows


def _first_row(path: Path, text: str, delimiter: str, *, spaced: bool) -> tuple[list[str], int]:
    """The first row and the number of characters it takes. A quoted name may run over several lines."""
    csv.field_size_limit(MAX_FIELD)
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in io.StringIO(text, newline=""):
            consumed += len(line)
            yield line

    line = next(io.StringIO(text, newline=""))
    plain = line.rstrip("\r\n").split(delimiter)
    if delimiter == "\t" and line.count('"') % 2 and len(plain) == _usual_width(text):
        return plain, len(line)  # a lone mark is part of a text
    try:
        return next(csv.reader(lines(), delimiter=delimiter, skipinitialspace=spaced)), consumed
    except csv.Error as error:
        raise InputError(f"{path}:1: the header cannot be read ({error}).") from None


def _usual_width(text: str) -> int:
    """Fields of most lines of tab-separated text, quotation marks being part of it."""
    return Counter(map(len, _rows(text, "\t", 200))).most_common(1)[0][0]


def _is_header(first: list[str], rows: list[list[str]]) -> bool:
    """Whether the first row names the columns.

    It does not if it holds a number where all others hold numbers, prose where others hold prose, or one of the few
    values that its column goes on to repeat.
    """
    rows = [row for row in rows if len(row) == len(first)]
    again = rows.count(first)
    if 0 < again <= 0.1 * len(rows) and {n.strip().lower() for n in first} & COMMON_NAMES:
        rows = [row for row in rows if row != first]  # files put together, each with its header
    columns = [[v.strip() for v in column if v.strip()] for column in zip(*rows, strict=True)] or [[] for _ in first]
    if any(n.strip().lower() in COMMON_NAMES and n.strip() not in column for n, column in zip(first, columns, strict=True)):
        return True
    if any(len(value) > 60 and value.count(" ") >= 5 for value in first):
        return False
    if len(rows) < 2:
        return True
    for value, filled in zip(first, columns, strict=True):
        if not filled or not value.strip():
            continue
        if _NUMBER.fullmatch(value) and sum(_NUMBER.fullmatch(v) is not None for v in filled) > 0.9 * len(filled):
            return False
        few = len(set(filled)) <= max(2, len(filled) // 5)
        if few and value.strip() in filled:
            return False
        spaces = sorted(v.count(" ") for v in filled)[len(filled) // 2]
        if spaces >= 3 and value.strip().count(" ") >= max(4, spaces // 3):
            return False
    return True


def _is_quoted(file: TextFile, body: int, delimiter: str, columns: int) -> bool:
    """Whether quotation marks enclose fields. In tab-separated files they are often part of the text.

    There they enclose fields only if lines do not come out even otherwise, or if every field that begins with one also
    ends with one and doubles those inside.
    """
    if delimiter != "\t":
        return True
    tab, mark = b"\t", b'"'
    begun = whole = marks = 0
    even = True
    for block in line_blocks(skipped(file, body, nobody)):
        for line in block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
            even = even and (not line or line.count(tab) == columns - 1)
            if mark not in line:
                continue
            marks += 1
            for field in line.split(tab):
                if field.startswith(mark):
                    begun += 1
                    closed = len(field) > 1 and field.endswith(mark)
                    whole += closed and mark not in field[1:-1].replace(b'""', b"")
    return marks > 0 and (not even or 0 < begun == whole)


def line_blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at ends of lines."""
    rest = b""
    for chunk in chunks:
        cut = max(chunk.rfind(b"\n"), chunk.rfind(b"\r", 0, -1)) + 1
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
    if rest:
        yield rest


def skipped(file: TextFile, count: int, told: Told) -> Iterator[bytes]:
    for chunk in file.chunks(told):
        if count >= len(chunk):
            count -= len(chunk)
            continue
        yield chunk[count:]
        count = 0
