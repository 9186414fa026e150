"""Rows as token ids."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from engine.rows import Rows

CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as the model reads them."""

    input_ids: list[list[int]]
    """Cut at the plan's `max_length`, unpadded."""
    labels: list[int]
    """Class indices."""

    def __len__(self) -> int:
        return len(self.labels)

    def table(self) -> Dataset:
        """The rows as the table that the trainer's loader reads."""
        return Dataset.from_dict({"input_ids": self.input_ids, "labels": self.labels})

    def class_weights(self, classes: int) -> list[float]:
        """Inverse frequency, so that every class weighs the same in all and the mean weight of a row is 1."""
        counts = Counter(self.labels)
        return [len(self.labels) / (classes * max(counts[i], 1)) for i in range(classes)]


def encode(
    tokenizer: Any, rows: Rows, labels: list[str], max_length: int, progress: Callable[[int], None] | None = None
) -> Encoded:
    """Token ids of the texts and indices of their labels."""
    index = {label: i for i, label in enumerate(labels)}
    input_ids: list[list[int]] = []
    for start in range(0, len(rows), CHUNK):
        # Said in full: tokenizer files carry the truncation and padding of their last user (128 in MiniLM's).
        input_ids += tokenizer(
            rows.texts[start : start + CHUNK],
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        if progress is not None:
            progress(len(input_ids))
    return Encoded(input_ids, [index[label] for label in rows.labels])
