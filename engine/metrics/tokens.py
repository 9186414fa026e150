"""Metrics of models that write text: loss of a trained token, and perplexity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures

MOST_NATS = 100.0
"""Perplexities stay finite: what is worse than this is not a language model."""


class Tokens(Kind):
    """Perplexity: e to the mean loss of a trained token. An answer's `predicted` is its summed loss (nats) and its tokens."""

    measures = measures("perplexity", "loss")

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Nats and trained tokens of each row."""
        return csr_array(np.asarray(predicted, dtype=float).reshape(len(truth), 2))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """Perplexity."""
        nats, tokens = sums[:, 0], sums[:, 1]
        return {"perplexity": np.exp(np.minimum(nats / np.maximum(tokens, 1), MOST_NATS))}
