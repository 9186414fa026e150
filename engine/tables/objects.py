"""JSON: a list of objects, or an object a line. Values may be anything; fields may be missing."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn

from engine.tables.bounds import MOST_COLUMNS
from engine.tables.encoding import TextFile
from engine.tables.source import BATCH_BYTES, BATCH_ROWS, Source, Told, Wanted
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_BLANK = " \t\r\n"
_TURN = (("role", "content"), ("from", "value"))
"""Fields of a turn of a conversation, which is a row, not many."""
_SPEAKERS = ("user", "assistant", "human", "gpt")
_SPLITS = ("train", "data", "rows")
"""The list that is meant where an object holds several."""


class _Twice(ValueError):
    """An object has one field with two values, of which Python's reader would keep the last without a word."""

    line: int | None = None


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        for name, value in fields:
            if found[name] != value:
                raise _Twice(name)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def open_jsonl(file: TextFile) -> Source:
    """A file with an object a line; blank lines do not count."""
    return Source(file.path, "jsonl", partial(_jsonl, file), file.path.stat().st_size, "bytes", encoding=file.encoding)


def open_json(file: TextFile) -> Source:
    """A file with a list of objects, by itself or as a field of an object."""
    return Source(file.path, "json", partial(_json, file), file.path.stat().st_size, "bytes", encoding=file.encoding)


def _jsonl(file: TextFile, told: Told, wanted: Wanted) -> Iterator[Table]:
    lines: list[int] = []
    rows: list[int] | None = None if wanted is None else []
    # The line read last belongs to the object that is looked at: `_tables` takes one at a time.
    yield from _tables(file, "jsonl", _lines(file, lines, told, wanted, rows), lambda _: f"{file.path}:{lines[-1]}", rows)


def _lines(file: TextFile, lines: list[int], told: Told, wanted: Wanted, rows: list[int] | None) -> Iterator[tuple[Any, int]]:
    row = 0
    for number, line in enumerate(file.lines(told), 1):
        if not line.strip():
            continue
        row += 1
        if wanted is not None and row not in wanted:
            continue  # parsing is what takes time
        lines[:] = [number]
        if rows is not None:
            rows.append(row)
        try:
            yield _DECODER.decode(line.decode("utf-8")), len(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{file.path}:{number}: not JSON ({error.msg}, column {error.colno}).") from None
        except _Twice as error:
            raise InputError(f"{file.path}:{number}: has the field {one_line(error, 60)} twice; keep one of them.") from None
        except (RecursionError, ValueError):
            raise InputError(f"{file.path}:{number}: not usable as JSON (nested too deeply, or numbers too long).") from None


def _json(file: TextFile, told: Told, _: Wanted) -> Iterator[Table]:
    try:
        if file.head(4096).lstrip(_BLANK).startswith("["):
            items: Iterable[tuple[Any, int]] = _items(file, told)
        else:
            items = ((item, 0) for item in _inside(file, _DECODER.decode(file.text(told))))
        yield from _tables(file, "json", items, lambda i: f"{file.path}: item {i + 1}")
    except json.JSONDecodeError as error:
        raise InputError(f"{file.path}:{error.lineno}: not JSON ({error.msg}, column {error.colno}).") from None
    except _Twice as error:
        place = file.path if error.line is None else f"{file.path}:{error.line}"
        raise InputError(f"{place}: has the field {one_line(error, 60)} twice; keep one of them.") from None
    except (RecursionError, ValueError):
        raise InputError(f"{file.path}: not usable as JSON (nested too deeply, or with numbers too long).") from None


def _inside(file: TextFile, content: Any) -> list[Any]:
    """The rows of a JSON file whose outermost thing is no list."""
    if isinstance(content, dict) and (found := _of_data_frame(content)) is not None:
        return found
    lists = {k: v for k, v in content.items() if isinstance(v, list)} if isinstance(content, dict) else {}
    if len(lists) == 1:
        inner = next(iter(lists.values()))
        return [content] if _is_talk(inner) else inner
    for name in _SPLITS:
        if name in lists and isinstance(next(iter(lists[name]), None), dict):
            return lists[name]
    if lists and len(lists) == len(content) and len({len(v) for v in lists.values()}) == 1:  # a list a column
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    raise InputError(f'{file.path}: a list of objects with named fields was expected, like {{"text": ..., "label": ...}}.')


def _is_talk(rows: list[Any]) -> bool:
    alike = (all(isinstance(row, dict) and row.keys() >= {who, said} for row in rows) for who, said in _TURN)
    return any(fit and any(row[who] in _SPEAKERS for row in rows) for fit, (who, _) in zip(alike, _TURN, strict=True))


def _of_data_frame(content: dict[str, Any]) -> list[Any] | None:
    """The rows of what pandas writes: by column and index (its usual way), by index, or columns and data apart."""
    names, data = content.get("columns"), content.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, names), row, strict=False)) for row in data]
    first = next(iter(content.values()), None)
    if not isinstance(first, dict) or not first or not all(isinstance(v, dict) for v in content.values()):
        return None
    if not all(key.isdigit() for key in first):
        return list(content.values())
    return [{name: values.get(key) for name, values in content.items()} for key in first]


def _items(file: TextFile, told: Told) -> Iterator[tuple[Any, int]]:
    """The items of the outermost list, one after the other: the whole is never held as objects."""
    reader = _Growing(file.chunks(told))
    reader.skip()
    reader.take("[")
    reader.skip()
    if reader.peek() == "]":
        reader.take("]")
    else:
        while True:
            reader.skip()
            yield reader.value()
            reader.skip()
            if reader.peek() == "]":
                reader.take("]")
                break
            reader.take(",")
    reader.skip()
    if reader.peek():
        reader.fail("Extra data")


class _Growing:
    """A text that is read on as it is needed, and forgotten once it was looked at."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._at = 0
        self._lines = 0
        """Ends of lines before `_text`."""
        self._column = 0
        """Characters of the current line before `_text`."""
        self._scan = _DECODER.raw_decode

    def _more(self, least: int = 1) -> bool:
        """Read on; whether there was anything."""
        gone, self._text = self._text[: self._at], self._text[self._at :]
        self._at = 0
        lines = gone.count("\n")
        self._column = len(gone) - gone.rfind("\n") - 1 if lines else self._column + len(gone)
        self._lines += lines
        parts = [self._text]
        length = 0
        while length < least:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(self._decode(chunk))
            length += len(chunk)
        self._text = "".join(parts)
        return length > 0

    def skip(self) -> None:
        """Pass over white space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return

    def peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        if self.peek() != character:
            self.fail(f"Expecting '{character}'")
        self._at += 1

    def value(self) -> tuple[Any, int]:
        """The value that begins here, and its length."""
        while True:
            start = self._at
            try:
                found, end = self._scan(self._text, start)
            except json.JSONDecodeError as error:
                if self._more(len(self._text)):
                    continue
                self._at = error.pos - start  # `_more` forgot what came before
                self.fail(error.msg)
            except _Twice as error:
                error.line = self._lines + self._text.count("\n", 0, start) + 1
                raise
            # A number that ends with what was read so far may go on.
            if end == len(self._text):
                if self._more():
                    continue
                start, end = 0, end - start
            self._at = end
            return found, end - start

    def fail(self, message: str) -> NoReturn:
        """Raise, with the place in the whole file."""
        gone = self._text[: self._at]
        error = json.JSONDecodeError(message, self._text, self._at)
        error.lineno = self._lines + gone.count("\n") + 1
        error.colno = error.colno if "\n" in gone else self._column + self._at + 1
        raise error


def _tables(
    file: TextFile,
    kind: str,
    items: Iterable[tuple[Any, int]],
    where: Callable[[int], str],
    rows: list[int] | None = None,
) -> Iterator[Table]:
    """Batches of objects; a field that one of them lacks is `None`. `rows` collects the objects' numbers as they come."""
    names: dict[str, None] = {}
    waiting: list[dict[str, Any]] = []
    size = start = 0

    def batch() -> Table:
        numbers = None if rows is None else rows[: len(waiting)]
        if rows is not None:
            del rows[: len(waiting)]
        return Table(file.path, kind, {n: [row.get(n) for row in waiting] for n in names}, start, numbers)

    for i, (item, length) in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f'{where(i)}: an object with named fields was expected, like {{"text": ..., "label": ...}}.')
        if not item.keys() <= names.keys():
            names.update(dict.fromkeys(item))
            if len(names) > MOST_COLUMNS:
                what = "keep those for what is read and what is learned"
                raise InputError(f"{where(i)}: more than {MOST_COLUMNS:,} different fields; {what}.")
        waiting.append(item)
        size += length
        if len(waiting) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch()
            start += len(waiting)
            waiting, size = [], 0
    if waiting:
        yield batch()
    elif not start and rows is None:
        raise InputError(f"{file.path} holds no rows.")
