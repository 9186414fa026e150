"""What Argilla exports, as rows: the fields, and a column for each question with the answer that somebody has submitted."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from engine.tables.table import Table

_LOOK_AT = 500
_FLAT = ".responses"
"""What a question's column is called behind its name, where records are written out flat."""
_OWN = re.compile(
    r"id|_server_id|external_id|status|metadata|vectors|(inserted|updated)_at|.*[.-]suggestion([.-].*)?|.*\.responses\..*"
)
_ITS = "annotation prediction annotation_agent prediction_agent multi_label explanation vectors status metadata metrics id"
_OLD = frozenset({*_ITS.split(), "search_keywords", "event_timestamp"})
"""Columns beside the texts in exports of the first version."""
_UNSAID = ("discarded", "draft")


def of_argilla(table: Table) -> Callable[[Table], Table] | None:
    """What makes rows of Argilla's records; `None` where `table` holds none."""
    head = {name: values[:_LOOK_AT] for name, values in table.columns.items()}
    if all(name in head and all(isinstance(v, dict) for v in head[name]) for name in ("fields", "responses")):
        return _of_records
    flat = [name.removesuffix(_FLAT) for name in head if name.endswith(_FLAT)]
    if flat:
        return partial(_of_flat, questions=flat)
    if {"annotation", "prediction"} <= head.keys() and {"annotation_agent", "multi_label", "status"} & head.keys():
        return _of_first_version
    asked = [name for name, values in head.items() if any(values) and all(map(_are_answers, filter(None, values)))]
    return partial(_of_feedback, questions=asked) if asked else None


def _of_records(table: Table) -> Table:
    rows: list[dict[str, Any]] = []
    for fields, responses in zip(table.values("fields"), table.values("responses"), strict=True):
        answers = responses if isinstance(responses, dict) else {}
        rows.append({**(fields if isinstance(fields, dict) else {}), **{q: _said(given) for q, given in answers.items()}})
    names = dict.fromkeys(name for row in rows for name in row)
    return replace(table, columns={name: [row.get(name) for row in rows] for name in names})


def _of_flat(table: Table, questions: list[str]) -> Table:
    kept = {n: v for n, v in table.columns.items() if not n.endswith(_FLAT) and _OWN.fullmatch(n) is None}
    for question in questions:
        given = table.columns.get(f"{question}{_FLAT}", [None] * table.rows)
        states = table.columns.get(f"{question}{_FLAT}.status", [None] * table.rows)
        kept[question] = [_first(v, s) for v, s in zip(given, states, strict=True)]
    return replace(table, columns=kept)


def _first(given: Any, states: Any) -> Any:
    values = given if isinstance(given, list) else []
    known = states if isinstance(states, list) and len(states) == len(values) else [None] * len(values)
    return next((v for v, state in zip(values, known, strict=True) if state not in _UNSAID), None)


def _of_first_version(table: Table) -> Table:
    texts = {n: v for n, v in table.columns.items() if n not in _OLD and not (n == "inputs" and "text" in table.columns)}
    return replace(table, columns=texts | {"label": table.columns.get("annotation", [None] * table.rows)})


def _of_feedback(table: Table, questions: list[str]) -> Table:
    kept = {n: v for n, v in table.columns.items() if _OWN.fullmatch(n) is None}
    return replace(table, columns=kept | {q: [_said(v) for v in table.columns.get(q, [None] * table.rows)] for q in questions})


def _are_answers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) and {"user_id", "value", "status"} <= v.keys() for v in value)


def _said(given: Any) -> Any:
    """What was submitted first; nothing where nothing was."""
    answers = [a for a in given if isinstance(a, dict)] if isinstance(given, list) else []
    return next((a.get("value") for a in answers if a.get("status") not in _UNSAID), None)
