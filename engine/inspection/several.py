"""Several labels in one value: `comedy|drama`, `3,27`, `['joy', 'fear']`."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from engine.tables.cells import PLURALS, list_in, printed_by_numpy
from engine.tables.table import as_text

SEPARATORS = ("|", ";", ",")
LONGEST_LABEL = 40
_NUMBERS = re.compile(r"\[[\s\d.+-]+\]")
"""How numpy prints a list of numbers."""


def separator_of(values: Sequence[Any], name: str, *, sure: bool = False) -> str | None:
    """What parts the labels in a column's values; `None` when a value is one label.

    Careful: "Paris, France" is one. Labels that are combined freely make more combinations than there are labels.
    `sure` means that the person said there are several.
    """
    texts = [t for t in (str(v).strip() for v in values if v is not None) if t]
    if not texts or any(isinstance(v, list | dict) for v in values[:100]):
        return None
    lists = sum(map(is_listed, texts))
    if any(t.startswith("[{") for t in texts):
        return None  # objects written out, such as calls of tools
    if lists > 0.9 * len(texts) or lists == len(texts) - 1 > 1:  # a cell of few may be a fault, told with its row
        return "list"
    whole = set(texts)
    for separator in SEPARATORS:
        joined = sum(separator in t for t in texts) / len(texts)
        parts = {part for t in whole for part in split(t, separator)}
        if not parts or max(map(len, parts)) > LONGEST_LABEL:
            continue
        if sure and joined:
            return separator
        fewer = len(parts) <= len(whole) if name.lower() in PLURALS else len(parts) < 0.75 * len(whole)
        if joined >= 0.1 and fewer:
            return separator
    return "," if sure else None


def is_listed(text: str) -> bool:
    """Whether a value is a list written out, also one whose words have no quotation marks; or a tuple or set of Python's."""
    return (text.startswith("[") and text.endswith("]")) or list_in(text) is not None


def split(text: str, separator: str) -> list[str]:
    """The labels in a value."""
    if separator != "list":
        return _each(text.split(separator))
    text = text.strip()
    found = list_in(text)
    if found is not None:
        return list(dict.fromkeys(filter(None, (as_text(label).strip() for label in found))))
    if printed_by_numpy(text):
        return _each(a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", text))
    return _each(text[1:-1].split() if _NUMBERS.fullmatch(text) else text.strip("[]").split(","))


def _each(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(p for p in (part.strip().strip("'\"") for part in parts) if p))
