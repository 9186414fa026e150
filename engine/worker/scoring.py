"""Scoring rows: one code for validation, for before and for after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from engine.metrics.kinds import Answers, mean_loss
from engine.worker.batches import padded
from engine.worker.budget import TokenBudget, out_of_memory
from engine.worker.inner import evaluating
from engine.worker.precision import autocast
from engine.worker.tasks.base import Answer, Encoded, Progress, Task
from engine.worker.token_rows import lengths_of

Floats = np.ndarray[Any, np.dtype[np.float32]]
Found = TypeVar("Found")
Judge = Callable[[Any, list[list[int]], list[Any]], list[Answer]]
"""What a model says about a micro-batch of ids and targets; called without gradients."""


class Scored(NamedTuple):
    """What a model said about some rows, in their order."""

    answers: Answers
    seconds: float

    @property
    def loss(self) -> float:
        """Mean loss of a row, or of a trained token."""
        return mean_loss(self.answers)


@dataclass(slots=True)
class Speed:
    """How fast a model reads here, as far as it has read."""

    tokens: int = 0
    seconds: float = 0.0

    def time_for(self, tokens: int) -> float:
        """Seconds that so many tokens take; 0 while nothing is known."""
        return tokens * self.seconds / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Reader:
    """How rows are put through a model without gradients."""

    task: Task
    budget: TokenBudget
    interrupt: Callable[[], None]
    """Called before every micro-batch; may raise to leave."""
    rest: Callable[[], None] = lambda: None
    """Called after the last one."""
    speed: Speed = field(default_factory=Speed)

    def score(
        self, model: Any, rows: Encoded, progress: Progress | None = None, *, judge: Judge | None = None
    ) -> Scored:
        """Answers and losses of the rows; by `judge` where they are not of the task's own kind.

        Raises:
            TrainingFailed: memory is too small even for one row.
        """
        started = time.monotonic()

        def answers(piece: list[int]) -> Sequence[Any]:
            return (judge or self.task.answers)(model, [rows.input_ids[i] for i in piece], [rows.targets[i] for i in piece])

        lengths = self.task.lengths(rows.input_ids, rows.targets)
        found = self._through(model, lengths, answers, progress)
        predicted, losses, weights = ([a[i] for a in found] for i in range(3))
        even = all(w == 1.0 for w in weights)
        return Scored(Answers(predicted, losses, None if even else weights, rows.groups), time.monotonic() - started)

    def reference(self, model: Any, rows: Encoded, progress: Progress | None = None) -> list[list[float]]:
        """What an untouched model says of the rows, for tasks that compare with it.

        Raises:
            TrainingFailed: memory is too small even for one row.
        """

        def likelihoods(piece: list[int]) -> list[list[float]]:
            ids, targets = [rows.input_ids[i] for i in piece], [rows.targets[i] for i in piece]
            found: list[list[float]] = self.task.likelihoods(model, ids, targets).tolist()
            return found

        return self._through(model, lengths_of(rows.input_ids), likelihoods, progress)

    def embed(self, base: Any, input_ids: Sequence[Sequence[int]], progress: Progress | None = None) -> Floats:
        """Mean of the last hidden states over real tokens, (rows, hidden), from a model without its head.

        Raises:
            TrainingFailed: memory is too small even for one row.
        """
        device = next(base.parameters()).device

        def pooled(piece: list[int]) -> Sequence[Any]:
            batch = padded([input_ids[i] for i in piece], self.task.pad, device)
            hidden = base(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1).float()
            rows: Floats = ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()
            return list(rows)

        return np.stack(self._through(base, lengths_of(input_ids), pooled, progress))

    def _through(
        self,
        model: Any,
        lengths: Sequence[int],
        answer: Callable[[list[int]], Sequence[Found]],
        progress: Progress | None,
    ) -> list[Found]:
        """`answer` for the indices of every micro-batch of rows of those `lengths`, in eval mode, which is left after it."""
        device = next(model.parameters()).device
        found: dict[int, Found] = {}
        turn = self.task.turn
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])  # the longest first, as `cut` does
        with evaluating(model), torch.inference_mode(), autocast(device, self.task.plan.precision):
            while len(found) < len(order):
                self.interrupt()
                done = len(found)
                piece = order[done : done + max(1, self.budget.tokens // max(lengths[order[done]], 1))]
                if turn is not None and lengths[piece[0]] > turn:
                    piece = [i for i in piece if lengths[i] > turn]
                failure: BaseException | None = None
                began = time.monotonic()
                try:
                    rows = answer(piece)
                except Exception as error:
                    failure = out_of_memory(error)
                if failure is not None:
                    self.budget.shrink(failure, longest=lengths[piece[0]], rows=len(piece), training=False)
                    continue
                self.budget.worked()
                self.speed.tokens += sum(lengths[i] for i in piece)
                self.speed.seconds += time.monotonic() - began
                found.update(zip(piece, rows, strict=True))
                if progress is not None:
                    progress(len(found))
        self.rest()
        return [found[i] for i in range(len(lengths))]
