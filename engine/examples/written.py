"""Rows for models that write text: conversations, instructions with their answers, raw text."""

from functools import partial
from typing import Any

from engine.examples.tools import given_tools, tools_of
from engine.examples.turns import Fault, first_asked, history, opened, parts_joined, said_and_asked, whole_talk
from engine.inspection.layouts import MAY_LACK, ONE_EACH
from engine.rows import Rows
from engine.tables.table import Table, as_text
from engine.text import one_line
from recommender.errors import InputError
from recommender.plan import DataChoice


def conversations(table: Table, choice: DataChoice) -> Rows:
    """Rows of messages or ShareGPT turns; prompts may stand apart; an item is {"messages": [...], "tools": [...] or None}.

    One whose first answer was left out, because nothing asks for it, holds the number of such messages as `unasked` too, and one
    with answers of weight 0 their number as `unlearned`.

    Raises:
        InputError: a conversation that no model could have had.
    """
    roles = choice.columns or {}
    columns = {"messages": table.values(_column(choice, "messages"))}
    if "prompt" in roles:
        columns["prompt"] = table.values(roles["prompt"])
    tools = tools_of(table, roles)
    kept = Kept(table)
    for i, system in enumerate(_texts(table, choice, "system")):
        row = {role: values[i] for role, values in columns.items()}
        messages, unasked, unlearned = whole_talk(row, partial(fault_of, table, i, roles), system)
        said, asked = said_and_asked(messages)
        if not said:
            kept.dropped += 1
            continue
        given = None if tools is None else given_tools(tools[i], fault_at(table, i, "tools"))
        whole = "\n".join((*asked, *said))  # as inspection tells rows apart
        left = {name: n for name, n in (("unasked", unasked), ("unlearned", unlearned)) if n}
        item = {"messages": messages, "tools": given, **left}
        kept.add(whole, item, table.number(i), first_asked(messages))
    return kept.rows()


def instructions(table: Table, choice: DataChoice) -> Rows:
    """Rows of prompt and answer, written as a conversation of one question.

    Raises:
        InputError: a column is missing, or holds a nested value, or earlier turns are no pairs.
    """
    roles = choice.columns or {}
    ask = next(r for r in ("instruction", "prompt", "source") if r in roles)
    say = next(r for r in ("output", "completion", "target") if r in roles)
    kept = Kept(table)
    columns = (_texts(table, choice, role) for role in (ask, say, "input", "system"))
    earlier = roles.get("history", "")
    talks = table.values(earlier) if table.holds(earlier) else [None] * table.rows
    for i, (prompt, answer, more, system, talk) in enumerate(zip(*columns, talks, strict=True)):
        if not prompt or not answer:
            kept.dropped += 1
            continue
        asked = f"{prompt}\n\n{more}" if more else prompt
        before = history(talk, fault_at(table, i, earlier))
        messages = opened([*before, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}], system)
        whole = "\n".join(t for t in (system, *(m["content"] for m in before), prompt, more, answer) if t)
        kept.add(whole, {"messages": messages, "tools": None}, table.number(i), before[0]["content"] if before else asked)
    return kept.rows()


def texts(table: Table, choice: DataChoice) -> Rows:
    """Rows of raw text; an item is the text.

    Raises:
        InputError: a column is missing, or holds a nested value.
    """
    kept = Kept(table)
    for i, text in enumerate(_texts(table, choice, "text")):
        if text:
            kept.add(text, text, table.number(i))
        else:
            kept.dropped += 1
    return kept.rows()


class Kept:
    """Rows as they are gathered."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._texts: list[str] = []
        self._items: list[Any] = []
        self._numbers: list[int] = []
        self._groups: list[str] = []
        self.dropped = 0

    def add(self, text: str, item: Any, number: int, group: str = "") -> None:
        """A row; `text` tells it from others, `group` is what rows may share that stay together."""
        self._texts.append(text)
        self._items.append(item)
        self._numbers.append(number)
        self._groups.append(group)

    def rows(self) -> Rows:
        """All that was added."""
        strata, groups = [""] * len(self._texts), self._groups if any(self._groups) else None
        source, place = self._table.path.name, self._table.place
        return Rows(self._texts, strata, self._numbers, self.dropped, self._items, source, groups=groups, place=place)


def _column(choice: DataChoice, role: str) -> str:
    name = (choice.columns or {}).get(role)
    if name is None:
        raise InputError(f"the plan does not say which column holds the {role} (data.columns).")
    return name


def _texts(table: Table, choice: DataChoice, role: str) -> list[str]:
    """The texts of that role, one a row; nothing where rows may do without it and do."""
    if role in MAY_LACK and not table.holds((choice.columns or {}).get(role, "")):
        return [""] * table.rows
    name = _column(choice, role)
    values = table.values(name)
    if role == "system":
        values = [parts_joined(value) for value in values]
    if role in ONE_EACH:
        values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    nested = next((i for i, value in enumerate(values) if isinstance(value, list | dict)), None)
    if nested is not None:
        raise fault_at(table, nested, name)("holds a nested value; one text per row is needed")
    return [as_text(value).strip() for value in values]


def fault_of(table: Table, row: int, roles: dict[str, str], role: str, what: str) -> InputError:
    """The error about the cell of that role."""
    return fault_at(table, row, roles.get(role, role))(what)


def fault_at(table: Table, row: int, name: str) -> Fault:
    """Makes errors about one cell."""
    return lambda what: InputError(f"{table.where(row)}: column {one_line(name, 60)} {what}.")
