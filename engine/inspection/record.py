"""One row of any layout in one form, for inspection and run: what is read, to be said, counted and learned."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from engine.examples.pairs import as_one_text, pair
from engine.examples.turns import (
    THOUGHTS,
    calls_of,
    first_asked,
    history,
    is_answer,
    opened,
    parts_joined,
    said_and_asked,
    whole_talk,
)
from engine.inspection.layouts import ONE_EACH, Shape
from engine.inspection.several import is_listed, split
from engine.tables.table import Table, as_text
from engine.text import one_line
from recommender.errors import InputError

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
    item: Any = None
    """What a run learns from, where it is not one class: labels, a number, `words` and `tags`, a text; or `messages` and `tools`,
    of preferences the prompt's and what follows them as `chosen` and `rejected`."""

    @property
    def whole(self) -> str:
        """Everything it says."""
        return "\n".join(t for t in (self.text, self.target, self.other) if t)

    @property
    def shared(self) -> tuple[str, ...]:
        """Texts of which one decides what rows belong together; none where that is all of the text."""
        return self.parts or (() if self.asked is None else (self.asked,))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, by role."""

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


def _labelled_pair(row: Row) -> Record | None:
    text, label = _joined(row), row.text("label")
    if label == "-" and row.shape.columns["label"] == "gold_label":
        return None  # as SNLI and MNLI write that their annotators did not agree
    return Record(text, label, parts=_parts(row)) if text and label else None


def _joined(row: Row) -> str:
    return "\n".join(t for t in (row.text("text"), row.text("text_pair")) if t)


def _parts(row: Row) -> tuple[str, ...]:
    return (row.text("text"), row.text("text_pair")) if "text_pair" in row.values else ()


def _number(row: Row) -> Record | None:
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
    return Record(text, label, parts=_parts(row), item=value)


def _labels(row: Row) -> Record | None:
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
    return Record(text, ", ".join(sorted(marks)), tuple(marks), item=sorted(marks)) if text else None


def _tags(row: Row) -> Record | None:
    tokens, tags = row.items("tokens"), row.items("tags")
    if len(tokens) != len(tags):
        raise row.fault("tags", f"holds {len(tags)} tags for {len(tokens)} tokens")
    if "" in tags:
        raise row.fault("tags", "holds an empty tag")
    item = {"words": tokens, "tags": tags}
    return Record(" ".join(tokens), " ".join(tags), tuple(tags), item=item) if any(tokens) else None


def _written(read: str, more: str, written: str) -> Callable[[Row], Record | None]:
    def make(row: Row) -> Record | None:
        system, prompt, extra, target = (row.text(role) for role in ("system", read, more, written))
        if not prompt or not target:
            return None
        asked = f"{prompt}\n\n{extra}" if extra else prompt
        before = history(row.values.get("history"), partial(row.fault, "history"))
        messages = opened([*before, {"role": "user", "content": asked}, {"role": "assistant", "content": target}], system)
        item = {"messages": messages, "tools": None}
        if not before:
            whole = "\n".join(t for t in (system, prompt, extra) if t)
            return Record(whole, target, turns=len(messages), asked=asked, item=item)
        said, read_too = said_and_asked(messages)
        first = before[0]["content"]
        begin = "\n".join(t for t in (system, first) if t)
        return Record("\n".join(read_too), "\n".join(said), turns=len(messages), begin=begin, asked=first, item=item)

    return make


def _chat(row: Row) -> Record | None:
    found = whole_talk(row.values, row.fault, row.text("system"))
    messages = found.messages
    said, asked = said_and_asked(messages)
    first = next((i for i, message in enumerate(messages) if is_answer(message)), 0)
    begin = "\n".join(said_and_asked(messages[:first])[1]) if len(said) > 1 else None
    if not said:
        return None
    text = "\n".join(asked)
    calling = [calls_of(message) for message in messages if is_answer(message)]
    left = {name: n for name, n in (("unasked", found.unasked), ("unlearned", found.unlearned)) if n}
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
        item={"messages": messages, "tools": None, **left},
    )


def _preference(row: Row) -> Record | None:
    found = pair(row.values, row.fault)
    if found is None:
        return None
    sides = [as_one_text(side) for side in (found.chosen, found.rejected)]
    prompt = as_one_text(found.prompt)
    item = {"messages": found.prompt, "chosen": found.chosen, "rejected": found.rejected, "tools": None}
    return Record(prompt, sides[0], other=sides[1], turns=len(found.prompt) + 1, asked=prompt, item=item)


def _raw(row: Row) -> Record | None:
    text = row.text("text")
    return Record(text, "", item=text) if text else None


MAKERS: dict[str, Callable[[Row], Record | None]] = {
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
