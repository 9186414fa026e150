"""What the rows are for: the task, how a row is written down, and which column plays which part."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from engine.examples.turns import ROLES as ROLES_OF
from engine.inspection.columns import (
    LABEL_NAMES,
    Column,
    best,
    check_names,
    choose,
    describe,
    is_called_id,
    label_score,
    listed,
    refuse_free_form,
    text_score,
)
from engine.inspection.layouts import KNOWN_ROLES, OPTIONAL, ROLES, TASKS, Shape
from engine.inspection.misleading import (
    refuse_decimal_commas,
    refuse_flags,
    refuse_measurements,
    refuse_nested_label,
    refuse_other_jobs,
    refuse_several_answers,
    refuse_vectors,
)
from engine.inspection.several import separator_of
from engine.inspection.usual import COMPLETIONS, CONTEXTS, LANGUAGES, NUMBERS, PAIRS, PROMPTS, RAW, SOURCES, TARGETS
from engine.tables.table import Table
from recommender.errors import InputError
from recommender.facts import Layout, Task


def detect(table: Table, named: dict[str, str], task: Task | None) -> Shape:
    """The layout of the rows, from the first ones. What the person named is taken as it is.

    Raises:
        InputError: nothing fits, or what was named does not exist.
    """
    strange = next((role for role in named if role not in KNOWN_ROLES), None)
    if strange is not None:
        raise InputError(f"{strange}: columns have no such role; the roles are {', '.join(KNOWN_ROLES)}.")
    check_names(table, named)
    columns = describe(table)
    allowed = [layout for layout, tasks in TASKS.items() if task is None or task in tasks]
    if named:
        allowed = [layout for layout in allowed if set(named) <= {*ROLES[layout], *OPTIONAL.get(layout, ()), *_also(layout)}]
    if not named and task is None:
        refuse_other_jobs(table, columns)
    for layout in allowed:
        shape = _FINDERS[layout](table, columns, named, task)
        if shape is not None:
            if task is None and not named:
                refuse_nested_label(table, columns, shape)
            if task is None and "text" not in named and shape.layout in ("text_label", "text_labels", "text_number"):
                refuse_measurements(table, columns, shape.columns["text"], shape.columns.get("label"))
            return _believed(shape, named, task)
    needs = " or ".join(dict.fromkeys(" and ".join(ROLES[layout]) for layout in allowed)) or "other columns than those named"
    for_task = f" for {task}" if task else ""
    names = listed(table)
    if not any(c.rows for c in columns):
        raise InputError(f"{table.path}: its rows are empty in all columns ({names}).")
    raise InputError(f"{table.path}: its columns ({names}) do not show what to use{for_task}; name {needs} with --column.")


def _also(layout: Layout) -> tuple[str, ...]:
    return ("label",) if layout == "text_labels" else ()


def _believed(shape: Shape, named: dict[str, str], task: Task | None) -> Shape:
    """What was named or said is certain."""
    complete = set(named) >= set(ROLES[shape.layout]) and shape.layout != "text"
    sure = 1.0 if complete or (task is not None and named) else max(shape.confidence, 0.9) if task else shape.confidence
    return replace(shape, task=task or shape.task, confidence=sure)


Finder = Callable[[Table, list[Column], dict[str, str], Task | None], Shape | None]


def _preference(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    # The second names are those of the pairs from Stack Exchange, the better answer first; the third OpenAI's.
    chosen = _named(columns, ("chosen", "response_j", "preferred_output"), named, "chosen")
    rejected = _named(columns, ("rejected", "response_k", "non_preferred_output"), named, "rejected")
    if chosen is None or rejected is None:
        return None
    roles = {"chosen": chosen, "rejected": rejected}
    if "prompt" not in named and _whole_conversations(table.columns.get(chosen, [])):
        # A column of prompts would only repeat how they begin.
        return Shape("preference", "preference", roles | _system(columns, named), 0.97)
    # An instruction with an input beside it comes before the input alone.
    usual = ("prompt", "instruction", *PROMPTS, "conversations", "conversation", "messages", "context")
    asked = next((f"{c.name}.messages" for c in columns if c.kind == "object" and "messages" in c.keys), None)
    prompt = named.get("prompt") or asked or _named(columns, usual)
    more = named.get("input") or (_named(columns, ("input",)) if prompt and prompt.lower() == "instruction" else None)
    found = {"prompt": prompt, "input": more if more != prompt else None}
    roles |= {role: name for role, name in found.items() if name}
    return Shape("preference", "preference", roles | _system(columns, named), 0.97)


def _whole_conversations(chosen: Iterable[Any]) -> bool:
    """Whether the sides begin with what was asked."""
    sides = list(islice((v for v in chosen if v), 100))
    turns = [v[0] for v in sides if isinstance(v, list) and isinstance(v[0], dict)]
    asked = [t for t in turns if ROLES_OF.get(str(t.get("role", t.get("from"))).lower()) != "assistant"]
    return 2 * len(asked) > len(sides)


def _messages(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    return _turns(columns, named, "messages", {"role", "content"})


def _sharegpt(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    return _turns(columns, named, "sharegpt", {"from", "value"})


def _turns(columns: list[Column], named: dict[str, str], layout: Layout, keys: set[str]) -> Shape | None:
    fit = [c.name for c in columns if c.kind == "turns" and keys <= c.keys and c.name == named.get("messages", c.name)]
    usual = [n for n in fit if n.lower() in ("messages", "conversations", "conversation")]
    if not fit:
        return None
    roles = {"messages": (usual or fit)[0]} | _system(columns, named)
    return Shape("chat", layout, roles, 0.98 if usual else 0.85)


def _system(columns: list[Column], named: dict[str, str]) -> dict[str, str]:
    """A column of system prompts, where there is one."""
    texts = [c for c in columns if c.rows and (c.kind == "value" or (c.kind == "turns" and "text" in c.keys))]
    found = _named(texts, ("system", "system_prompt"), named, "system")
    return {"system": found} if found else {}


def _before(columns: list[Column], named: dict[str, str]) -> dict[str, str]:
    """What stands before a question: a system prompt, and earlier questions with their answers (LLaMA-Factory's `history`)."""
    history = _named([c for c in columns if c.kind == "list" and c.rows], ("history",), named, "history")
    return _system(columns, named) | ({"history": history} if history else {})


def _tokens_tags(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    sorts = any(c.few and c.called in LABEL_NAMES for c in columns)
    if sorts and task is None and not named and {"text", "tokens", "tags"} <= {c.name.lower() for c in columns}:
        return None  # spans beside a class of the whole text, as intents have them
    lists = [c for c in columns if c.kind == "list"]
    words = [c for c in lists if c.numeric < 0.9 and c.spaced < 0.3]  # not whole answers beside their grades
    first = named.get("tokens") or _named(words, ("tokens", "words", "token"))
    if first is None and len(lists) > 1 and words:
        first = words[0].name
    if first is None:
        return None
    tags = [c for c in lists if c.name != first and _alike(table.columns.get(first, []), table.columns[c.name])]
    usual = _named(tags, ("ner_tags", "tags", "labels", "ner", "pos_tags", "upos", "pos", "tag"))
    second = named.get("tags") or usual or (tags[0].name if tags else None)
    if second is None:
        return None
    sure = 0.97 if len(tags) == 1 and usual else 0.8
    return Shape("token_classification", "tokens_tags", {"tokens": first, "tags": second}, sure)


def _alike(first: Iterable[Any], second: Iterable[Any]) -> bool:
    """Whether both hold lists of the same lengths."""
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if isinstance(a, list) and isinstance(b, list)][:1_000]
    return bool(pairs) and sum(len(a) == len(b) for a, b in pairs) > 0.95 * len(pairs)


def _alpaca(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    values = [c for c in columns if c.kind == "value"]
    instruction = _named(values, ("instruction", "instructions"), named, "instruction")
    output = named.get("output") or _named([c for c in values if c.prose or task], ("output", *COMPLETIONS))
    if instruction is None or output is None:
        return None
    extra = named.get("input") or _named(values, ("input", "context"))
    roles = {"instruction": instruction} | ({"input": extra} if extra else {}) | {"output": output} | _before(columns, named)
    return Shape("instruction", "alpaca", roles, 0.97)


def _prompt_completion(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    names = ("prompt", PROMPTS), ("completion", COMPLETIONS)
    found = _by_names(columns, named, "prompt_completion", *names, trust=task is not None)
    if found is None:
        return None
    free = [c for c in columns if c.kind == "value" and c.prose and c.name not in found.columns.values()]
    extra = named.get("input") or (None if named else _named(free, CONTEXTS))
    return replace(found, columns=found.columns | ({"input": extra} if extra else {}) | _before(columns, named))


def _in_order(table: Table, column: Column) -> list[str]:
    """Its objects' fields in the order in which the file has them: the first is what is translated."""
    first = next(v for v in table.values(column.name) if isinstance(v, dict) and column.keys <= v.keys())
    return [str(key) for key in first if key in column.keys]


def _source_target(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    nested = next((c for c in columns if c.kind == "object" and len(c.keys) == 2 and c.keys <= LANGUAGES), None)
    if nested is not None and not named:
        one, other = _in_order(table, nested)
        return Shape("seq2seq", "source_target", {"source": f"{nested.name}.{one}", "target": f"{nested.name}.{other}"}, 0.75)
    languages = [c.name for c in columns if c.name.lower() in LANGUAGES and c.kind == "value"]
    if len(languages) == 2 and not named:
        return Shape("seq2seq", "source_target", {"source": languages[0], "target": languages[1]}, 0.9)
    return _by_names(columns, named, "source_target", ("source", SOURCES), ("target", TARGETS), trust=task is not None)


def _by_names(
    columns: list[Column],
    named: dict[str, str],
    layout: Layout,
    read: tuple[str, tuple[str, ...]],
    written: tuple[str, tuple[str, ...]],
    *,
    trust: bool,
) -> Shape | None:
    """Two columns of prose with usual names; what is to be written must not look like a label, unless `trust`."""
    values = [c for c in columns if c.kind == "value"]
    source = _named(values, read[1], named, read[0])
    target = named.get(written[0]) or _named([c for c in values if c.prose or trust], written[1])
    if source is None or target is None or source == target:
        return None
    if not named and not trust and any(c.name.lower() in ("label", "labels", "class") and c.few for c in columns):
        return None
    return Shape(TASKS[layout][0], layout, {read[0]: source, written[0]: target}, 0.93)


def _text_labels(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    if not named and task is None:
        refuse_several_answers(table, columns)
    text = named.get("text") or best(columns, text_score, exclude=named.get("label"))
    if text is None:
        return None
    lists = [c for c in columns if c.kind == "list" and c.name == named.get("label", c.name) and c.distinct]
    if task is None:
        tagged = {"tokens", "tags"} <= {c.name.lower() for c in lists}  # of words, not of the text
        lists = [] if tagged else [c for c in lists if not _one_each(table, c)]
    if lists:
        usual = [c for c in lists if c.name.lower().rstrip("s") in LABEL_NAMES or c.name.lower() in ("genres", "categories")]
        column = (usual or lists)[0]
        refuse_vectors(table, column)
        if task is None and not usual and "label" not in named and any(map(_looks_named, columns)):
            return None
        return Shape("multi_label", "text_labels", {"text": text, "label": column.name}, 0.95 if usual else 0.75)
    usual_names = (*LABEL_NAMES, "tags", "genres", "genre", "categories", "topics", "emotions")
    label = named.get("label") or _named(columns, usual_names) or _parted(table, columns, text)
    if task is None and "text" not in named:
        refuse_decimal_commas(table, columns, label)
    if label is not None:
        found = separator_of(table.values(label), label, sure=task == "multi_label")
        if found is not None:
            return Shape("multi_label", "text_labels", {"text": text, "label": label}, 0.85, separator=found)
        return None
    flags = [c.name for c in columns if c.flags and c.name != text]
    if not named and task is None:
        refuse_flags(table, columns, text, flags)
    if len(flags) >= (2 if task == "multi_label" else 3):
        return Shape("multi_label", "text_labels", {"text": text} | {f"label {i}": n for i, n in enumerate(flags, 1)}, 0.85)
    return None


def _one_each(table: Table, column: Column) -> bool:
    """Whether every row has exactly one label in its list: then it is one of several classes."""
    values = table.values(column.name)
    return all(isinstance(value, list) and len(value) == 1 for value in values)


def _parted(table: Table, columns: list[Column], text: str) -> str | None:
    """A column without a usual name whose values are several labels each."""
    short = [c.name for c in columns if c.kind == "value" and c.name != text and c.mean_characters <= 60]
    return next((name for name in short if separator_of(table.values(name), name) is not None), None)


def _text_number(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    numbers = [c for c in columns if c.kind == "value" and c.numeric >= 0.95 and c.name == named.get("label", c.name)]
    if task != "regression":
        numbers = [c for c in numbers if _measured(c) and not c.dates and not is_called_id(c)]  # arXiv's are 0704.0001
        named_label = any(c.name.lower() in LABEL_NAMES and c.few and c.fractions < 0.05 for c in columns)
        # `airline_sentiment` is what is told, `airline_sentiment_confidence` is not.
        named_label |= not any(c.name.lower() in NUMBERS for c in numbers) and any(map(_tells_classes, columns))
        if "label" not in named and named_label:
            return None
    label = named.get("label") or _named(numbers, NUMBERS) or (numbers[0].name if numbers else None)
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


def _text_label(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    if not any(map(_looks_named, columns)):
        columns = [replace(c, kind="value") if c.kind == "list" and c.rows and _one_each(table, c) else c for c in columns]
    pair = _pair(columns, named)
    if _is_raw(table, columns, named, task, pair is not None):
        return None
    label = named.get("label")
    if pair is not None:
        rest = [c for c in columns if c.name not in pair]
        label = label or best(rest, label_score)
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
    labels += [c for c in others if c.name.lower() in ("label", "labels") and c.kind == "value" and c.distinct == 1]
    return table.format == "text" or (len(columns) == 1 and columns[0].kind == "value") or bool(texts and not labels)


def _text(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    text = named.get("text") or best([c for c in columns if c.name.lower() in RAW], text_score) or best(columns, text_score)
    sure = 0.95 if table.format == "text" else 0.8 if len(columns) == 1 else 0.6
    return Shape("continued_pretraining", "text", {"text": text}, sure) if text else None


def _named(columns: list[Column], names: Iterable[str], given: dict[str, str] | None = None, role: str = "") -> str | None:
    """The column that the person gave the role, else the one with the most usual name."""
    if given and role in given:
        return given[role]
    by_name = {c.name.lower().strip(): c.name for c in reversed(columns)}
    return next((by_name[n] for n in names if n in by_name), None)


_FINDERS: dict[Layout, Finder] = {
    "preference": _preference,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "tokens_tags": _tokens_tags,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "source_target": _source_target,
    "text_labels": _text_labels,
    "text_number": _text_number,
    "text_label": _text_label,
    "text": _text,
}
