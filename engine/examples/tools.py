"""The tools that a row says may be called."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from engine.examples.turns import Fault, as_json
from engine.tables.table import Table, as_text


def tools_of(table: Table, roles: Mapping[str, str]) -> list[Any] | None:
    """What each row says of its tools: a column of that name, `functions` as OpenAI called them before, or a field beside the
    messages of the prompt (OpenAI's pairs)."""
    if "tools" in table.columns:
        return table.columns["tools"]
    older = table.columns.get("functions", [])
    if any(isinstance(value, list) for value in older):
        return older
    beside = f"{roles.get('prompt', '').rpartition('.')[0]}.tools"
    return table.values(beside) if table.holds(beside) else None


def given_tools(value: Any, fault: Fault) -> list[Any] | None:
    """The tools of a row, as a list or as JSON; `None` where it has none.

    Raises:
        InputError: (made by `fault`) something else.
    """
    if value in (None, []) or as_text(value).strip() in ("", "null", "[]"):
        return None
    found = as_json(value) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found) or not _is_json(found):
        raise fault(
            "does not hold a list of tools, each an object as chat templates expect it; write it so, or rename the column"
        )
    return [_wrapped(tool) for tool in found]


def _wrapped(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as templates know it; rows may name the function alone, as LLaMA-Factory's and OpenAI's Responses do."""
    if "function" in tool or not isinstance(tool.get("name"), str):
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _is_json(found: list[Any]) -> bool:
    """Whether a template can write it; a parquet file may hold dates."""
    with suppress(TypeError, ValueError, RecursionError):
        return bool(json.dumps(found))
    return False
