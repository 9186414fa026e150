"""What the rows are for: the task, how a row is written down, and which column plays which part."""

from collections.abc import Callable
from dataclasses import replace

from engine.inspection import detect_labelled, detect_written
from engine.inspection.columns import Column, check_names, describe, listed
from engine.inspection.layouts import GROUP, KNOWN_ROLES, OPTIONAL, ROLES, TASKS, Shape
from engine.inspection.misleading import refuse_measurements, refuse_nested_label
from engine.inspection.other_jobs import refuse_other_jobs
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import Layout, Task


def detect(table: Table, named: dict[str, str], task: Task | None) -> Shape:
    """The layout of the rows, from the first ones. What the person named is taken as it is.

    Raises:
        InputError: nothing fits, or what was named does not exist, or is named for two things.
    """
    strange = next((role for role in named if role not in KNOWN_ROLES), None)
    if strange is not None:
        raise InputError(f"{strange}: columns have no such role; the roles are {', '.join(KNOWN_ROLES)}.")
    check_names(table, named)
    shape = _found(table, {role: name for role, name in named.items() if role != GROUP}, task)
    if GROUP not in named:
        return shape
    twice = next((role for role, name in shape.columns.items() if name == named[GROUP]), None)
    if twice is not None:
        both, flag = one_line(named[GROUP], 60), f"--{twice}-column" if twice in ("text", "label") else f"--column {twice}=…"
        raise InputError(
            f"{table.path}: column {both} is read as the {twice} and cannot be the group, too; name another one with {flag} or "
            "--column group=…."
        )
    return replace(shape, columns=shape.columns | {GROUP: named[GROUP]})


def _found(table: Table, named: dict[str, str], task: Task | None) -> Shape:
    columns = describe(table)
    allowed = [layout for layout, tasks in TASKS.items() if task is None or task in tasks]
    if named:
        allowed = [layout for layout in allowed if set(named) <= {*ROLES[layout], *OPTIONAL.get(layout, ())}]
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


def _believed(shape: Shape, named: dict[str, str], task: Task | None) -> Shape:
    """What was named or said is certain."""
    complete = set(named) >= set(ROLES[shape.layout]) and shape.layout != "text"
    sure = 1.0 if complete or (task is not None and named) else max(shape.confidence, 0.9) if task else shape.confidence
    return replace(shape, task=task or shape.task, confidence=sure)


Finder = Callable[[Table, list[Column], dict[str, str], Task | None], Shape | None]
_FINDERS: dict[Layout, Finder] = {
    "preference": detect_written.preference,
    "messages": detect_written.messages,
    "sharegpt": detect_written.sharegpt,
    "tokens_tags": detect_labelled.tokens_tags,
    "alpaca": detect_written.alpaca,
    "prompt_completion": detect_written.prompt_completion,
    "source_target": detect_written.source_target,
    "text_labels": detect_labelled.text_labels,
    "text_number": detect_labelled.text_number,
    "text_label": detect_labelled.text_label,
    "text": detect_written.text,
}
