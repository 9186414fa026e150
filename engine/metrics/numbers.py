"""Metrics of numbers, in the units of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures


class Numbers(Kind):
    """Root mean squared and mean absolute error, Pearson's correlation, and the share of variance that is explained."""

    measures = measures("rmse", "mae", "pearson", "r2", "loss")
    constant_words = "always predicting the mean of the training rows"

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """1, squared error, absolute error, and t, p, t², p², t·p; t and p counted from the mean of the truth, so that
        numbers far from zero keep their digits in the sums."""
        y, p = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
        error, middle = p - y, y.mean()
        t, s = y - middle, p - middle
        return csr_array(np.column_stack([np.ones(len(y)), error**2, np.abs(error), t, s, t * t, s * s, t * s]))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """The metrics; correlation and share are 0 where nothing varies."""
        n, squared, absolute, t, s, tt, ss, ts = sums.T
        true_spread, said_spread = np.maximum(tt - t * t / n, 0.0), np.maximum(ss - s * s / n, 0.0)
        both = np.sqrt(true_spread * said_spread)
        nothing = np.zeros_like(n)
        # What is left of equal numbers after subtracting is rounding, not variation.
        varied = (true_spread > 1e-12 * tt) & (said_spread > 1e-12 * ss)
        return {
            "rmse": np.sqrt(squared / n),
            "mae": absolute / n,
            "pearson": np.divide(ts - t * s / n, both, out=nothing.copy(), where=varied),
            "r2": np.divide(true_spread - squared, true_spread, out=nothing.copy(), where=true_spread > 1e-12 * tt),
        }
