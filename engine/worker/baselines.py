"""What a result must beat: the best answer that looks at no text, and a linear probe on the untouched model's embeddings."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

INVERSE_PENALTY = 0.1
"""`C` of a logistic regression on standardised embeddings."""
LEAST = 1e-7
"""Probability of a class the probe never saw: its logarithm must stay finite."""

Floats = np.ndarray[Any, np.dtype[np.float32]]


def majority(train: Sequence[int], rows: int) -> list[int]:
    """The most common training label, `rows` times."""
    return [Counter(train).most_common(1)[0][0]] * rows


def probe(
    train: Floats, labels: Sequence[int], held_out: Floats, truth: Sequence[int], classes: int
) -> tuple[list[int], list[float]]:
    """Predictions for `held_out`, and their cross-entropies, of a logistic regression on embeddings (rows, hidden).

    Where a class is so rare that the training rows at hand are all of another, that other is always answered.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shares = np.full((len(held_out), classes), LEAST)
    if len(set(labels)) == 1:
        shares[:, labels[0]] = 1.0
    else:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=500))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train, labels)
        shares[:, model.classes_] = np.maximum(model.predict_proba(held_out), LEAST)
    losses = -np.log(shares[np.arange(len(truth)), list(truth)])
    return [int(x) for x in shares.argmax(-1)], losses.tolist()


def probe_labels(train: Floats, given: Floats, held_out: Floats) -> Floats:
    """Probabilities for `held_out`, (rows, labels), of a logistic regression a label on embeddings (rows, hidden).

    `given` is 1 where a training row has a label. All labels are fitted at once: their losses do not share a weight, so
    the minimum of the sum is that of each.
    """
    import torch
    from sklearn.preprocessing import StandardScaler
    from torch.nn import functional

    scaler = StandardScaler().fit(train)
    x, shown = (torch.tensor(scaler.transform(rows), dtype=torch.float64) for rows in (train, held_out))
    y = torch.tensor(given, dtype=torch.float64)
    weights = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
    # A label that all or no rows have has no best bias; a start near its share is where it ends soon enough.
    share = y.mean(0).clamp(1 / (len(y) + 1), len(y) / (len(y) + 1))
    bias = share.logit().clone().requires_grad_()
    steps = torch.optim.LBFGS([weights, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        steps.zero_grad()
        error = functional.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="sum")
        total = error + weights.square().sum() / (2 * INVERSE_PENALTY)
        total.backward()
        return total

    steps.step(loss)
    shares: Floats = (shown @ weights + bias).sigmoid().detach().clamp(LEAST, 1 - LEAST).numpy()
    return shares


def probe_numbers(train: Floats, numbers: Any, held_out: Floats) -> Floats:
    """Numbers for `held_out`, (rows,), of a ridge regression on embeddings (rows, hidden)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(0, 5, 11)))
    model.fit(train.astype(float), numbers)
    found: Floats = model.predict(held_out.astype(float))
    return found
