"""Rows that JSON has as lists: CLINC's `["a text", "a class"]`, with names in the first of them or without, spaCy's
`["a text", {"entities": [[0, 4, "ORG"]]}]`, and the turns of a conversation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from engine.tables.layout import COMMON_NAMES
from recommender.errors import InputError

_GIVEN = 0.5
"""Share from which on a text has a label, in spaCy's `{"cats": {"SPAM": 1.0, "HAM": 0.0}}`."""


class Listed(NamedTuple):
    """What the values of each list are called."""

    names: Sequence[str]
    header: bool
    """Whether the first list holds these names."""


def listed_as(first: Any) -> Listed | None:
    """How rows are written of which that is the first; `None` where it is no list."""
    if not isinstance(first, list):
        return None
    words = all(isinstance(v, str) and v.strip().count(" ") <= 1 for v in first)  # "text" may be a class, of a text before it
    if words and {v.strip().lower() for v in first} & COMMON_NAMES:
        return Listed(first, header=True)
    return Listed([f"column {i + 1}" for i in range(len(first))], header=False)


def as_object(row: Any, listed: Listed, where: Callable[[], str]) -> Any:
    """A row as an object, a list of objects as a conversation; what is no list, as it is.

    Raises:
        InputError: it has another number of values.
    """
    if not isinstance(row, list):
        return row
    if len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict):
        cats = row[1].get("cats")
        if not isinstance(cats, dict) or not all(isinstance(share, int | float) for share in cats.values()):
            return {"text": row[0], **row[1]}
        return {"text": row[0], **row[1], "label": [name for name, share in cats.items() if share >= _GIVEN]}
    if row and all(isinstance(turn, dict) for turn in row):
        return {"messages": row}
    if len(row) != len(listed.names):
        raise InputError(f"{where()}: holds {len(row)} and not {len(listed.names)} values as the first row does; fix the row.")
    return dict(zip(listed.names, row, strict=True))
