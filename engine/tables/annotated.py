"""What annotation tools export, as rows: Label Studio, Prodigy, Argilla, and spans of a text marked by hand (Doccano and the
like)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from engine.tables.argilla import of_argilla
from engine.tables.encoding import TextFile
from engine.tables.source import Source
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_HEAD = 64 << 10
_LOOK_AT = 500
"""Rows that tell what a column holds."""
_MAYBE = re.compile(
    r'"(_task_hash|_input_hash|annotations|completions)"|:\s*\[\s*\[\s*\d|\[\s*\{\s*"[^{}]*"(end|end_offset)"+\s*:\s*\d'
    r'|"(suggestions|prediction_agent|annotation_agent)"|\.responses"|"status": *"(submitted|discarded)"'
)
_TEXTS = ("text", "sentence", "content", "document", "source_text", "data")
_LABELS = ("label", "labels", "type", "entity", "entity_type", "tag", "class")
_SPAN_COLUMNS = ("spans", "entities", "label", "labels", "ner", "annotations")
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s]")
"""A word, a sign, or a character of a script that puts no space between words: what tokenizers part first as well."""
_ACCEPTED = "accept"

Span = tuple[int, int, str]
"""First character, the one after the last, and the label."""


def annotated(source: Source, file: TextFile) -> Source:
    """The rows that are meant, where the objects are an annotation tool's; `source` itself where they are not.

    - Label Studio: the fields of `data`, and a column for each control, called as its `from_name`. Of several annotations the
      first that was not cancelled counts.
    - Prodigy: one option chosen becomes `label`; what was not accepted has no label, and so is not learned.
    - Spans, in a list of `[start, end, label]` or of objects, become words with a tag each (BIO) beside the other columns.
    """
    if _MAYBE.search(file.head(_HEAD)) is None:
        return source
    first = next(source.batches(), None)
    if first is None:
        return source
    rows = source
    if _is_label_studio(first):
        step = partial(_of_label_studio, marked=set())
        rows, first = rows.through(step), step(first)
    if "_task_hash" in first.columns or "_input_hash" in first.columns:
        step = partial(_of_prodigy, one=_chooses_one(first), only=_only_label(first))
        rows, first = rows.through(step), step(first)
    answers = of_argilla(first)
    if answers is not None:
        rows, first = rows.through(answers), answers(first)
    found = _spans_column(first)
    if found is not None:
        rows = rows.through(partial(_tagged, text=found[0], spans=found[1]))
    return source if rows is source else replace(rows, names=())


def _is_label_studio(table: Table) -> bool:
    if "data" not in table.columns or _annotations(table) not in table.columns:
        return False
    tasks = zip(table.columns["data"][:_LOOK_AT], table.columns[_annotations(table)][:_LOOK_AT], strict=True)
    return all(isinstance(data, dict) and isinstance(made, list) and all(map(_has_result, made)) for data, made in tasks)


def _has_result(annotation: Any) -> bool:
    return isinstance(annotation, dict) and "result" in annotation


def _annotations(table: Table) -> str:
    return "annotations" if "annotations" in table.columns else "completions"  # their name in old exports


def _of_label_studio(table: Table, marked: set[str]) -> Table:
    """With the fields and answers as columns; `marked` gathers those that hold spans, for the next batches too."""
    rows: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    for data, made in zip(table.values("data"), table.values(_annotations(table)), strict=True):
        row = dict(data) if isinstance(data, dict) else {}
        rows.append(row)
        kept = [a for a in made or () if isinstance(a, dict) and not a.get("was_cancelled")]
        if not kept:
            continue
        done.append(row)
        for result in kept[0].get("result") or ():
            kind, value = result.get("type"), result.get("value")
            if not isinstance(value, dict) or kind not in value:
                continue
            name = str(result.get("from_name"))
            name = f"{name} (annotated)" if name in data else name
            if kind in ("labels", "hypertextlabels"):
                marked.add(name)
                row.setdefault(name, []).append(value | {"labels": value[kind]})
            else:
                row[name] = _answer(value[kind])
    for row in done:  # read by somebody who found nothing to mark
        row.update({name: [] for name in marked - row.keys()})
    names = dict.fromkeys(name for row in rows for name in row)
    return replace(table, columns={name: [row.get(name) for row in rows] for name in names})


def _answer(value: Any) -> Any:
    """What was chosen, typed or rated; a list where that is several."""
    if not isinstance(value, list):
        return value
    found = [v[-1] if isinstance(v, list) and v else v for v in value]  # of a taxonomy the finest
    return found[0] if len(found) == 1 else found


def _choices(table: Table) -> list[Any] | None:
    """What was chosen of Prodigy's options, a list a row; `None` where a field of that name holds something else."""
    values = table.columns.get("accept")
    return values if values is not None and all(v is None or isinstance(v, list) for v in values) else None


def _chooses_one(table: Table) -> bool:
    """Whether one of Prodigy's options is taken a row."""
    styles = [config.get("choice_style") for config in table.columns.get("config", ()) if isinstance(config, dict)]
    return "multiple" not in styles and all(len(v or ()) <= 1 for v in _choices(table) or ())


def _of_prodigy(table: Table, one: bool, only: str | None) -> Table:
    answers = table.columns.get("answer") or [_ACCEPTED] * table.rows
    own = ("config", "options", "accept", "answer")
    columns = {name: values for name, values in table.columns.items() if not name.startswith("_") and name not in own}

    def accepted(values: Sequence[Any], empty: Any = None) -> list[Any]:
        return [(v or empty) if a == _ACCEPTED else None for v, a in zip(values, answers, strict=True)]

    choices = _choices(table)
    if choices is not None:
        chosen = accepted(choices, [])
        columns["label"] = [v[0] if one and v else v or None for v in chosen] if one else chosen
    elif only is not None:
        other = {_ACCEPTED: only, "reject": f"not {only}"}
        columns["label"] = [other.get(str(a)) for a in answers]
    elif "label" in columns:
        columns["label"] = accepted(columns["label"])
    if "spans" in columns:
        columns["spans"] = accepted(columns["spans"], [])
    return replace(table, columns=columns)


def _only_label(table: Table) -> str | None:
    """The one label that Prodigy asked about, if it did, and both answers were given."""
    labels = {v for v in table.columns.get("label", ()) if isinstance(v, str)}
    both = {"accept", "reject"} <= set(map(str, table.columns.get("answer", ())))
    return labels.pop() if len(labels) == 1 and both and "spans" not in table.columns else None


def _spans_column(table: Table) -> tuple[str, str] | None:
    """The column of texts and that of the spans in them; none where words have tags already."""
    texts = (n for n in _TEXTS if any(isinstance(v, str) for v in table.columns.get(n, ())[:_LOOK_AT]))
    text = next(texts, None)
    if text is None or {"ner_tags", "tags"} & table.columns.keys():
        return None
    for name in sorted(table.columns, key=lambda n: _SPAN_COLUMNS.index(n) if n in _SPAN_COLUMNS else len(_SPAN_COLUMNS)):
        filled = [v for v in table.columns[name][:_LOOK_AT] if v not in (None, [])]
        if filled and all(isinstance(v, list) and all(map(_span, v)) for v in filled):
            return text, name
    return None


def _span(item: Any) -> Span | None:
    """A span as tools write it; `None` for anything else."""
    if isinstance(item, dict):
        start, end = item.get("start", item.get("start_offset")), item.get("end", item.get("end_offset"))
        label = next((item[n] for n in _LABELS if n in item), None)
        label = label[0] if isinstance(label, list) and label else label
    elif isinstance(item, list) and len(item) == 3:
        start, end, label = item
    else:
        return None
    if isinstance(start, bool) or not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str):
        return None
    return start, end, label


def _tagged(table: Table, text: str, spans: str) -> Table:
    words: list[list[str] | None] = []
    tags: list[list[str] | None] = []
    table = table.filled((text, spans))
    for i, (whole, marked) in enumerate(zip(table.values(text), table.values(spans), strict=True)):
        if not isinstance(whole, str) or not isinstance(marked, list):
            words.append(None)
            tags.append(None)
            continue
        found = list(_WORD.finditer(whole))
        tag = ["O"] * len(found)
        for start, end, label in _outermost(_inside(table, i, spans, whole, item) for item in marked):
            held = [n for n, word in enumerate(found) if word.start() < end and word.end() > start]
            for n in held:
                tag[n] = f"{'B' if n == held[0] else 'I'}-{label}"
        words.append([word.group() for word in found])
        tags.append(tag)
    kept = {name: values for name, values in table.columns.items() if name != spans}
    return replace(table, columns=kept | {"tokens": words, "tags": tags})


def _inside(table: Table, row: int, column: str, text: str, item: Any) -> Span:
    """The span, counted in characters as Python does; Label Studio counts what a browser does, an emoji twice.

    Raises:
        InputError: no span, or one that is not inside the text.
    """
    span = _span(item)
    where = f"{table.where(row)}: column {one_line(column, 60)}"
    if span is None:
        raise InputError(f"{where} holds something other than a span (start, end, label).")
    start, end, label = span
    said = item.get("text") if isinstance(item, dict) else None
    if isinstance(said, str) and text[start:end] != said:
        units = text.encode("utf-16-le")
        start, end = (len(units[: 2 * n].decode("utf-16-le", "ignore")) for n in (start, end))
    if not 0 <= start <= end <= len(text):
        raise InputError(f"{where} marks the characters {start} to {end} of a text of {len(text)}.")
    return start, end, label


def _outermost(spans: Iterable[Span]) -> Iterator[Span]:
    """Those that reach into no earlier or longer one: a word has one tag."""
    reached = 0
    for start, end, label in sorted(spans, key=lambda s: (s[0], -s[1])):
        if start >= reached:
            yield start, end, label
            reached = end
