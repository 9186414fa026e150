"""Sentences of the engine about what is wrong, in the reader's language.

The engine says them in English, in exceptions, and from other processes in answers and event logs. Here each is recognised by its
template in `locale/LANGUAGE.engine.po`, the first that fits; one that is not there stays English. A new sentence needs its entry
there and nothing else.
"""

import re
import string
from collections.abc import Mapping
from functools import cache
from typing import Any

from engine.text import one_line
from recommender.language import of_engine, said

_BETWEEN = re.compile(r"(?<=[.!?。]) (?=[A-Z`]|--)")
_LISTED = re.compile(r"(?<=') or (?=')")
"""Between the last two of the values that may be chosen from."""
Listed = list[tuple[str, str, bool]]
"""Templates, what they are in the language in use, and whether words of ours stand in the braces."""


def in_words(text: str) -> str:
    """What the engine said is wrong, or what a plan keeps of an advice, line by line in the language in use."""
    if not of_engine():
        return text
    listed = [*((template, words, False) for template, words in of_engine().items()), *_reasons()]
    told = "\n".join(_whole(line, listed) for line in text.split("\n"))
    return _LISTED.sub(said(" or "), told)


def warning_words(event: Mapping[str, Any]) -> str:
    """What a worker's `warning` or `recovery` tells."""
    return in_words(one_line(event.get("text") or "", 400))


def _reasons() -> Listed:
    """The recommender's sentences, whose numbers are written already."""
    from recommender.catalogue import SENTENCES as REASONS

    return [(template, re.sub(r"\{(\w+):\w+\}", r"{\1}", said(template)), True) for template in REASONS.values()]


def _whole(text: str, listed: Listed) -> str:
    """One sentence, or several in a row."""
    parts = _BETWEEN.split(text)
    found = [_one(part, listed) for part in parts]
    if None in found and (whole := _one(text, listed)) is not None:
        return whole
    told = ""
    for part, words in zip(parts, found, strict=True):
        space = "" if not told or told.endswith(("。", "？")) else " "
        told += space + (words or part)
    return told


def _one(text: str, listed: Listed) -> str | None:
    for template, words, ours in listed:
        pattern, longest = _pattern(template)
        found = pattern.fullmatch(text) if longest in text else None
        if found is not None:
            named = found.groupdict().items()
            names = {name for name, _value in named if ours or name in ("metric", "measure")}
            values = {name: said(value) if name in names else _whole(value, listed) for name, value in named}
            return words.format_map(values)
    return None


@cache
def _pattern(template: str) -> tuple[re.Pattern[str], str]:
    """What a sentence of that template looks like, and the longest part of it that does not vary."""
    pieces = [(literal, name) for literal, name, _form, _conversion in string.Formatter().parse(template)]
    pattern, seen = "", set[str]()
    for literal, name in pieces:
        pattern += re.escape(literal)
        if name is not None:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    return re.compile(pattern, re.DOTALL), max((literal for literal, _ in pieces), key=len)
