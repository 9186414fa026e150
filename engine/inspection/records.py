"""The rows of a file in one form, batch by batch, for inspection and run."""

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial

from engine.examples.tools import given_tools, tools_of
from engine.inspection.classes import as_usual, holds_numbers
from engine.inspection.layouts import GROUP, MAY_LACK, Shape
from engine.inspection.record import MAKERS, Record, Row
from engine.rows import labelled, named_groups
from engine.tables.source import Source, Told, nobody
from engine.tables.table import Table
from recommender.errors import InputError

FAULTS = 20
"""Faulty rows that are listed."""
TALKS = ("messages", "sharegpt", "preference")
"""Layouts of conversations, beside which tools may be listed."""


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
    source = source.only(columns | ({"tools", "functions"} & set(source.names) if shape.layout in TALKS else set()))
    if source.names:  # of json they are known at the end only
        _check_there(Table(source.path, source.format, {name: [] for name in source.names}), lacking)
    table = None
    for table in source.batches(told, only):
        lacking = [name for name in lacking if not table.holds(name)]
        whole = table.filled(columns)
        try:
            found = records(whole, shape)
        except InputError:
            _check_there(table, lacking)  # says more than what each row is then without
            raise
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
        labels = rows.labels if shape.labels is None else map(as_usual(shape.labels), rows.labels)
        return Records(list(map(Record, rows.texts, labels)), rows.numbers, rows.dropped, numeric)
    table = table.filled(name for role, name in shape.columns.items() if role in MAY_LACK)
    columns = {role: table.values(name) for role, name in shape.columns.items()}
    make = MAKERS[shape.layout]
    found = Records(numeric="label" in shape.columns and holds_numbers(table, shape.columns["label"]))
    tools = tools_of(table, shape.columns) if shape.layout in TALKS else None
    faults: dict[int, InputError] = {}
    for i in range(table.rows):
        row = Row(table, i, {role: values[i] for role, values in columns.items()}, shape)
        try:
            made = make(row)
            given = None if tools is None or made is None else given_tools(tools[i], partial(row.fault, "tools"))
        except InputError as error:
            faults[table.number(i)] = error
            continue
        if made is None:
            found.dropped += 1
            continue
        if given is not None:
            made.item["tools"] = given
            made = made._replace(tools=json.dumps(given, ensure_ascii=False))
        found.rows.append(made)
        found.numbers.append(table.number(i))
    if faults:
        raise _first_of(faults, alone=table.place is not None)
    if shape.labels is not None and shape.task in ("classification", "multi_label"):
        found.rows = list(map(partial(_respelled, as_usual(shape.labels)), found.rows))
    return found


def _respelled(usual: Callable[[str], str], row: Record) -> Record:
    if not row.marks:
        return row._replace(target=usual(row.target))
    marks = dict.fromkeys(map(usual, row.marks))
    return row._replace(target=", ".join(sorted(marks)), marks=tuple(marks), item=sorted(marks))


def _first_of(faults: dict[int, InputError], *, alone: bool) -> InputError:
    """The first fault, with the numbers of all such rows: who corrects one wants to correct them all. Where several files are
    read as one those say nothing, and it stands `alone`."""
    first = faults[next(iter(faults))]
    if alone or len(faults) == 1:
        return first
    listed = ", ".join(map(str, list(faults)[:FAULTS])) + (", …" if len(faults) > FAULTS else "")
    return InputError(f"{first.message} Rows with faults: {listed}; correct them, or take them out of the file.")
