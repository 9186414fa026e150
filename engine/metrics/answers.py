"""Metrics of models that answer one text with another: perplexity, and what the written answers have of the wanted ones.

chrF (Popović 2015) is sacrebleu's: it takes any language and no tokenizer, and is a function of sums over rows, as the
bootstrap needs it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from engine.metrics.kinds import Floats, Pair
from engine.metrics.measures import measures
from engine.metrics.tokens import Tokens

ORDER = 6
"""Characters of the longest n-grams."""
BETA = 2
"""How much more recall counts than precision; both are sacrebleu's and the paper's defaults."""


class WrittenAnswers(Tokens):
    """Exact match and chrF over the rows for which an answer was written, perplexity over all.

    Truth is the wanted text, or `None` where there is none to compare with. An answer's `predicted` is its summed loss (nats),
    its tokens, and the text that was written, or `None`. Where none was written at all, as on validation rows, there is
    perplexity only.
    """

    measures = measures("chrf", "exact_answer", "perplexity", "loss")
    told = ("perplexity", "chrf")

    def table(self, truth: Sequence[Any], predicted: Sequence[Any]) -> "csr_array[Any]":
        """Nats and tokens; whether an answer was written, and is the wanted one; then n-grams written, wanted and matched."""
        from sacrebleu.metrics.chrf import CHRF

        counts = np.zeros((len(truth), 4 + 3 * ORDER))
        counts[:, :2] = np.asarray([answer[:2] for answer in predicted], dtype=float).reshape(len(truth), 2)
        written = [i for i, answer in enumerate(predicted) if answer[2] is not None]
        if written:
            said, wanted = [str(predicted[i][2]) for i in written], [str(truth[i]) for i in written]
            counts[written, 2] = 1
            counts[written, 3] = [" ".join(a.split()) == " ".join(b.split()) for a, b in zip(said, wanted, strict=True)]
            counts[written, 4:] = CHRF(char_order=ORDER, word_order=0, beta=BETA)._extract_corpus_statistics(said, [wanted])
        return csr_array(counts)

    def from_sums(self, sums: Floats) -> dict[str, Floats]:
        """The metrics; exact match and chrF only where answers were written."""
        found = super().from_sums(sums[:, :2])
        if not sums[:, 2].any():
            return found
        return {"exact_answer": sums[:, 3] / np.maximum(sums[:, 2], 1), "chrf": chrf(sums[:, 4:])} | found

    def compared(self, truth: Sequence[Any], predicted: Sequence[Any]) -> list[Any]:
        """The wanted texts of the rows for which one was written: of 100,000 long answers a hundred."""
        return [wanted if answer[2] is not None else None for wanted, answer in zip(truth, predicted, strict=True)]

    def in_common(self, several: Sequence[Pair], *, alike: bool) -> list[Pair]:
        """Without the texts of rows that one of them did not answer, of all where some were cut shorter than others."""
        both = [alike and all(p[i][2] is not None for _, p in several) for i in range(len(several[0][0]))]
        return [
            (
                [wanted if kept else None for wanted, kept in zip(truth, both, strict=True)],
                [answer if kept else [*answer[:2], None] for answer, kept in zip(predicted, both, strict=True)],
            )
            for truth, predicted in several
        ]

    def details(self, truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
        """How many answers were written."""
        return {"answers_written": sum(answer[2] is not None for answer in predicted)}


def chrf(sums: Floats) -> Floats:
    """chrF from 0 to 1, (m,), of (m, 3 x ORDER) counts: of each order the n-grams written, wanted and matched."""
    said, wanted, matched = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    counts = (said > 0) & (wanted > 0)  # orders that only one side reaches say nothing
    orders = np.maximum(counts.sum(1), 1)
    precision = (np.divide(matched, said, out=np.zeros_like(matched), where=counts)).sum(1) / orders
    recall = (np.divide(matched, wanted, out=np.zeros_like(matched), where=counts)).sum(1) / orders
    below = BETA**2 * precision + recall
    found: Floats = np.divide((1 + BETA**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return found
