"""What the tasks share that judge a whole row with a head on the model."""

from typing import Any

import torch

from engine.text import one_line
from engine.worker.batches import padded
from engine.worker.tasks.base import Task


class RowHead(Task):
    """A task whose model says one vector a row."""

    auto_model = "AutoModelForSequenceClassification"
    adapter_type = "SEQ_CLS"
    head_words = "text classifier"
    pipeline = "text-classification"
    has_probe = True

    def logits(self, model: Any, input_ids: list[list[int]]) -> torch.Tensor:
        """(rows, outputs) of a micro-batch, as fp32."""
        device = next(model.parameters()).device
        logits: torch.Tensor = model(**padded(input_ids, self.pad, device)).logits
        return logits.float()


def names(labels: list[str]) -> dict[str, Any]:
    """Number and names of the outputs, as configurations hold them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def listed(title: str, labels: list[str]) -> str:
    """The labels as a list in Markdown; they are foreign text."""
    shown = (one_line(label, 80).replace("`", "'") for label in labels[:100])
    return f"{title}:\n\n" + "".join(f"- `{label}`\n" for label in shown)
