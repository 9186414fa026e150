"""What no file of rows holds: thousands of columns, texts like whole books, null bytes. Found wherever rows are read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

MOST_COLUMNS = 2_000
LONGEST_TEXT = 10_000_000
"""Characters of one value; the Bible has 4 million."""


def checked(table: Table) -> Table:
    """`table` itself.

    Raises:
        InputError: it is none of rows that anything could learn from, with row and column.
    """
    check_width(table.path, len(table.columns))
    for name, values in table.columns.items():
        texts = [v for v in values if type(v) is str]
        nested = len(texts) < len(values) and not {list, dict}.isdisjoint(map(type, values))
        if nested or any(map(_strange, texts)):
            _refuse(table, name, values)
    return table


def check_width(path: Path, columns: int) -> None:
    """Refuse more columns than rows of texts have.

    Raises:
        InputError: there are.
    """
    if columns > MOST_COLUMNS:
        raise InputError(
            f"{path}: has {columns:,} columns, and at most {MOST_COLUMNS:,} are read; keep those for what is read and what is"
            " learned."
        )


def _strange(text: str) -> bool:
    return len(text) > LONGEST_TEXT or "\0" in text


def _refuse(table: Table, name: str, values: Iterable[Any]) -> None:
    for i, value in enumerate(values):
        wrong = next((text for text in _texts_in(value) if _strange(text)), None)
        if wrong is None:
            continue
        where = f"{table.where(i)}: column {one_line(name, 60)}"
        if "\0" in wrong:
            raise InputError(f"{where} holds a null byte, so it is not text; mend the file, or leave the row out.")
        raise InputError(f"{where} holds a text of {len(wrong):,} characters; at most {LONGEST_TEXT:,} are read. Part it.")


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        yield from _texts_in(list(value.values()))
