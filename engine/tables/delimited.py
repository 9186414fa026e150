"""Comma, tab, semicolon and bar separated values, with or without a row of names."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from engine.tables.annotated import annotated
from engine.tables.cells import unfolded
from engine.tables.encoding import CHUNK, TextFile
from engine.tables.layout import NAME_COLUMNS, Layout, layout_of, line_blocks, skipped
from engine.tables.source import BATCH_BYTES, Source, Told, Wanted
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

SEPARATOR_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
LARGEST_BLOCK = 128 << 20
"""Bytes that one row may fill; a quotation mark that is never closed would swallow the file."""


def open_delimited(file: TextFile, kind: str) -> Source:
    """A file of separated values.

    Raises:
        InputError: no rows at all, or a header that names two columns alike.
    """
    layout = layout_of(file, kind)
    source = Source(
        path=file.path,
        format=kind,
        read=partial(_read, file, kind, layout),
        size=file.path.stat().st_size,
        unit="bytes",
        names=layout.names,
        encoding=file.encoding,
        separator=SEPARATOR_NAMES[layout.delimiter],
        header=layout.header,
    )
    return annotated(unfolded(source, file), file)


def _trimmed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Without the blank lines at the end, where a line of spaces would count as a row of too few fields."""
    held = b""
    for chunk in chunks:
        whole = held + chunk
        solid = whole.rstrip(b" \r\n")
        held = whole[len(solid) :]
        if solid:
            yield solid
    kept = re.split(rb"[\r\n]", held, maxsplit=1)[0]
    yield kept + b"\n"


def _unspaced(chunks: Iterable[bytes], delimiter: str) -> Iterator[bytes]:
    """The same rows without spaces between separators and quotation marks, behind which pyarrow sees no marks."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    lines = (line for block in line_blocks(chunks) for line in io.StringIO(decode(block), newline=""))
    for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        writer.writerow(row)
        if out.tell() > CHUNK:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


class _Stream:
    """What pyarrow needs of a file."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int) -> bytes:
        parts = [self._rest]
        length = len(self._rest)
        while length < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            length += len(chunk)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]


def _read(file: TextFile, kind: str, layout: Layout, told: Told, _: Wanted) -> Iterator[Table]:
    size = BATCH_BYTES
    done = 0
    while True:
        try:
            for table in _attempt(file, kind, layout, size, told):
                # A second attempt, with larger blocks, passes over what the first has given already.
                if table.start + table.rows > done:
                    skipped = max(done - table.start, 0)
                    done = table.start + table.rows
                    yield _after(table, skipped)
            return
        except _RowTooLong:
            size *= 4
            if size > LARGEST_BLOCK:
                raise InputError(
                    f"{file.path}: after row {done}: a row of more than {LARGEST_BLOCK >> 20} MiB; most likely a quotation "
                    "mark is never closed."
                ) from None


def _after(table: Table, skipped: int) -> Table:
    if not skipped:
        return table
    return Table(table.path, table.format, {n: v[skipped:] for n, v in table.columns.items()}, table.start + skipped)


def _refuse_header(table: Table) -> None:
    """Files put together often bring their headers along, of which a class or a text would be learned.

    Raises:
        InputError: a row is the header once more.
    """
    first, *others = table.columns
    rows = (i for i, value in enumerate(table.columns[first]) if value == first)
    again = next((i for i in rows if others and all(table.columns[name][i] == name for name in others)), None)
    if again is not None:
        raise InputError(f"{table.where(again)}: repeats the header; remove it.")


class _RowTooLong(Exception):
    """A row does not fit into a block."""


def _attempt(file: TextFile, kind: str, layout: Layout, block: int, told: Told) -> Iterator[Table]:
    import pyarrow as pa  # 0.2 s; only who reads rows pays
    import pyarrow.csv as pa_csv

    chunks = _trimmed(skipped(file, layout.body, told))
    if layout.spaced:
        chunks = _unspaced(chunks, layout.delimiter)
    first = next(chunks)
    if not first.strip():
        return
    bad: list[tuple[int | None, int, int, str]] = []

    def remember(row: Any) -> str:
        bad.append((row.number, row.expected_columns, row.actual_columns, row.text))
        return "error"

    def all_chunks() -> Iterator[bytes]:
        yield first
        yield from chunks

    names = list(layout.names)
    start = 0
    try:
        reader = pa_csv.open_csv(
            pa.PythonFile(_Stream(all_chunks()), "r"),
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=block, column_names=names),
            parse_options=pa_csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                invalid_row_handler=remember,
            ),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
        for batch in reader:
            if batch.num_rows:
                table = Table(file.path, kind, {n: batch.column(i).to_pylist() for i, n in enumerate(names)}, start)
                if layout.header:
                    _refuse_header(table)
                yield table
                start += batch.num_rows
    except csv.Error:  # a field of more than `MAX_FIELD`
        raise _RowTooLong from None
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise _RowTooLong from None
        if bad:
            number, expected, actual, text = bad[0]
            if layout.header and expected == 1 and number == 1:
                said = f"{file.path}:1: holds one value where the row below has {actual}; {NAME_COLUMNS}."
                raise InputError(said) from None
            place = f"{file.path}: row {number}" if number else str(file.path)
            wanted = "the header has" if layout.header else "the first row has"
            found = f"{actual} column{'' if actual == 1 else 's'}"
            cure = "quote the text or fix the row"
            if layout.quoted and "\n" in text.strip():
                cure = "most likely it opens a quotation mark and does not close it"
            raise InputError(f"{place}: has {found} where {wanted} {expected}; {cure}.") from None
        sentence = one_line(str(error).partition("\n")[0], 200).rstrip(".")
        raise InputError(f"{file.path}: not readable as {kind}: {sentence}.") from None
