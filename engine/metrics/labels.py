"""Metrics where a row may have several labels, or none. Truth and predictions are lists of label indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.classes import f1_of, per_class
from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures


class Labels(Kind):
    """Micro-F1 over all labels of all rows, macro-F1 over the labels that occur, and the share of rows that are all right."""

    measures = measures("micro_f1", "macro_f1", "exact_match", "loss")
    constant_words = "always predicting the labels that most rows have"

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Per label: right, true, said; then whether all is right, and 1; one row a row."""
        n = len(self._labels)
        at: list[int] = []
        cells: list[int] = []
        for i, (true, said) in enumerate(zip(truth, predicted, strict=True)):
            found = [*set(true) & set(said), *(n + x for x in true), *(2 * n + x for x in said), 3 * n + 1]
            found += [3 * n] if set(true) == set(said) else []
            at += [i] * len(found)
            cells += found
        return csr_array((np.ones(len(at)), (at, cells)), shape=(len(truth), 3 * n + 2))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """The metrics; a micro-F1 of 0 where no row has a label and none is given."""
        hits, true, said = np.split(sums[:, :-2], 3, axis=1)
        present = (true + said) > 0
        return {
            "micro_f1": f1_of(hits.sum(1), (true + said).sum(1)),
            "macro_f1": (f1_of(hits, true + said) * present).sum(1) / np.maximum(present.sum(1), 1),
            "exact_match": sums[:, -2] / np.maximum(sums[:, -1], 1),
        }

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """Precision, recall and F1 a label."""
        hits, true, said = np.split(np.asarray(self.table(truth, predicted).sum(0), dtype=float)[:-2], 3)
        return {"per_class": per_class(self._labels, hits, true, said)}
