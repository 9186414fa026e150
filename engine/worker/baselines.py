"""What a result must beat: the most common class, and a linear classifier on the untouched model's embeddings."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

PROBE_ROWS = 5_000
"""Training rows the probe is fitted on at most; more move it little and take long."""
LEAST = 1e-7
"""Probability of a class the probe never saw: its logarithm must stay finite."""

Floats = np.ndarray[Any, np.dtype[np.float32]]


def majority(train: Sequence[int], rows: int) -> list[int]:
    """The most common training label, `rows` times."""
    return [Counter(train).most_common(1)[0][0]] * rows


def probe(
    train: Floats, labels: Sequence[int], held_out: Floats, truth: Sequence[int], classes: int
) -> tuple[list[int], list[float]]:
    """Predictions for `held_out`, and their cross-entropies, of a logistic regression on embeddings (rows, hidden)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    shares = np.full((len(held_out), classes), LEAST)
    shares[:, model.classes_] = np.maximum(model.predict_proba(held_out), LEAST)
    losses = -np.log(shares[np.arange(len(truth)), list(truth)])
    return [int(x) for x in shares.argmax(-1)], losses.tolist()
