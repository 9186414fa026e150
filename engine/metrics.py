"""Metrics of a classifier, and how sure a difference between two of them is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
BOOTSTRAP_SAMPLES = 2_000
"""Enough that the bounds of a 95% interval move by less than a tenth of its width from seed to seed."""


def confusion(truth: Integers, predicted: Integers, classes: int) -> Integers:
    """Counts, true classes down, predicted classes across."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def confusion_of(truth: Sequence[int], predicted: Any) -> Integers:
    """`confusion` with as many classes as occur."""
    y, p = np.asarray(truth), np.asarray(predicted)
    return confusion(y, p, int(max(y.max(), p.max())) + 1)


def f1_by_class(counts: Integers) -> np.ndarray[Any, np.dtype[np.float64]]:
    """F1 of each class from (..., classes, classes) counts; 0 where a class is neither true nor predicted right."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    total = counts.sum(-1) + counts.sum(-2)
    result: np.ndarray[Any, np.dtype[np.float64]] = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return result


def summary(counts: Integers) -> dict[str, float]:
    """Accuracy and macro-F1 over the classes that occur (as truth or as prediction)."""
    present = (counts.sum(0) + counts.sum(1)) > 0
    return {
        "accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
        "macro_f1": float(f1_by_class(counts)[present].mean()) if present.any() else 0.0,
    }


def full_score(truth: Sequence[int], predicted: Sequence[int], labels: Sequence[str], loss: float | None) -> dict[str, Any]:
    """Everything the report says about one set of predictions."""
    counts = confusion(np.asarray(truth), np.asarray(predicted), len(labels))
    f1 = f1_by_class(counts)
    per_class = []
    for i, label in enumerate(labels):
        said, true = int(counts[:, i].sum()), int(counts[i].sum())
        hits = int(counts[i, i])
        per_class.append(
            {
                "label": label,
                "precision": hits / said if said else 0.0,
                "recall": hits / true if true else 0.0,
                "f1": float(f1[i]),
                "rows": true,
            }
        )
    return {**summary(counts), "loss": loss, "per_class": per_class, "confusion": counts.tolist()}


def gain(
    truth: Sequence[int], before: Sequence[int], after: Sequence[int], classes: int, seed: int
) -> dict[str, dict[str, float]]:
    """Difference of accuracy and of macro-F1, each with a 95% interval by paired bootstrap.

    Rows are drawn with replacement, the same rows for both predictions, so that what is hard for both cancels out
    (Efron & Tibshirani 1993, ch. 13; percentile interval).
    """
    y, a, b = (np.asarray(v, dtype=np.int64) for v in (truth, before, after))
    n = len(y)
    random = np.random.default_rng(seed)
    cells = classes * classes
    # A resample only matters through how often each pair of (truth, prediction) was drawn.
    both: dict[str, list[float]] = {"accuracy": [], "macro_f1": []}
    for _ in range(BOOTSTRAP_SAMPLES):
        drawn = random.integers(0, n, n)
        pair = [
            summary(np.bincount(y[drawn] * classes + p[drawn], minlength=cells).reshape(classes, classes)) for p in (a, b)
        ]
        for name, values in both.items():
            values.append(pair[1][name] - pair[0][name])
    start, end = (summary(confusion(y, p, classes)) for p in (a, b))
    return {
        name: {
            "gain": end[name] - start[name],
            "low": float(np.quantile(values, 0.025)),
            "high": float(np.quantile(values, 0.975)),
        }
        for name, values in both.items()
    }
