"""Columns that would be taken for something that they are not: told, not guessed at."""

import re
from collections.abc import Sequence
from typing import Any

from engine.inspection.columns import LABEL_NAMES, Column
from engine.inspection.usual import NUMBERS
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_ASKED = frozenset({"question", "query", "prompt", "context", "ctx"})
_SEVERAL_ANSWERS = ("answers", "choices", "options", "endings")
_MEASURES = frozenset(NUMBERS) - frozenset(LABEL_NAMES)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")


def refuse_several_answers(table: Table, columns: list[Column]) -> None:
    """Questions with answers cut out of a text, or to choose from, look like labels and pairs and are neither.

    Raises:
        InputError: there are such.
    """
    by_name = {c.name.lower(): c for c in columns}
    found = next((by_name[n] for n in _SEVERAL_ANSWERS if n in by_name and by_name[n].kind != "value"), None)
    if found is not None and not _ASKED.isdisjoint(by_name):
        raise InputError(
            f"{table.path}: column {one_line(found.name, 60)} holds several answers to what is asked, which no task here reads;"
            " write the right one as a text into a column of its own and take --task instruction, or name other columns with"
            " --column."
        )


def with_commas(values: Sequence[Any]) -> list[str]:
    """The values as texts where all are numbers and some are written `3,4`; nothing where they are not."""
    texts = [t for t in (str(v).strip() for v in values if v is not None) if t]
    return texts if any("," in t for t in texts) and all(map(_DECIMAL_COMMA.fullmatch, texts)) else []


def refuse_decimal_commas(table: Table, columns: list[Column]) -> None:
    """Measures written `3,4`, which would be taken for two labels each.

    Raises:
        InputError: there are such.
    """
    for c in columns:
        if c.name.lower() in _MEASURES and c.kind == "value" and c.numeric < 0.5:
            texts = with_commas(table.values(c.name))
            if texts:
                raise InputError(
                    f"{table.path}: column {one_line(c.name, 60)} holds numbers with a comma ({one_line(texts[0], 20)}); write"
                    " them with a point."
                )
