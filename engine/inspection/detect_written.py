"""Layouts of rows whose text is written, as columns show them: preferences, conversations, instructions, pairs, raw text."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from engine.examples.turns import ROLES as ROLES_OF
from engine.inspection.columns import Column, best, text_score, usual_column
from engine.inspection.layouts import TASKS, Shape
from engine.inspection.usual import COMPLETIONS, CONTEXTS, LANGUAGES, PROMPTS, RAW, SOURCES, TARGETS
from engine.tables.table import Table
from recommender.facts import Layout, Task

_CONVERSATIONS = ("messages", "conversations", "conversation")


def preference(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """A chosen and a rejected answer, with their prompt or as whole conversations."""
    # The second names are those of the pairs from Stack Exchange, the better answer first; the third OpenAI's.
    chosen = usual_column(columns, ("chosen", "response_j", "preferred_output"), named, "chosen")
    rejected = usual_column(columns, ("rejected", "response_k", "non_preferred_output"), named, "rejected")
    if chosen is None or rejected is None:
        return None
    roles = {"chosen": chosen, "rejected": rejected}
    if "prompt" not in named and _whole_conversations(table.columns.get(chosen, [])):
        # A column of prompts would only repeat how they begin.
        return Shape("preference", "preference", roles | _system(columns, named), 0.97)
    # An instruction with an input beside it comes before the input alone.
    usual = ("prompt", "instruction", *PROMPTS, "conversations", "conversation", "messages", "context")
    prompt = named.get("prompt") or usual_column(columns, usual)
    if any(c.name == prompt and c.kind == "object" and "messages" in c.keys for c in columns):
        prompt = f"{prompt}.messages"  # OpenAI's pairs
    more = named.get("input") or (usual_column(columns, ("input",)) if prompt and prompt.lower() == "instruction" else None)
    found = {"prompt": prompt, "input": more if more != prompt else None}
    roles |= {role: name for role, name in found.items() if name}
    return Shape("preference", "preference", roles | _system(columns, named), 0.97)


def _whole_conversations(chosen: Iterable[Any]) -> bool:
    """Whether the sides begin with what was asked."""
    sides = list(islice((v for v in chosen if v), 100))
    turns = [v[0] for v in sides if isinstance(v, list) and isinstance(v[0], dict)]
    asked = [t for t in turns if ROLES_OF.get(str(t.get("role", t.get("from"))).lower()) != "assistant"]
    return 2 * len(asked) > len(sides)


def messages(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """Conversations as OpenAI has them."""
    return _turns(columns, named, "messages", {"role", "content"})


def sharegpt(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """Conversations as ShareGPT has them."""
    return _turns(columns, named, "sharegpt", {"from", "value"})


def _turns(columns: list[Column], named: dict[str, str], layout: Layout, keys: set[str]) -> Shape | None:
    parted = _parted(columns, named, keys)
    if parted is not None:
        return Shape("chat", layout, parted | _system(columns, named), 0.98)
    fit = [c.name for c in columns if c.kind == "turns" and keys <= c.keys and c.name == named.get("messages", c.name)]
    usual = [n for n in fit if n.lower() in _CONVERSATIONS]
    if not fit or "prompt" in named:
        return None
    roles = {"messages": (usual or fit)[0]} | _system(columns, named)
    return Shape("chat", layout, roles, 0.98 if usual else 0.85)


def _parted(columns: list[Column], named: dict[str, str], keys: set[str]) -> dict[str, str] | None:
    """The columns of conversations whose beginnings stand apart, as TRL has them; a question or an answer may be a text."""
    talks = [c for c in columns if c.kind in ("turns", "object") and keys <= c.keys]
    whole = usual_column([c for c in talks if c.kind == "turns"], _CONVERSATIONS)
    fit = talks + [c for c in columns if c.kind == "value" and c.rows]
    prompt, said = usual_column(fit, ("prompt",), named, "prompt"), usual_column(fit, ("completion",), named, "messages")
    known = "prompt" in named or (whole is None and "messages" not in named)
    if not known or prompt is None or said is None or not {prompt, said} & {c.name for c in talks}:
        return None
    return {"prompt": prompt, "messages": said}


def _system(columns: list[Column], named: dict[str, str]) -> dict[str, str]:
    """A column of system prompts, where there is one."""
    texts = [c for c in columns if c.rows and (c.kind == "value" or (c.kind == "turns" and "text" in c.keys))]
    found = usual_column(texts, ("system", "system_prompt"), named, "system")
    return {"system": found} if found else {}


def _before(columns: list[Column], named: dict[str, str]) -> dict[str, str]:
    """What stands before a question: a system prompt, and earlier questions with their answers (LLaMA-Factory's `history`)."""
    history = usual_column([c for c in columns if c.kind == "list" and c.rows], ("history",), named, "history")
    return _system(columns, named) | ({"history": history} if history else {})


def alpaca(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """An instruction, perhaps an input, and an output."""
    values = [c for c in columns if c.kind == "value"]
    instruction = usual_column(values, ("instruction", "instructions"), named, "instruction")
    output = named.get("output") or usual_column([c for c in values if c.prose or task], ("output", *COMPLETIONS))
    if instruction is None or output is None:
        return None
    extra = named.get("input") or usual_column(values, ("input", "context"))
    roles = {"instruction": instruction} | ({"input": extra} if extra else {}) | {"output": output} | _before(columns, named)
    return Shape("instruction", "alpaca", roles, 0.97)


def prompt_completion(_: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """A prompt and its completion."""
    names = ("prompt", PROMPTS), ("completion", COMPLETIONS)
    found = _by_names(columns, named, "prompt_completion", *names, trust=task is not None)
    if found is None:
        return None
    free = [c for c in columns if c.kind == "value" and c.prose and c.name not in found.columns.values()]
    extra = named.get("input") or (None if named else usual_column(free, CONTEXTS))
    return replace(found, columns=found.columns | ({"input": extra} if extra else {}) | _before(columns, named))


def _in_order(table: Table, column: Column) -> list[str]:
    """Its objects' fields in the order in which the file has them: the first is what is translated."""
    first = next(v for v in table.values(column.name) if isinstance(v, dict) and column.keys <= v.keys())
    return [str(key) for key in first if key in column.keys]


def source_target(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """One text from another: of languages, or by usual names."""
    nested = next((c for c in columns if c.kind == "object" and len(c.keys) == 2 and c.keys <= LANGUAGES), None)
    if nested is not None and not named:
        one, other = _in_order(table, nested)
        return Shape("seq2seq", "source_target", {"source": f"{nested.name}.{one}", "target": f"{nested.name}.{other}"}, 0.75)
    spoken = (c for c in columns if c.kind == "value" and (c.spaced > 0.3 if c.name.lower() == "id" else c.numeric < 0.5))
    languages = [c.name for c in spoken if c.name.lower() in LANGUAGES]  # `id` is Indonesian, and mostly a number
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
    source = usual_column(values, read[1], named, read[0])
    target = named.get(written[0]) or usual_column([c for c in values if c.prose or trust], written[1])
    if source is None or target is None or source == target:
        return None
    if not named and not trust and any(c.name.lower() in ("label", "labels", "class") and c.few for c in columns):
        return None
    return Shape(TASKS[layout][0], layout, {read[0]: source, written[0]: target}, 0.93)


def text(table: Table, columns: list[Column], named: dict[str, str], task: Task | None) -> Shape | None:
    """Text to be learned as it is."""
    text = named.get("text") or best([c for c in columns if c.name.lower() in RAW], text_score) or best(columns, text_score)
    sure = 0.95 if table.format == "text" else 0.8 if len(columns) == 1 else 0.6
    return Shape("continued_pretraining", "text", {"text": text}, sure) if text else None
