"""How the answers of one kind of task are judged: by sums over rows, so that drawing rows anew is only a weighting."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.measures import Measure

Floats = np.ndarray[Any, np.dtype[np.float64]]


Pair = tuple[Sequence[Any], Sequence[Any]]
"""Truth and predicted answers of some rows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model said about some rows, in their order."""

    predicted: Sequence[Any]
    """A class, a number, a list of tags, ...; what the task's `Kind` understands, as JSON."""
    losses: Sequence[float] | None
    """Mean loss of each row; `None` where the answers come with no probabilities."""
    weights: Sequence[float] | None = None
    """What a row counts in the mean of the losses: its trained tokens where text is written. `None`: all the same."""
    groups: Sequence[int] | None = None
    """Rows with the same number stand or fall together, as those of one question: `Rows.drawn_together`. `None`: each alone."""


class Kind(ABC):
    """Metrics of one kind of task."""

    measures: ClassVar[Mapping[str, Measure]]
    """By name, the most telling first; `loss` is always among them."""
    told: ClassVar[tuple[str, ...]] = ()
    """Of the measures those that a report puts into sentences; none named: the first."""
    constant_words: ClassVar[str] = "always predicting the most common class"
    """The answer that looks at no text, in words."""

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels` are the names behind the indices, where answers are indices."""
        self._labels = labels

    @abstractmethod
    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """(rows, k) numbers whose sums over rows give the metrics."""

    @abstractmethod
    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """The metrics, without the loss, from (m, k) sums; m numbers each."""

    def compared(self, truth: Sequence[Any], predicted: Sequence[Any]) -> list[Any]:
        """What of `truth` these answers are compared with; the rest need not be kept."""
        return list(truth)

    def in_common(self, several: Sequence[Pair], *, alike: bool) -> list[Pair]:
        """Truth and answers of several models on the same rows, as far as all answered; `alike`: under the same limits."""
        return list(several)

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """What a report says beyond the metrics."""
        return {}

    def summary(self, truth: Sequence[Any], answers: Answers) -> dict[str, float]:
        """The metrics of all rows; the loss only where there are losses."""
        found = self.from_sums(np.asarray(self.table(truth, answers.predicted).sum(0), dtype=float)[None])
        score = {name: float(values[0]) for name, values in found.items()}
        return score if answers.losses is None else score | {"loss": mean_loss(answers)}

    def full_score(self, truth: Sequence[Any], answers: Answers) -> dict[str, Any]:
        """Everything the report says about one set of answers."""
        return {"loss": None, **self.summary(truth, answers), **self.details(truth, answers.predicted)}


def mean_loss(answers: Answers) -> float:
    """Mean loss of a unit (a row, or a trained token)."""
    return float(np.average(np.asarray(answers.losses, dtype=float), weights=answers.weights))
