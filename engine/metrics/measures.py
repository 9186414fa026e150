"""The metrics by name, as people see them. Imports nothing: the app needs the words before anything is computed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric."""

    words: str
    higher_is_better: bool = True
    points: bool = True
    """Whether it is a share, of which differences are told in points (hundredths)."""


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("accuracy"),
    "macro_f1": Measure("macro-F1"),
    "loss": Measure("loss", higher_is_better=False, points=False),
}
"""In the order in which they are shown."""


def measures(*names: str) -> dict[str, Measure]:
    """Some of them, the most telling first."""
    return {name: MEASURES[name] for name in names}
