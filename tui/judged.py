"""Scores in words: which metrics there are, and how a value and a difference of one are written."""

from collections.abc import Iterable, Mapping
from typing import Any

from engine.metrics.measures import MEASURES
from tui.i18n import _
from tui.words import metric


def shown(scores: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Names of the metrics that any of these scores holds, in the usual order; the loss last."""
    known = {name for score in scores if isinstance(score, Mapping) for name in score if score[name] is not None}
    return [name for name in MEASURES if name in known]


def words(name: str) -> str:
    """The metric's name for people."""
    return _(MEASURES[name].words) if name in MEASURES else name


def unit(name: str) -> str:
    """What differences of the metric are told in: `chrF points`, `RMSE`."""
    return words(name) + (_(" points") if name in MEASURES and MEASURES[name].points else "")


def falls(name: str) -> bool:
    """Whether less of it is better, so that a fall is no loss."""
    return name in MEASURES and not MEASURES[name].higher_is_better


def in_line(score: Mapping[str, Any]) -> str:
    """All metrics of a score, one after the other."""
    values = ((name, score.get(name)) for name in MEASURES)
    return "  ".join(f"{words(n)} {metric(v)}" for n, v in values if isinstance(v, int | float))


def gained(name: str, gain: Mapping[str, Any]) -> str:
    """A difference with its interval: `+3.1 points (-0.2 to +6.4)`."""
    measure = MEASURES.get(name, MEASURES["loss"])
    size, low, high = (measure.difference(gain[k]) for k in ("gain", "low", "high"))
    between = _("{low} to {high}").format(low=low, high=high)
    return f"{size}{_(' points') if measure.points else ''} ({between})"
