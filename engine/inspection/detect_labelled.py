"""Layouts of rows with labels, as columns show them: tags, several labels, numbers, one label."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from engine.inspection.columns import (
    LABEL_NAMES,
    Column,
    best,
    choose,
    is_called_id,
    label_score,
    refuse_free_form,
    text_score,
    usual_column,
)
from engine.inspection.layouts import Shape
from engine.inspection.misleading import (
    decimal_commas,
    refuse_decimal_commas,
    refuse_flags,
    refuse_several_answers,
    refuse_vectors,
)
from engine.inspection.several import separator_of
from engine.inspection.usual import NUMBERS, PAIRS, RAW
from engine.tables.table import Table
from recommender.facts import Task

NO_LABEL = 0.1
"""Score up to which a column is no label beside a pair: what differs in every row, as ids do, or is the same in all."""
_TAGS = ("ner_tags", "tags", "labels", "ner", "pos_tags", "upos", "pos", "tag")


def tokens_tags(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """Words in a list, and a tag for each."""
    sorts = any(c.few and c.called in LABEL_NAMES for c in columns)
    if sorts and task is None and not named and {"text", "tokens", "tags"} <= {c.name.lower() for c in columns}:
        return None  # spans beside a class of the whole text, as intents have them
    lists = [c for c in columns if c.kind == "list"]
    words = [c for c in lists if c.numeric < 0.9]
    first = named.get("tokens") or usual_column(words, ("tokens", "words", "token"))
    if first is None and len(lists) > 1:  # sentences with a label each too, and not whole answers beside their grades
        first = next((c.name for c in words if c.called not in _TAGS and (_in_words(c) or usual_column(lists, _TAGS))), None)
    if first is None:
        return None
    tags = [c for c in lists if c.name != first and _alike(table.columns.get(first, []), table.columns[c.name])]
    usual = usual_column(tags, _TAGS)
    second = named.get("tags") or usual or next((c.name for c in tags if _in_words(c)), None)
    if second is None:
        return None
    sure = 0.97 if len(tags) == 1 and usual and all(_in_words(c) for c in words if c.name == first) else 0.8
    return Shape("token_classification", "tokens_tags", {"tokens": first, "tags": second}, sure)


def _in_words(c: Column) -> bool:
    """Whether a list holds words or tags, and not sentences."""
    return c.spaced < 0.3


def _alike(first: Iterable[Any], second: Iterable[Any]) -> bool:
    """Whether both hold lists of the same lengths."""
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if isinstance(a, list) and isinstance(b, list)][:1_000]
    return bool(pairs) and sum(len(a) == len(b) for a, b in pairs) > 0.95 * len(pairs)


def text_labels(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """A text and several labels: in a list, in one value, or a column of 0 and 1 for each."""
    if not named and task is None:
        refuse_several_answers(table, columns)
    text = named.get("text") or best(columns, text_score, exclude=named.get("label"))
    if text is None:
        return None
    lists = _label_lists(table, columns, named, task)
    if lists:
        return _labels_in_list(table, columns, lists, text, sure=task is not None or "label" in named)
    usual_names = (*LABEL_NAMES, "tags", "genres", "genre", "categories", "topics", "emotions")
    label = named.get("label") or usual_column(columns, usual_names) or _parted(table, columns, text, task)
    if task is None and "text" not in named:
        refuse_decimal_commas(table, columns, label)
    if label is not None:
        separator = separator_of(table.values(label), label, sure=task == "multi_label")
        if separator is None:
            return None
        refuse_vectors(table, label)
        return Shape("multi_label", "text_labels", {"text": text, "label": label}, 0.85, separator=separator)
    flags = [c.name for c in columns if c.flags and c.name != text]
    if not named and task is None:
        refuse_flags(table, columns, text, flags)
    if len(flags) < (2 if task == "multi_label" else 3):
        return None
    return Shape("multi_label", "text_labels", {"text": text} | {f"label {i}": n for i, n in enumerate(flags, 1)}, 0.85)


def _label_lists(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> list[Column]:
    """Columns of lists that may be the labels of a text; where nobody said so, not what else lists hold beside one."""
    lists = [c for c in columns if c.kind == "list" and c.name == named.get("label", c.name) and c.distinct]
    if task is not None:
        return lists
    if {"tokens", "tags"} <= {c.name.lower() for c in lists}:  # of words, not of the text
        return []
    vectors = [c for c in lists if c.fractions > 0.5 and c.called not in LABEL_NAMES]  # what a model made of the text
    return [c for c in lists if c not in vectors and not _one_each(table, c)]


def _labels_in_list(table: Table, columns: list[Column], lists: list[Column], text: str, *, sure: bool) -> Shape | None:
    """By the list with the most usual name; another name will do where that is `sure`, or nothing else is called a label."""
    usual = [c for c in lists if c.name.lower().rstrip("s") in LABEL_NAMES or c.name.lower() in ("genres", "categories")]
    label = (usual or lists)[0].name
    refuse_vectors(table, label)
    if not sure and not usual and any(map(_looks_named, columns)):
        return None
    return Shape("multi_label", "text_labels", {"text": text, "label": label}, 0.95 if usual else 0.75)


def _one_each(table: Table, column: Column) -> bool:
    """Whether every row has exactly one label in its list: then it is one of several classes."""
    values = table.values(column.name)
    return all(isinstance(value, list) and len(value) == 1 for value in values)


def _parted(table: Table, columns: list[Column], text: str, task: Task | None) -> str | None:
    """A column without a usual name whose values are several labels each."""
    short = [c.name for c in columns if c.kind == "value" and c.name != text and c.mean_characters <= 60]
    if task is None:  # `1,30` is one number, and no labels
        short = [name for name in short if not decimal_commas(table.values(name))]
    return next((name for name in short if separator_of(table.values(name), name) is not None), None)


def text_number(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """A text, or a pair, and a number that measures something."""
    numbers = [c for c in columns if c.kind == "value" and c.numeric >= 0.95 and c.name == named.get("label", c.name)]
    if task != "regression":
        numbers = [c for c in numbers if _measured(c) and not c.dates and not is_called_id(c)]  # arXiv's are 0704.0001
        named_label = any(c.name.lower() in LABEL_NAMES and c.few and c.fractions < 0.05 for c in columns)
        # `airline_sentiment` is what is told, `airline_sentiment_confidence` is not.
        named_label |= not any(c.name.lower() in NUMBERS for c in numbers) and any(map(_tells_classes, columns))
        if "label" not in named and named_label:
            return None
    label = named.get("label") or usual_column(numbers, NUMBERS) or (numbers[0].name if numbers else None)
    if label is None or not (numbers or task == "regression"):
        return None
    pair = _pair(columns, named)
    text = named.get("text") or (pair[0] if pair else None) or best(columns, text_score, exclude=label)
    if text is None:
        return None
    others = {"text_pair": pair[1]} if pair and pair[0] == text else {}
    sure = 0.9 if label.lower() in NUMBERS else 0.75
    return Shape("regression", "text_number", {"text": text, **others, "label": label}, sure)


def _looks_named(c: Column) -> bool:
    """Whether few short values stand under a name that holds one of labels, such as `gold_label`."""
    return c.kind == "value" and c.few and c.distinct > 1 and c.fractions < 0.05 and label_score(c) >= 1.5


def _tells_classes(c: Column) -> bool:
    """The same, and its values are words, or its name ends with that one: `topic_id` numbers something."""
    return _looks_named(c) and (c.numeric < 0.5 or re.split(r"[\W_]+", c.called)[-1] in LABEL_NAMES)


def _measured(c: Column) -> bool:
    """Whether numbers measure something: with fractions and many different ones, or many under a name that says so."""
    if c.fractions > 0.05:
        return c.distinct > 10
    return c.name.lower() in NUMBERS and 20 < c.distinct <= 0.8 * c.rows


def _pair(columns: list[Column], named: dict[str, str]) -> tuple[str, str] | None:
    if "text_pair" in named:
        return named.get("text") or best(columns, text_score, exclude=named["text_pair"]) or "", named["text_pair"]
    by_name = {c.name.lower(): c for c in columns if c.kind == "value" and c.spaced > 0.3}
    found = next(((by_name[a].name, by_name[b].name) for a, b in PAIRS if a in by_name and b in by_name), None)
    return found if found and named.get("text", found[0]) == found[0] else None


def text_label(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """A text, or a pair, and one label; where nothing could be its label, the text is raw."""
    if not any(map(_looks_named, columns)):
        columns = [replace(c, kind="value") if c.kind == "list" and c.rows and _one_each(table, c) else c for c in columns]
    pair = _pair(columns, named)
    if _is_raw(table, columns, named, task, pair is not None):
        return None
    label = named.get("label")
    if pair is not None:
        rest = [c for c in columns if c.name not in pair and label_score(c) > NO_LABEL]
        label = label or best(rest, label_score)
        if "text_pair" not in named and label in (None, *pair):  # answers out of a list are labels of their question
            pair = None
    text, label, sure = choose(table, columns, named.get("text") or (pair[0] if pair else None), label)
    chosen = next((c for c in columns if c.name == label), None)
    if chosen is not None:
        refuse_decimal_commas(table, [chosen], label)
        refuse_free_form(table, chosen, named="label" in named)
    if pair is not None and "label" not in named:
        sure = 0.9
    others = {"text_pair": pair[1]} if pair else {}
    return Shape("classification", "text_label", {"text": text, **others, "label": label}, sure)


def _is_raw(table: Table, columns: list[Column], named: dict[str, str], task: Task | None, paired: bool) -> bool:
    """Whether there is a text and nothing that could be its label. A csv file of one column is asked about instead."""
    if task is not None or "label" in named or paired or table.format in ("csv", "tsv"):
        return False
    others = [c for c in columns if c.name.lower() not in RAW]
    if {"path", "content"} <= {c.name.lower() for c in columns}:  # files, with where they are from
        return not any(map(_looks_named, columns))
    texts = [c for c in columns if c.name.lower() in RAW and c.prose]
    labels = [c for c in others if c.few and c.distinct > 1 and (c.numeric < 0.5 or c.name.lower() in LABEL_NAMES)]
    # Of many classes, as of intents, a small file shows each a few times only.
    labels += [c for c in others if c.name.lower() in LABEL_NAMES and c.kind == "value" and 1 < c.distinct <= 0.5 * c.rows]
    called = [c for c in others if c.name.lower() in ("label", "labels")]
    labels += [c for c in called if c.kind == "value" and c.distinct == 1]
    written = [c for c in called if c.prose or (c.kind == "list" and _one_each(table, c))]  # an answer to the text
    alone = len(columns) == 1 and columns[0].kind == "value"
    return table.format == "text" or alone or bool(texts and not labels and not written)
