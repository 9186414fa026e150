"""Reasons and warnings: a code, the facts that made it fire, and the sentence that one renderer fills from those facts.

The sentences stand in the `catalogue` modules; another language is another catalogue (`language`). Number formats
(`figures`): `:size` bytes, `:share` percent, `:count` 1 234, `:short` 1.2k, `:hours` time, `:num` a short number.
"""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from recommender.catalogue import CONSTANTS, SENTENCES
from recommender.catalogue_settings import SETTINGS
from recommender.evidence import source
from recommender.figures import duration, plain, share, short_count, size
from recommender.language import said
from recommender.recommendation import Caution, Reason

CATALOGUE: dict[str, str] = SENTENCES | SETTINGS
FOREIGN = frozenset({"column", "names", "word"})
"""Facts that are names or words out of a person's files, and none of ours."""


class _Numbers(string.Formatter):
    """Formats the catalogue's own number kinds, and says words among the facts in the language of the sentence."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = super().get_value(key, args, kwargs)
        return said(value) if isinstance(value, str) and key not in FOREIGN else value

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "size":
                return size(value)
            case "share":
                return share(value)
            case "count":
                return f"{value:,.0f}".replace(",", " ")
            case "short":
                return short_count(value)
            case "hours":
                return duration(value * 3600)
            case "num":
                return plain(value)
        return str(super().format_field(value, format_spec))


_RENDERER = _Numbers()


def sentence(code: str, facts: dict[str, Any] | None = None) -> str:
    """The sentence of that code, filled from its facts."""
    return _RENDERER.vformat(said(CATALOGUE[code]), (), CONSTANTS.get(code, {}) | (facts or {}))


def reason(code: str, facts: dict[str, Any], *sources: str, wording: str | None = None) -> Reason:
    """A reason with its sentence, or with that of the code `wording` where one reason has several, and its sources."""
    known = CONSTANTS.get(wording or code, {}) | facts
    return Reason(code=code, text=sentence(wording or code, known), facts=known, source=source(*sources))


def caution(code: str, *, wording: str | None = None, **facts: Any) -> Caution:
    """A warning with its sentence, or with that of the code `wording` where one warning has several; of a single row, or answer,
    with `{code}_one`, where there is such a sentence."""
    wording = wording or code
    if 1 in (facts.get("rows"), facts.get("answers")) and f"{wording}_one" in CATALOGUE:
        wording = f"{wording}_one"
    known = CONSTANTS.get(wording, {}) | facts
    return Caution(code=code, text=sentence(wording, known), facts=known)
