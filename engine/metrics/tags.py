"""Metrics of tagged words. Truth and predictions are lists of label indices, one a word; -1 is no answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.classes import f1_of, per_class
from engine.metrics.kinds import Floats, Kind
from engine.metrics.measures import measures
from engine.metrics.spans import OUTSIDE, Span, has_spans, spans


class Tags(Kind):
    """F1 over spans, of which both words and type must be right, and the share of words with the right tag.

    Where tags mark no spans (parts of speech) every tagged word is a span of its own. A word that the model never read,
    because the row was cut, is one that it got wrong.
    """

    measures = measures("span_f1", "token_accuracy", "loss")
    constant_words = "giving every word the most common tag"

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self._joined = has_spans(labels)
        named = {label[2:] if self._joined else label for label in labels if label != OUTSIDE}
        self._types = sorted(named)

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Per type: spans right, true, said; then words right, and words; one row a row."""
        n = len(self._types)
        place = {name: i for i, name in enumerate(self._types)}
        at: list[int] = []
        cells: list[int] = []
        counts: list[int] = []
        for i, (true, said) in enumerate(zip(truth, predicted, strict=True)):
            want, got = self._spans(true), self._spans(said)
            found = Counter(place[s.type] for s in want & got)
            found.update(n + place[s.type] for s in want)
            found.update(2 * n + place[s.type] for s in got)
            found[3 * n] = sum(a == b for a, b in zip(true, said, strict=True))
            found[3 * n + 1] = len(true)
            at += [i] * len(found)
            cells += found.keys()
            counts += found.values()
        return csr_array((np.asarray(counts, dtype=float), (at, cells)), shape=(len(truth), 3 * n + 2))

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """F1 over all spans of all types, and the share of words."""
        hits, true, said = (part.sum(1) for part in np.split(sums[:, :-2], 3, axis=1))
        return {"span_f1": f1_of(hits, true + said), "token_accuracy": sums[:, -2] / np.maximum(sums[:, -1], 1)}

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """Precision, recall and F1 of each type's spans."""
        hits, true, said = np.split(np.asarray(self.table(truth, predicted).sum(0), dtype=float)[:-2], 3)
        return {"per_class": per_class(self._types, hits, true, said)}

    def _spans(self, tags: Sequence[int]) -> set[Span]:
        return set(spans([self._labels[i] if i >= 0 else None for i in tags], joined=self._joined))
