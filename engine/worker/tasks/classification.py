"""One label a row: the mean cross-entropy over rows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker import baselines
from engine.worker.tasks.base import Answer, Encoded, Progress
from engine.worker.tasks.heads import RowHead, by_rarity, listed, names

USE = """\
import torch

model.eval()
{inputs}with torch.no_grad():
    best = model(**inputs).logits.argmax(-1).item()
print(model.config.id2label[best])
"""


class Classification(RowHead):
    """Sequence classification with one label a row."""

    purpose = "classify text"
    use = USE

    class_weights: torch.Tensor | None = None
    """One a class, as `heads.by_rarity` makes them."""

    def config_options(self) -> dict[str, Any]:
        """Number and names of the classes."""
        return names(self.labels) | {"problem_type": "single_label_classification"}

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are class indices."""
        index = {label: i for i, label in enumerate(self.labels)}
        targets = [index[label] for label in rows.labels]
        return self.encoded(tokenizer, rows, targets, progress)

    def prepare(self, train: Encoded, device: torch.device) -> None:
        """Class weights, where the plan wants them."""
        if self.plan.class_weights:
            self.class_weights = by_rarity(train.targets, len(self.labels), device)

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy, weighted by class and smoothed as the plan says."""
        logits = self.logits(model, input_ids)
        truth = torch.tensor(targets, device=logits.device)
        smoothing = self.plan.label_smoothing
        return functional.cross_entropy(logits, truth, weight=self.class_weights, label_smoothing=smoothing, reduction="sum")

    def weight(self, targets: Sequence[Any]) -> float:
        """What an uncut mean would divide by: rows, or the sum of their class weights."""
        return float(len(targets)) if self.class_weights is None else float(self.class_weights[list(targets)].sum())

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """The most likely class, and the row's cross-entropy without weights or smoothing."""
        logits = self.logits(model, input_ids)
        losses = functional.cross_entropy(logits, torch.tensor(targets, device=logits.device), reduction="none")
        return [Answer(int(c), float(x)) for c, x in zip(logits.argmax(-1).tolist(), losses.tolist(), strict=True)]

    def constant(self, train: Encoded, held_out: Encoded) -> Answers:
        """The most common class."""
        return Answers(baselines.majority(train.targets, len(held_out)), None)

    def probe(self, seen: Any, train: list[Any], shown: Any, held_out: list[Any]) -> Answers:
        """A logistic regression."""
        predicted, losses = baselines.probe(seen, train, shown, held_out, len(self.labels))
        return Answers(predicted, losses)

    def about(self) -> str:
        """The labels, as a list."""
        return listed("Labels", self.labels)
