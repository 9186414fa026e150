"""Reasons and warnings: a code, the facts that made it fire, and the sentence that one renderer fills from those facts.

The sentences stand in the `catalogue` modules; another language is another catalogue (`language`). Number
formats: `:size` bytes, `:share` percent, `:count` 1 234, `:short` 1.2k, `:hours` time, `:num` a short number.
"""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from recommender.catalogue import CONSTANTS, SENTENCES
from recommender.catalogue_settings import SETTINGS
from recommender.evidence import source
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


def plain(value: float) -> str:
    """A short number: `0.05`, `2.6`, `2e-5`, `1.5e-4`, `1 000`."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace(",", " ")
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


ALMOST = 0.9995
"""Of a unit: what would be rounded to a thousand of the smaller one is said in the larger."""


def size(value: float) -> str:
    """Bytes for people, in powers of ten: `8.1 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= ALMOST * factor:
            scaled = value / factor
            return f"{scaled:.1f} {unit}" if scaled < 100 and unit != "kB" else f"{scaled:.0f} {unit}"
    return f"{value:.0f} B"


def short_count(value: float) -> str:
    """A count for people: `110M`, `8.0B`, `950`."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= ALMOST * factor:
            scaled = value / factor
            return f"{scaled:.1f}{unit}".replace(".0k", "k") if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def share(value: float) -> str:
    """A share as percent: `12%`, `0.4%`."""
    percent = 100 * value
    if 99 < percent < 100:  # never all of them where a few are not
        return f"{min(percent, 99.9):.1f}%"
    if 0 < percent < 0.05:  # nor none where a few are
        return "<0.1%"
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.1f}".removesuffix(".0") + "%"


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return said("{count} days").format(count=f"{seconds / 86_400:.1f}")


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
