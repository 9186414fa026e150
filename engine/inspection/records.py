"""Rows of any layout in one form: what the model reads, what it should say, and what is counted about it."""

import json
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from engine.examples.pairs import as_one_text, pair
from engine.examples.tools import given_tools, tools_of
from engine.examples.turns import THOUGHTS, calls_of, first_asked, history, is_answer, parts_joined, said_and_asked, whole_talk
from engine.examples.written import fault_at
from engine.inspection.classes import holds_numbers
from engine.inspection.layouts import GROUP, MAY_LACK, ONE_EACH, Shape
from engine.inspection.several import is_listed, split
from engine.rows import labelled, named_groups
from engine.tables.source import Source, Told, nobody
from engine.tables.table import Table, as_text
from engine.text import one_line
from recommender.errors import InputError

FAULTS = 20
"""Faulty rows that are listed."""
LARGEST = 1e30
"""Of a number to be told: 32-bit numbers end at 3e38, and errors are squared."""


class Record(NamedTuple):
    """One row."""

    text: str
    """What is read: the text, the prompt, the words of a sentence."""
    target: str
    """What is to be said: the label, the answer, the tags."""
    marks: tuple[str, ...] = ()
    """Labels, where a row may have several: of the row, or of its tokens."""
    other: str = ""
    """The rejected answer."""
    words: tuple[str, ...] = ()
    """What the text is made of, where words have tags."""
    turns: int = 0
    """Messages, each of which a chat template wraps."""
    parts: tuple[str, ...] = ()
    """Both texts, where pairs of them are judged."""
    begin: str | None = None
    """What stands before the first of several answers; `None` where that is the whole `text`."""
    asked: str | None = None
    """Where answers are written, what rows may share that stay on one side of a split."""
    unasked: int = 0
    """Messages left out because they stand before the first question."""
    unlearned: int = 0
    """Answers of weight 0, which are read and not learned."""
    calls: Literal["no", "some", "all"] = "no"
    """Whether answers that are learned call tools."""
    called: str = ""
    """Their calls, which stand in `target` too."""
    thinks: bool = False
    """Whether one of them has a thought in a field of its own."""
    tools: str = ""
    """Those that may be called, as JSON."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Texts of which one decides what rows belong together; none where that is all of the text."""
        return self.parts or (() if self.asked is None else (self.asked,))


@dataclass(slots=True)
class Records:
    """Rows of a batch that can be used."""

    rows: list[Record] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """In the file, counted from 1."""
    dropped: int = 0
    """Rows without a text, or without what is to be learned."""
    numeric: bool = False
    """Whether some classes are written as numbers, not as text."""
    named: list[Hashable] | None = None
    """What a person named that each row shares with others: `engine.rows.named_groups`."""


def stream(source: Source, shape: Shape, told: Told = nobody, only: "set[int] | None" = None) -> Iterator[Records]:
    """The usable rows of a file batch by batch; `only` those with these numbers.

    A field that no row of a batch has is empty in all of them.

    Raises:
        InputError: a row that is not of that shape, or a column that no batch has.
    """
    columns = set(shape.columns.values())
    lacking = [name for role, name in shape.columns.items() if role not in MAY_LACK] if only is None else []
    talks = shape.layout in ("messages", "sharegpt", "preference")
    source = source.only(columns | ({"tools", "functions"} & set(source.names) if talks else set()))
    if source.names:  # of json they are known at the end only
        _check_there(Table(source.path, source.format, {name: [] for name in source.names}), lacking)
    table = None
    for table in source.batches(told, only):
        lacking = [name for name in lacking if not table.holds(name)]
        whole = table.filled(columns)
        found = records(whole, shape)
        if GROUP in shape.columns:
            of_row = dict(zip(map(whole.number, range(whole.rows)), named_groups(whole, shape.columns[GROUP]), strict=True))
            found.named = [of_row[number] for number in found.numbers]
        yield found
    if table is not None:
        _check_there(table, lacking)


def _check_there(table: Table, columns: list[str]) -> None:
    for name in columns:
        table.values(name)


def records(table: Table, shape: Shape) -> Records:
    """The table's usable rows.

    Raises:
        InputError: a column is missing, or a row is not of that shape.
    """
    if shape.layout == "text_label" and "text_pair" not in shape.columns:
        rows = labelled(table, shape.columns["text"], shape.columns["label"])
        numeric = holds_numbers(table, shape.columns["label"])
        return Records(list(map(Record, rows.texts, rows.labels)), rows.numbers, rows.dropped, numeric)
    table = table.filled(name for role, name in shape.columns.items() if role in MAY_LACK)
    columns = {role: table.values(name) for role, name in shape.columns.items()}
    make = _MAKERS[shape.layout]
    found = Records(numeric="label" in shape.columns and holds_numbers(table, shape.columns["label"]))
    tools = tools_of(table, shape.columns) if shape.task in ("chat", "preference") else None
    listed = [given_tools(given, fault_at(table, i, "tools")) for i, given in enumerate(tools or ())]
    faults: dict[int, InputError] = {}
    for i in range(table.rows):
        row = _Row(table, i, {role: values[i] for role, values in columns.items()}, shape)
        try:
            made = make(row)
        except InputError as error:
            faults[table.number(i)] = error
            continue
        if made is None:
            found.dropped += 1
        else:
            may_call = json.dumps(listed[i], ensure_ascii=False) if listed and listed[i] else ""
            found.rows.append(made._replace(tools=may_call))
            found.numbers.append(table.number(i))
    if faults:
        raise _first_of(faults, alone=table.place is not None)
    return found


def _first_of(faults: dict[int, InputError], *, alone: bool) -> InputError:
    """The first fault, with the numbers of all such rows: who corrects one wants to correct them all. Where several files are
    read as one those say nothing, and it stands `alone`."""
    first = faults[next(iter(faults))]
    if alone or len(faults) == 1:
        return first
    listed = ", ".join(map(str, list(faults)[:FAULTS])) + (", …" if len(faults) > FAULTS else "")
    return InputError(f"{first.message} Rows with faults: {listed}; correct them, or take them out of the file.")


@dataclass(frozen=True, slots=True)
class _Row:
    table: Table
    place: int
    values: dict[str, Any]
    shape: Shape

    def fault(self, role: str, what: str) -> InputError:
        column = one_line(self.shape.columns.get(role, role), 60)
        return InputError(f"{self.table.where(self.place)}: column {column} {what}.")

    def text(self, role: str) -> str:
        """A text or number; nothing where there is none."""
        value = parts_joined(self.values.get(role)) if role == "system" else self.values.get(role)
        if (role in ONE_EACH or (role == "label" and self.shape.layout == "text_label")) and isinstance(value, list):
            value = value[0] if len(value) == 1 else value
        if isinstance(value, list | dict):
            raise self.fault(role, "holds a nested value; one text per row is needed")
        return as_text(value).strip()

    def items(self, role: str) -> list[str]:
        value = self.values[role]
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fault(role, "does not hold a list")
        if not {list, dict}.isdisjoint(map(type, value)):
            raise self.fault(role, "holds a list within its list")
        items = [as_text(v).strip() for v in value]
        if role == "label" and "" in items:
            if any(items):
                raise self.fault(role, "holds an empty label within its list")
            return []  # what is left of parting an empty text
        return items


def _labelled_pair(row: _Row) -> Record | None:
    text, label = _joined(row), row.text("label")
    if label == "-" and row.shape.columns["label"] == "gold_label":
        return None  # as SNLI and MNLI write that their annotators did not agree
    return Record(text, label, parts=_parts(row)) if text and label else None


def _joined(row: _Row) -> str:
    return "\n".join(t for t in (row.text("text"), row.text("text_pair")) if t)


def _parts(row: _Row) -> tuple[str, ...]:
    return (row.text("text"), row.text("text_pair")) if "text_pair" in row.values else ()


def _number(row: _Row) -> Record | None:
    text, label = _joined(row), row.text("label")
    if not text or not label:
        return None
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise row.fault("label", f"holds {one_line(label, 40)}, which is not a number")
    if abs(value) > LARGEST:
        raise row.fault("label", f"holds {one_line(label, 40)}, too large to compute with (at most {LARGEST:g})")
    return Record(text, label, parts=_parts(row))


def _labels(row: _Row) -> Record | None:
    text = row.text("text")
    if "label" not in row.values:
        flags = {name: row.text(role).lower() for role, name in row.shape.columns.items() if role.startswith("label ")}
        if "" in flags.values():
            return None  # whether it has that label is not known
        marks = [name for name, flag in flags.items() if flag in ("1", "1.0", "true")]
    elif row.shape.separator is not None:
        value = row.text("label")
        if row.shape.separator == "list" and value and not is_listed(value):
            raise row.fault("label", "does not hold a list, where other rows do")
        marks = split(value, row.shape.separator)
    elif row.values["label"] is None:
        return None  # nobody said which; none of them is an empty list
    else:
        marks = list(dict.fromkeys(row.items("label")))
    return Record(text, ", ".join(sorted(marks)), tuple(marks)) if text else None


def _tags(row: _Row) -> Record | None:
    tokens, tags = row.items("tokens"), row.items("tags")
    if len(tokens) != len(tags):
        raise row.fault("tags", f"holds {len(tags)} tags for {len(tokens)} tokens")
    if "" in tags:
        raise row.fault("tags", "holds an empty tag")
    return Record(" ".join(tokens), " ".join(tags), tuple(tags), words=tuple(tokens)) if any(tokens) else None


def _written(read: str, more: str, written: str) -> Callable[[_Row], Record | None]:
    def make(row: _Row) -> Record | None:
        system, prompt, extra, target = (row.text(role) for role in ("system", read, more, written))
        if not prompt or not target:
            return None
        asked = f"{prompt}\n\n{extra}" if extra else prompt
        before = history(row.values.get("history"), lambda what: row.fault("history", what))
        if not before:
            whole = "\n".join(t for t in (system, prompt, extra) if t)
            return Record(whole, target, turns=3 if system else 2, asked=asked)
        said, read_too = said_and_asked([*before, {"role": "user", "content": asked}, {"role": "assistant", "content": target}])
        begin = "\n".join(t for t in (system, before[0]["content"]) if t)
        text = "\n".join(t for t in (system, *read_too) if t)
        turns = len(before) + (3 if system else 2)
        return Record(text, "\n".join(said), turns=turns, begin=begin, asked=before[0]["content"])

    return make


def _chat(row: _Row) -> Record | None:
    found = whole_talk(row.values, row.fault, row.text("system"))
    messages = found.messages
    said, asked = said_and_asked(messages)
    first = next((i for i, message in enumerate(messages) if is_answer(message)), 0)
    begin = "\n".join(said_and_asked(messages[:first])[1]) if len(said) > 1 else None
    if not said:
        return None
    text = "\n".join(asked)
    calling = [calls_of(message) for message in messages if is_answer(message)]
    return Record(
        text,
        "\n".join(said),
        turns=len(messages),
        begin=begin,
        asked=first_asked(messages),
        unasked=found.unasked,
        unlearned=found.unlearned,
        calls="all" if all(calling) else "some" if any(calling) else "no",
        called="\n".join(filter(None, calling)),
        thinks=any(message.get(THOUGHTS[0]) for message in messages if is_answer(message)),
    )


def _preference(row: _Row) -> Record | None:
    found = pair(row.values, row.fault)
    if found is None:
        return None
    sides = [as_one_text(side) for side in (found.chosen, found.rejected)]
    prompt = as_one_text(found.prompt)
    return Record(prompt, sides[0], other=sides[1], turns=len(found.prompt) + 1, asked=prompt)


def _raw(row: _Row) -> Record | None:
    text = row.text("text")
    return Record(text, "") if text else None


_MAKERS: dict[str, Callable[[_Row], Record | None]] = {
    "text_label": _labelled_pair,
    "text_number": _number,
    "text_labels": _labels,
    "tokens_tags": _tags,
    "alpaca": _written("instruction", "input", "output"),
    "prompt_completion": _written("prompt", "input", "completion"),
    "source_target": _written("source", "", "target"),
    "messages": _chat,
    "sharegpt": _chat,
    "preference": _preference,
    "text": _raw,
}
