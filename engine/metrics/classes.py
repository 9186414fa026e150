"""Metrics of a classifier with one label a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures

Integers = np.ndarray[Any, np.dtype[np.int64]]


class Classes(Kind):
    """Accuracy and macro-F1 over the classes that occur, as truth or as prediction."""

    measures = measures("accuracy", "macro_f1", "loss")

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Per class: right, true, said; one row a row."""
        y, p, n, c = np.asarray(truth, dtype=int), np.asarray(predicted, dtype=int), len(truth), len(self._labels)
        rows = np.arange(n)
        right = y == p
        at = np.concatenate([rows[right], rows, rows])
        cells = np.concatenate([y[right], c + y, 2 * c + p])
        return csr_array((np.ones(len(at)), (at, cells)), shape=(n, 3 * c))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """Accuracy and macro-F1."""
        hits, true, said = np.split(sums, 3, axis=1)
        f1 = f1_of(hits, true + said)
        present = (true + said) > 0
        return {
            "macro_f1": (f1 * present).sum(1) / np.maximum(present.sum(1), 1),
            "accuracy": hits.sum(1) / np.maximum(true.sum(1), 1),
        }

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """Precision, recall and F1 a class, and the confusion counts, true classes down."""
        counts = confusion(np.asarray(truth), np.asarray(predicted), len(self._labels))
        found = per_class(self._labels, np.diagonal(counts), counts.sum(1), counts.sum(0))
        return {"per_class": found, "confusion": counts.tolist()}


def confusion(truth: Integers, predicted: Integers, classes: int) -> Integers:
    """Counts, true classes down, predicted classes across."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def f1_of(hits: Floats, total: Floats) -> Floats:
    """F1 from hits and the sum of true and said; 0 where there is neither."""
    found: Floats = np.divide(2 * hits, total, out=np.zeros_like(hits, dtype=float), where=total > 0)
    return found


def per_class(labels: Sequence[str], hits: Any, true: Any, said: Any) -> list[dict[str, Any]]:
    """Precision, recall, F1 and rows of each class, from counts."""
    f1 = f1_of(np.asarray(hits, dtype=float), np.asarray(true, dtype=float) + said)
    return [
        {
            "label": label,
            "precision": float(hits[i] / said[i]) if said[i] else 0.0,
            "recall": float(hits[i] / true[i]) if true[i] else 0.0,
            "f1": float(f1[i]),
            "rows": int(true[i]),
        }
        for i, label in enumerate(labels)
    ]
