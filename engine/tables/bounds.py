"""What no file of rows holds: thousands of columns, texts like whole books, null bytes. Found wherever rows are read."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import contains
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
        level: Sequence[Any] = values
        while level:  # what is nested, by depth: all of a batch at once, for each is looked at in every reading of a file
            texts = [v for v in level if type(v) is str]
            if any(map(contains, texts, repeat("\0"))) or max(map(len, texts), default=0) > LONGEST_TEXT:
                _refuse(table, name, values)
            inside = (v if type(v) is list else v.values() for v in level if type(v) in (list, dict))
            level = list(chain.from_iterable(inside)) if len(texts) < len(level) else ()
    return table


def check_width(place: Path | str, columns: int) -> None:
    """Refuse more columns than rows of texts have; `place` is a file, or a line of it.

    Raises:
        InputError: there are.
    """
    if columns > MOST_COLUMNS:
        raise InputError(
            f"{place}: has {columns:,} columns, and at most {MOST_COLUMNS:,} are read; keep those that are read or learned."
        )


def _refuse(table: Table, name: str, values: Iterable[Any]) -> None:
    for i, value in enumerate(values):
        wrong = next((text for text in _texts_in(value) if "\0" in text or len(text) > LONGEST_TEXT), None)
        if wrong is None:
            continue
        where = f"{table.where(i)}: column {one_line(name, 60)}"
        if "\0" in wrong:
            raise InputError(f"{where} holds a null byte, so it is not text; fix the file, or leave the row out.")
        raise InputError(f"{where} holds a text of {len(wrong):,} characters; at most {LONGEST_TEXT:,} are read. Split it.")


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        yield from _texts_in(list(value.values()))
