"""The optimizer step as one logical batch, on top of transformers' Trainer.

The Trainer keeps what it is good at: optimizer, schedule, clipping, mixed precision, distribution, resuming. Overridden
are the step itself (cut under a token budget, normalised by the logical batch), scoring, and saving.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments
from transformers.trainer_callback import DefaultFlowCallback, PrinterCallback

from engine.events import EventWriter
from engine.worker.adapters import raise_rates_of_b
from engine.worker.batches import EpochPermutation, LogicalBatch, collate, mixed
from engine.worker.budget import TokenBudget, give_back, out_of_memory
from engine.worker.faster import Faster
from engine.worker.health import Step
from engine.worker.memory import memory_now
from engine.worker.precision import autocast
from engine.worker.saving import SavingTrainer
from engine.worker.tasks.base import Encoded, Task
from engine.worker.watch import Watch
from recommender.errors import TrainingFailed

MOST_TRIED = 64
"""Rows of a batch that are looked at one by one when its loss is no number."""


class LogicalBatchTrainer(SavingTrainer):
    """A Trainer whose DataLoader yields whole logical batches."""

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        rows: Any,
        validation: Any,
        *,
        task: Task,
        budget: TokenBudget,
        evaluate_rows: Callable[[Any, int], dict[str, float]],
        events: EventWriter,
        checkpoint_note: dict[str, Any],
        interrupt: Callable[[], None],
        watch: Watch | None = None,
        faster: Faster | None = None,
        show: Callable[[Sequence[int]], str] = str,
    ) -> None:
        """`rows` and `validation` have the columns input_ids and targets; `evaluate_rows(model, step)` scores the latter.

        `checkpoint_note` is stored with every checkpoint, `interrupt` is called before every micro-batch, `watch` sees
        every step, `faster` knows what was put into the model to make it quicker, `show` makes a row's beginning readable.
        """
        super().__init__(model=model, args=args, train_dataset=rows, eval_dataset=validation, data_collator=collate)
        # One flow decides when to score, save and stop (schedule.py); this one would add its own moments.
        self.remove_callback(DefaultFlowCallback)
        self.remove_callback(PrinterCallback)
        self._task = task
        self._budget = budget
        self._evaluate_rows = evaluate_rows
        self._events = events
        self.watch = watch
        self._faster = faster
        self._show = show
        self._note = checkpoint_note
        self._interrupt = interrupt
        self._order = EpochPermutation(len(rows), args.data_seed)
        self._step_started = 0.0
        self._batch: LogicalBatch | None = None

    # Order of the rows

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochPermutation:
        return self._order

    def batches(self, most: int) -> list[list[int]]:
        """Rows of the run's first logical batches, at most so many."""
        rows, most = self.args.per_device_train_batch_size, min(most, self.args.max_steps)
        order, found = EpochPermutation(self._order.rows, self._order.seed), list[list[int]]()
        while len(found) < most:
            places = list(order)
            found += [places[i : i + rows] for i in range(0, len(places), rows)]
            order.epoch += 1
        return found[:most]

    def _run_epoch(self, model: Any, epoch: int, **rest: Any) -> None:
        self._order.epoch = epoch
        super()._run_epoch(model=model, epoch=epoch, **rest)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> None:
        return None  # the step normalises by itself; the Trainer's count would scale the loss a second time

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The plan's optimizer; with LoRA+ its faster groups stand behind the others."""
        if self.optimizer is None:
            super().create_optimizer(model)
            if self._task.plan.lora_plus_ratio:
                raise_rates_of_b(self.optimizer, self.model if model is None else model, self._task.plan.lora_plus_ratio)
        return self.optimizer

    # One step

    def training_step(self, model: Any, inputs: LogicalBatch, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of the whole logical batch; its loss, a scalar.

        Out of memory makes room (`TokenBudget.shrink`) and repeats the step from the same random state; so does an error of
        what was put into the model to make it quicker, once that is taken out.

        Raises:
            TrainingFailed: the loss is not a number, or memory is too small for one row.
        """
        self._step_started = time.monotonic()
        self._batch = inputs
        model.train()
        lengths = self._task.lengths(inputs.input_ids, inputs.targets)
        weight = self._task.weight(inputs.targets)  # once: it looks at every label of the batch
        while True:
            seed_everything(mixed(self.args.seed, self.state.global_step))
            loss, finite = torch.zeros(()), False  # not on the device, which may be full
            piece: list[int] = []
            failure: BaseException | None = None
            again = False
            try:
                for piece in self._task.cut(lengths, self._budget.tokens, self.args.device.type):
                    self._interrupt()
                    loss = loss + self._micro_step(model, inputs, piece, weight)
                finite = bool(torch.isfinite(loss))  # here a GPU has done it all, or says what went wrong
            except Exception as error:
                again = self._gave_way(error)
                failure = None if again else out_of_memory(error)
            if failure is None and not again:
                self._budget.worked()
                break
            model.zero_grad()
            if failure is not None:
                tokens = self._task.held([lengths[i] for i in piece])
                self._budget.shrink(failure, longest=lengths[piece[0]], rows=len(piece), tokens=tokens)
        if not finite:
            self._not_a_number("loss", self.overflowing(inputs))
        return loss

    def _micro_step(
        self, model: Any, batch: LogicalBatch, piece: list[int], weight: float, *, scaled: bool = True
    ) -> torch.Tensor:
        """Backward through one micro-batch; its share of the loss of the logical batch, which weighs `weight`.

        Gradients are `scaled` as fp16 needs it, where it does.
        """
        # Not left to accelerate, which wraps the model's own forward: a packed step goes past it, to the body.
        with autocast(self.args.device, self._task.plan.precision):
            total = self._task.total(model, [batch.input_ids[i] for i in piece], [batch.targets[i] for i in piece])
        share = total / weight
        if scaled:
            self.accelerator.backward(share)
        else:
            share.backward()
        return share.detach()

    def quicken(self, rows: Encoded) -> None:
        """Put into the model what the plan wants for speed, as far as it computes the same of some of the rows."""
        if self._faster is not None:
            self._faster.begin(self.model, rows, self.rehearse)

    def _gave_way(self, error: Exception) -> bool:
        return self._faster is not None and self._faster.gave_way(error)

    def rehearse(self, batch: LogicalBatch) -> torch.Tensor:
        """Forward and backward through one micro-batch, before the training; its loss. Only gradients are left behind.

        They are not scaled: what fp16 begins with overflows until the first steps have lowered it, and compares with nothing.
        """
        self.model.train()
        piece, weight = list(range(len(batch.targets))), self._task.weight(batch.targets)
        try:
            return self._micro_step(self.model, batch, piece, weight, scaled=False)
        except Exception as error:
            if not self._gave_way(error):
                raise
        return self._micro_step(self.model, batch, piece, weight, scaled=False)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        # The fp16 scaler skips such a step by itself and lowers its scale; elsewhere it would ruin the weights.
        if self.accelerator.scaler is None and norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            self._not_a_number("gradient")
        return norm

    def overflowing(self, batch: LogicalBatch) -> list[str]:
        """Beginnings of the rows whose loss is no number where others have one; none where the model is ruined for all."""
        sizes = range(min(len(batch.targets), MOST_TRIED))
        with torch.no_grad(), autocast(self.args.device, self._task.plan.precision):
            losses = [self._task.total(self.model, [batch.input_ids[i]], [batch.targets[i]]) for i in sizes]
        wrong = [i for i in sizes if not torch.isfinite(losses[i])]
        return [self._show(batch.input_ids[i]) for i in wrong] if len(wrong) < len(sizes) else []

    def _not_a_number(self, what: str, rows: Sequence[str] = ()) -> None:
        """End the training before that reaches the weights; `rows` are those that alone have it.

        Raises:
            TrainingFailed: always.
        """
        step = self.state.global_step + 1
        if self.watch is not None:
            self.watch.not_a_number(what, step, rows)
        raise TrainingFailed(f"The {what} is no longer a number at step {step}. Lower learning_rate.")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One `step` event a step. The Trainer's own history would grow with every step and every checkpoint."""
        if "loss" not in logs or self._batch is None:
            return
        self._events.write(
            "step",
            step=self.state.global_step,
            epoch=self.state.epoch,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens=sum(self._task.lengths(self._batch.input_ids, self._batch.targets)),
            rows=len(self._batch.targets),
            seconds=time.monotonic() - self._step_started,
            memory=memory_now(),
        )
        self._batch = None
        norm = logs.get("grad_norm")
        if self.watch is not None:
            self.watch.step(Step(self.state.global_step, logs["loss"], None if norm is None else float(norm)))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics of the validation rows, named as the Trainer's best-model and early-stopping code expects them."""
        found = self._evaluate_rows(self.model, self.state.global_step)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def let_go(self) -> None:
        """Free what only steps need, gradients and the optimizer's states; no step can follow."""
        self.model.zero_grad(set_to_none=True)
        if self.optimizer is not None:
            self.optimizer.state.clear()
        if self._task.plan.optimizer != "adamw":
            from bitsandbytes.optim.optimizer import GlobalOptimManager

            # Which would hold the embeddings for good; and what it knows of weights goes by their places in memory.
            GlobalOptimManager.get_instance().initialize()  # type: ignore[no-untyped-call]
        give_back()


def seed_everything(seed: int) -> None:
    """Seed every generator a model may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # every device's generator too
