"""Metrics of a classifier, and how sure a difference between two of them is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


HIGHER_IS_BETTER = {"accuracy": True, "macro_f1": True, "loss": False}


class Answers(NamedTuple):
    """What several trainings (seeds) of one method said about the same rows."""

    predicted: list[list[int]]
    """A list of classes a training."""
    losses: list[list[float]]
    """Cross-entropies, alike."""


def side_by_side(truth: Sequence[int], answers: Mapping[str, Answers], classes: int, metric: str) -> dict[str, Any]:
    """Means over trainings with 95% intervals, and each method's difference to the best by `metric`, paired by row.

    Rows are drawn with replacement, the same rows for every method and training, as in `gain`. So the intervals say how
    far other held-out rows might move the numbers; how far another seed might is `sd`, where there are several.
    """
    y = np.asarray(truth, dtype=np.int64)
    names = list(answers)
    n = len(y)
    cells = classes * classes
    random = np.random.default_rng(0)
    pairs = {name: [y * classes + np.asarray(p, dtype=np.int64) for p in answers[name].predicted] for name in names}
    losses = {name: np.asarray(answers[name].losses, dtype=float) for name in names}

    def scores(name: str, drawn: Integers) -> list[dict[str, float]]:
        """The metrics of each training on those rows."""
        counts = [np.bincount(p[drawn], minlength=cells).reshape(classes, classes) for p in pairs[name]]
        means = losses[name][:, drawn].mean(1)
        return [summary(c) | {"loss": float(loss)} for c, loss in zip(counts, means, strict=True)]

    def mean(name: str, drawn: Integers) -> dict[str, float]:
        each = scores(name, drawn)
        return {m: sum(s[m] for s in each) / len(each) for m in HIGHER_IS_BETTER}

    found = {name: mean(name, np.arange(n)) for name in names}
    samples = []
    for _ in range(BOOTSTRAP_SAMPLES):
        drawn = random.integers(0, n, n)
        samples.append({name: mean(name, drawn) for name in names})
    best = (max if HIGHER_IS_BETTER[metric] else min)(names, key=lambda name: found[name][metric])
    result: dict[str, Any] = {"best": best, "methods": {}}
    for name in names:
        each = scores(name, np.arange(n))
        row: dict[str, Any] = {}
        for m in HIGHER_IS_BETTER:
            spread = [s[name][m] for s in samples]
            behind = [s[name][m] - s[best][m] for s in samples]
            row[m] = {
                "mean": found[name][m],
                "low": float(np.quantile(spread, 0.025)),
                "high": float(np.quantile(spread, 0.975)),
                "sd": float(np.std([s[m] for s in each], ddof=1)) if len(each) > 1 else None,
                "difference": {
                    "mean": found[name][m] - found[best][m],
                    "low": float(np.quantile(behind, 0.025)),
                    "high": float(np.quantile(behind, 0.975)),
                },
            }
        result["methods"][name] = row
    return result


def mean_gap(worse: Sequence[float], better: Sequence[float]) -> tuple[float, float]:
    """Mean difference of two lists of losses, row by row, and its standard error by paired bootstrap."""
    behind = np.asarray(worse, dtype=float) - np.asarray(better, dtype=float)
    random = np.random.default_rng(0)
    n = len(behind)
    means = [float(behind[random.integers(0, n, n)].mean()) for _ in range(BOOTSTRAP_SAMPLES)]
    return float(behind.mean()), float(np.std(means, ddof=1))
