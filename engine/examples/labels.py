"""Rows with several labels, with a number, or with a tag a word: read as inspection reads them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.inspection.layouts import Shape
from engine.inspection.records import Records, records
from engine.rows import Rows, shared_texts
from engine.tables.table import Table
from recommender.facts import Layout, Task
from recommender.plan import DataChoice


def several_labels(table: Table, choice: DataChoice) -> Rows:
    """Items are sorted lists of labels, which may be empty.

    Raises:
        InputError: a column is missing, or a row holds something else.
    """
    found = _read(table, choice, "multi_label", "text_labels")
    return _rows(table, found, [sorted(row.marks) for row in found.rows], _rarest([row.marks for row in found.rows]))


def numbers(table: Table, choice: DataChoice) -> Rows:
    """Items are numbers.

    Raises:
        InputError: a column is missing, or a value is no number.
    """
    found = _read(table, choice, "regression", "text_number")
    return _rows(table, found, [float(row.target) for row in found.rows], [""] * len(found.rows))


def labelled_pairs(table: Table, choice: DataChoice) -> Rows:
    """Pairs of texts with one label; rows as of single texts, and `parts`.

    Raises:
        InputError: a column is missing, or a value is neither text nor number.
    """
    found = _read(table, choice, "classification", "text_label")
    return replace(_rows(table, found, [], [row.target for row in found.rows]), items=None)


def tagged_words(table: Table, choice: DataChoice) -> Rows:
    """Items hold `words` and `tags`, lists of the same length.

    Raises:
        InputError: a column is missing, or a row has not one tag a word.
    """
    found = _read(table, choice, "token_classification", "tokens_tags")
    items = [{"words": list(row.words), "tags": list(row.marks)} for row in found.rows]
    return _rows(table, found, items, _rarest([row.marks for row in found.rows]))


def marks_of(rows: Rows, task: Task) -> list[Sequence[str]] | None:
    """The labels or tags of each row; `None` for a task that has none."""
    if task == "classification":
        return [(label,) for label in rows.labels]
    if task == "multi_label":
        return rows.items
    if task == "token_classification":
        return [item["tags"] for item in rows.items or ()]
    return None


def _read(table: Table, choice: DataChoice, task: Task, layout: Layout) -> Records:
    return records(table, Shape(task, layout, choice.columns or {}, 1.0, choice.separator))


def _rows(table: Table, found: Records, items: list[Any], strata: list[str]) -> Rows:
    texts = [row.text for row in found.rows]
    rows = Rows(texts, strata, found.numbers, found.dropped, items, table.path.name, place=table.place)
    parts = [row.parts for row in found.rows]
    return replace(rows, parts=parts, groups=shared_texts(parts)) if any(parts) else rows


def _rarest(marks: Sequence[Sequence[str]]) -> list[str]:
    """The rarest mark of each row: splits stratified by it leave some of every mark for training."""
    counts = Counter(mark for row in marks for mark in row)
    return [min(row, key=lambda m: (counts[m], m), default="") for row in marks]
