"""Columns whose name and values tell that rows belong together: of a user, a document, a conversation."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.inspection.columns import LOOK_AT, Column
from engine.inspection.data_facts import LEARNED_FROM
from engine.tables.read import first_rows
from engine.tables.source import Source
from engine.tables.table import Table, as_text
from recommender.facts import Suspicion

_END = "(?:ids?|uuid|guid|key|hash|number|no)"
_CALLED = re.compile(
    "(?:users?|authors?|reviewer|writer|speaker|patient|customer|participant|respondent|doc|document|thread|conversation|dialog|dialogue"
    f"|url|link|doi|asin|repo|repository)(?:name|{_END})?"
    "|(?:client|subject|person|player|student|member|account|session|chat|ticket|call|case|article|page|post|book|paper|story|essay"
    "|note|visit|encounter|admission|hadm|product|item|movie|film|song|game|app|hotel|restaurant|business|company|recipe|video|image"
    "|img|photo|question|prompt|passage|context|paragraph|chapter|tree|conv|convo|transcript|interview|email|review|comment|sentence"
    f"|sent|abstract|pm|parent|caption|group|family|[qpu]){_END}"
)
"""What such columns are called, without case and signs. A company is a class, a company_id seldom; whoever labelled a row is not
among them."""
_WORD = re.compile(r"[^\W\d_]+")
LEAST_VALUES = 20
"""Fewer are classes."""
LEAST_SHARED = 0.2
"""Share of the rows whose value others have, too."""
DECIDES = 0.98
"""Share of the values that stand beside one text alone, from which on the text keeps their rows together already."""


def belonging(table: Table, columns: Sequence[Column], used: Sequence[str], roles: dict[str, str]) -> Suspicion | None:
    """The column by which most rows belong together and could be on two sides of a split; `share` is how many share its value."""
    texts = [name for role, name in roles.items() if role.partition(" ")[0] not in LEARNED_FROM]
    found = []
    for column in columns:
        if column.name in used or not _is_of_groups(column):
            continue
        values = values_of(table, column.name)
        times = Counter(filter(None, values))
        share = sum(n for n in times.values() if n > 1) / len(values)
        if share >= LEAST_SHARED and not any(_decides(values, times, table.values(name)) for name in texts):
            found.append(Suspicion(column=column.name, why="group", share=share))
    return max(found, key=lambda one: one.share or 0.0, default=None)


def values_of(table: Table, name: str) -> list[str]:
    """What the first rows hold in that column; nothing where the table has none."""
    return [as_text(value).strip() for value in table.values(name)[:LOOK_AT]] if table.holds(name) else []


def seen_held_out(odd: Suspicion, head: Table, held_out: Source) -> Suspicion | None:
    """What is suspicious where held-out rows have a file of their own: it has parted those that belong together, or has not."""
    if odd.why != "group":
        return odd
    known, shown = set(values_of(head, odd.column)), values_of(first_rows(held_out, LOOK_AT), odd.column)
    share = sum(bool(value) and value in known for value in shown) / max(len(shown), 1)
    return Suspicion(column=odd.column, why="group_seen", share=share) if share >= LEAST_SHARED else None


def _is_of_groups(c: Column) -> bool:
    if c.kind != "value" or c.distinct < LEAST_VALUES or c.fractions >= 0.02 or c.dates or (c.prose and c.spaced >= 0.02):
        return False
    return _CALLED.fullmatch("".join(_WORD.findall(c.called))) is not None


def _decides(values: Sequence[str], times: Counter[str], texts: Sequence[Any]) -> bool:
    """Whether rows of one value read the same, or conversations that begin alike."""
    read = (repr(text[:2]) if isinstance(text, list) else as_text(text) for text in texts)
    pairs = set(zip(values, read, strict=False))  # of the first rows
    beside = Counter(value for value, _ in pairs)
    several = [value for value, n in times.items() if n > 1]
    return sum(beside[value] == 1 for value in several) >= DECIDES * len(several)
