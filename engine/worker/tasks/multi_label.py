"""Any number of labels a row: each label is a question of yes or no."""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker import baselines
from engine.worker.tasks.base import Answer, Encoded, Progress
from engine.worker.tasks.heads import RowHead, listed, names

THRESHOLD = 0.5
"""Probability above which a label is given. The same for all labels: it is what whoever loads the model expects."""
USE = f"""\
import torch

model.eval()
{{inputs}}with torch.no_grad():
    shares = model(**inputs).logits.sigmoid()[0].tolist()
print([model.config.id2label[i] for i, share in enumerate(shares) if share > {THRESHOLD}])
"""


class MultiLabel(RowHead):
    """Sequence classification with any number of labels a row.

    The loss of a row is the mean over the labels of the binary cross-entropy, as transformers computes it; that of a
    logical batch is the mean over its rows.
    """

    purpose = "give texts any number of labels"
    use = USE

    weights: torch.Tensor | None = None
    """How much more a label counts where it is given than where it is not; one a label."""

    def config_options(self) -> dict[str, Any]:
        """Number and names of the labels."""
        return names(self.labels) | {"problem_type": "multi_label_classification"}

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are lists of label indices."""
        index = {label: i for i, label in enumerate(self.labels)}
        targets = [sorted(index[label] for label in row) for row in rows.items or ()]
        return self.encoded(tokenizer, rows, targets, progress)

    def prepare(self, train: Encoded, device: torch.device) -> None:
        """Weights between alike for every row and alike for given and not given in all: the square root of how many times more
        rows lack a label than have it (E27).

        With the whole of it a label is given wherever it is likelier than usual: a linear model on MiniLM's embeddings of SST-2,
        asked which of twelve words was taken out, gave 1,345 labels for 380 true ones (micro-F1 0.234); with the root 384 of
        them (0.238), without weights 20 (0.050).
        """
        if self.plan.class_weights:
            given = Counter(label for row in train.targets for label in row)
            counts = (max(given[i], 1) for i in range(len(self.labels)))
            self.weights = torch.tensor([math.sqrt(max(len(train) - n, 1) / n) for n in counts], device=device)

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Binary cross-entropy, mean over labels, sum over rows."""
        logits = self.logits(model, input_ids)
        truth = self._given(targets, logits)
        losses = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=self.weights, reduction="none")
        return losses.mean(-1).sum()

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """The labels above the threshold, and the row's cross-entropy without weights."""
        logits = self.logits(model, input_ids)
        losses = functional.binary_cross_entropy_with_logits(logits, self._given(targets, logits), reduction="none").mean(-1)
        given = (logits.sigmoid() > THRESHOLD).tolist()
        return [
            Answer([i for i, yes in enumerate(row) if yes], float(loss))
            for row, loss in zip(given, losses.tolist(), strict=True)
        ]

    def constant(self, train: Encoded, held_out: Encoded) -> Answers:
        """The labels that more than half of the training rows have."""
        counts = Counter(label for row in train.targets for label in row)
        usual = sorted(label for label, n in counts.items() if n > THRESHOLD * len(train))
        return Answers([usual] * len(held_out), None)

    def probe(self, seen: Any, train: list[Any], shown: Any, held_out: list[Any]) -> Answers:
        """A logistic regression a label."""
        given = self._given(train, torch.zeros(len(train), len(self.labels))).numpy()
        shares = baselines.probe_labels(seen, given, shown)
        truth = self._given(held_out, torch.zeros(len(held_out), len(self.labels))).numpy()
        losses = -np.where(truth > 0, np.log(shares), np.log(1 - shares)).mean(-1)
        return Answers([np.flatnonzero(row > THRESHOLD).tolist() for row in shares], losses.tolist())

    def about(self) -> str:
        """The labels, as a list."""
        return listed(f"A text gets every label of which the model is more than {THRESHOLD:.0%} sure. Labels", self.labels)

    def _given(self, targets: list[Any], like: torch.Tensor) -> torch.Tensor:
        """1 where a row has a label, (rows, labels)."""
        given = torch.zeros(like.shape, dtype=like.dtype)
        for i, row in enumerate(targets):
            given[i, row] = 1.0
        return given.to(like.device)  # at once: on a GPU each row's numbers would be a copy that is waited for
