"""Scoring rows: one code for validation, for before and for after."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from engine.worker.batches import padded
from engine.worker.budget import TokenBudget

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Scored(NamedTuple):
    """What a model said about some rows, in their order."""

    logits: Floats
    """(rows, classes)."""
    loss: float
    """Mean cross-entropy over the rows."""
    seconds: float
    losses: list[float]
    """Cross-entropy of each row."""

    @property
    def predicted(self) -> list[int]:
        """The most likely class of each row."""
        return [int(i) for i in self.logits.argmax(-1)]


@dataclass(frozen=True, slots=True)
class Reader:
    """How rows are put through a model without gradients."""

    pad: int
    """Id of the padding token."""
    precision: str
    budget: TokenBudget
    interrupt: Callable[[], None]
    """Called before every micro-batch; may raise to leave."""

    def score(
        self, model: Any, input_ids: Sequence[Sequence[int]], labels: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> Scored:
        """Logits and loss of the rows.

        Raises:
            TrainingFailed: memory is too small even for one row.
        """
        started = time.monotonic()
        logits = self._through(model, input_ids, lambda batch: model(**batch).logits, progress)
        said, truth = torch.from_numpy(logits), torch.tensor(labels)
        loss = functional.cross_entropy(said, truth)
        losses = functional.cross_entropy(said, truth, reduction="none").tolist()
        return Scored(logits, float(loss), time.monotonic() - started, losses)

    def embed(self, base: Any, input_ids: Sequence[Sequence[int]], progress: Callable[[int], None] | None = None) -> Floats:
        """Mean of the last hidden states over real tokens, (rows, hidden), from a model without its head.

        Raises:
            TrainingFailed: memory is too small even for one row.
        """

        def pooled(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            hidden = base(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1).float()
            return (hidden * mask).sum(1) / mask.sum(1)

        return self._through(base, input_ids, pooled, progress)

    def _through(
        self,
        model: Any,
        input_ids: Sequence[Sequence[int]],
        answer: Callable[[dict[str, torch.Tensor]], torch.Tensor],
        progress: Callable[[int], None] | None,
    ) -> Floats:
        """`answer` for every row, in eval mode; the model is left in the mode it was in."""
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        found: dict[int, Floats] = {}
        left = sorted(range(len(input_ids)), key=lambda i: -len(input_ids[i]))  # the longest first, as `cut` does
        try:
            with torch.inference_mode(), autocast(device, self.precision):
                while left:
                    self.interrupt()
                    piece = left[: max(1, self.budget.tokens // len(input_ids[left[0]]))]
                    try:
                        rows = answer(padded([input_ids[i] for i in piece], self.pad, device)).float().cpu().numpy()
                    except (RuntimeError, MemoryError) as error:
                        self.budget.shrink(error, longest=len(input_ids[piece[0]]), rows=len(piece))
                        continue
                    found.update(zip(piece, rows, strict=True))
                    left = left[len(piece) :]
                    if progress is not None:
                        progress(len(found))
        finally:
            model.train(was_training)
        return np.stack([found[i] for i in range(len(input_ids))])


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a model of that precision computes."""
    computed_in = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}.get(precision)
    context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    return torch.autocast(device.type, computed_in) if computed_in else context
