"""JSON: a list of objects, an object a line, or objects one after another. Values may be anything; fields may be missing.

Lists may stand in the place of objects (`listed.py`).
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from engine.tables.bounds import MOST_COLUMNS
from engine.tables.encoding import TextFile
from engine.tables.json_text import DECODER, Growing, Twice, no_json
from engine.tables.listed import Listed, as_object, listed_as
from engine.tables.source import BATCH_BYTES, BATCH_ROWS, Source, Told, Wanted, nobody
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_TURN = (("role", "content"), ("from", "value"))
"""Fields of a turn of a conversation, which is a row, not many."""
_SPEAKERS = ("user", "assistant", "human", "gpt")
_LOOK_AT = 4096
_SPLITS = ("train", "data", "rows", "annotations")
"""The list that is meant where an object holds several."""


def open_jsonl(file: TextFile) -> Source:
    """A file with an object a line; blank lines do not count."""
    return Source(file.path, "jsonl", partial(_jsonl, file), file.path.stat().st_size, "bytes", encoding=file.encoding)


def open_json(file: TextFile) -> Source:
    """A file with a list of objects, by itself or as a field of an object, or with objects one after another."""
    return Source(file.path, "json", partial(_json, file), file.path.stat().st_size, "bytes", encoding=file.encoding)


def _jsonl(file: TextFile, told: Told, wanted: Wanted) -> Iterator[Table]:
    lines: list[int] = []
    rows: list[int] | None = None if wanted is None else []
    start = file.head(_LOOK_AT).lstrip()
    listed = listed_as(next(_lines(file, lines, nobody, None, None))[0]) if start.startswith("[") else None
    values = _lines(file, lines, told, wanted, rows, header=listed is not None and listed.header)
    # The line read last belongs to the object that is looked at: `_tables` takes one at a time.
    yield from _tables(file, "jsonl", values, lambda _: f"{file.path}:{lines[-1]}", rows=rows, listed=listed)


def _lines(
    file: TextFile, lines: list[int], told: Told, wanted: Wanted, rows: list[int] | None, *, header: bool = False
) -> Iterator[tuple[Any, int]]:
    row = -1 if header else 0
    for number, line in enumerate(file.lines(told), 1):
        if not line.strip():
            continue
        row += 1
        if row == 0 or (wanted is not None and row not in wanted):
            continue  # parsing is what takes time
        lines[:] = [number]
        if rows is not None:
            rows.append(row)
        text = line.decode("utf-8").rstrip()
        try:
            yield DECODER.decode(text.removesuffix(",") if text.endswith(("},", "],")) else text), len(line)
        except json.JSONDecodeError as error:
            raise no_json(f"{file.path}:{number}", error) from None
        except Twice as error:
            raise InputError(f"{file.path}:{number}: has the field {one_line(error, 60)} twice; keep one of them.") from None
        except (RecursionError, ValueError):
            raise InputError(f"{file.path}:{number}: not usable as JSON (nested too deeply, or numbers too long).") from None


def _json(file: TextFile, told: Told, _: Wanted) -> Iterator[Table]:
    try:
        values = _values(file, told)
        first = next(values, None)
        listed = None if first is None else listed_as(first[0])
        begin = 2 if listed is not None and listed.header else 1
        if first is not None and begin == 1:
            values = chain([first], values)
        yield from _tables(file, "json", values, lambda i: f"{file.path}: item {i + begin}", listed=listed)
    except json.JSONDecodeError as error:
        raise no_json(f"{file.path}:{error.lineno}", error) from None
    except Twice as error:
        place = file.path if error.line is None else f"{file.path}:{error.line}"
        raise InputError(f"{place}: has the field {one_line(error, 60)} twice; keep one of them.") from None
    except (RecursionError, ValueError):
        raise InputError(f"{file.path}: not usable as JSON (nested too deeply, or with numbers too long).") from None


def _inside(file: TextFile, content: Any) -> list[Any]:
    """The rows of a JSON file whose outermost thing is no list."""
    if isinstance(content, dict) and len(content) == 1 and isinstance(inner := next(iter(content.values())), dict):
        rows = [v for v in inner.values() if isinstance(v, list) and isinstance(next(iter(v), None), dict)]
        content = inner if len(rows) == 1 else content  # of Rasa's old files
    if isinstance(content, dict) and (found := _of_data_frame(content)) is not None:
        return found
    lists = {k: v for k, v in content.items() if isinstance(v, list)} if isinstance(content, dict) else {}
    if len(lists) == 1:
        inner = next(iter(lists.values()))
        return [content] if _is_talk(inner) else inner
    named = [lists[name] for name in _SPLITS if name in lists]
    for rows in named:
        if isinstance(next(iter(rows), None), dict):
            return rows
    if lists and len(lists) == len(content) and len({len(v) for v in lists.values()}) == 1:  # a list a column
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    for rows in named:
        if isinstance(next(iter(rows), None), list):
            return rows
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


def _values(file: TextFile, told: Told) -> Iterator[tuple[Any, int]]:
    """The items of the outermost list, or the values that stand one after another; of a single object what is inside of it."""
    reader = Growing(file.chunks(told))
    reader.skip()
    if reader.peek() == "[":
        yield from _items(reader)
        return
    first, length = reader.value()
    reader.skip()
    if not reader.peek():
        yield from ((item, 0) for item in _inside(file, first))
        return
    if not isinstance(first, dict):
        reader.fail("Extra data")
    yield first, length
    while reader.peek():
        yield reader.value()
        reader.skip()


def _items(reader: Growing) -> Iterator[tuple[Any, int]]:
    """The items of a list, one after the other: the whole is never held as objects."""
    reader.take("[")
    reader.skip()
    if reader.peek() == "]":
        reader.take("]")
    else:
        while True:
            reader.skip()
            if reader.peek() == "]":
                reader.fail("Expecting value")
            yield reader.value()
            reader.skip()
            if reader.peek() == "]":
                reader.take("]")
                break
            reader.take(",")
    reader.skip()
    if reader.peek():
        reader.fail("Extra data")


def _tables(
    file: TextFile,
    kind: str,
    items: Iterable[tuple[Any, int]],
    where: Callable[[int], str],
    *,
    rows: list[int] | None = None,
    listed: Listed | None = None,
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

    for i, (value, length) in enumerate(items):
        item = value if listed is None else as_object(value, listed, partial(where, i))
        if not isinstance(item, dict):
            raise InputError(f'{where(i)}: an object with named fields was expected, like {{"text": ..., "label": ...}}.')
        if not item.keys() <= names.keys():
            names.update(dict.fromkeys(item))
            if len(names) > MOST_COLUMNS:
                what = "keep those that are read or learned"
                raise InputError(f"{where(i)}: more than {MOST_COLUMNS:,} distinct fields; {what}.")
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
