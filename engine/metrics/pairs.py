"""Metrics of a model that was trained on preferences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures

TIE = 1e-6
"""A smaller difference of rewards is none: the untouched model compared with itself shows rounding."""


class Pairs(Kind):
    """Reward accuracy and margin of pairs of a chosen and a rejected answer.

    The reward of an answer is beta times how much more likely, in nats, it has become than it was to the untouched model
    (Rafailov et al. 2023). A tie counts as half right, so that the untouched model, which prefers neither, stands at 0.5. An
    answer's `predicted` is the two rewards, the chosen one's first.
    """

    measures = measures("reward_accuracy", "margin", "loss")

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Right or half right, margin, and 1; one row a pair."""
        chosen, rejected = np.asarray(predicted, dtype=float).reshape(len(truth), 2).T
        apart = chosen - rejected
        right = np.where(np.abs(apart) <= TIE, 0.5, (apart > 0).astype(float))
        return csr_array(np.stack([right, apart, np.ones(len(truth))], axis=1))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """Share of pairs whose chosen answer has the higher reward, and the mean difference of the two."""
        pairs = np.maximum(sums[:, 2], 1)
        return {"reward_accuracy": sums[:, 0] / pairs, "margin": sums[:, 1] / pairs}

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """Mean rewards: below 0 that answer has become less likely than it was."""
        chosen, rejected = np.asarray(predicted, dtype=float).reshape(len(truth), 2).mean(0)
        return {"chosen_reward": float(chosen), "rejected_reward": float(rejected)}
