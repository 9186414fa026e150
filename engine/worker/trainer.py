"""The optimizer step as one logical batch, on top of transformers' Trainer.

The Trainer keeps what it is good at: optimizer, schedule, clipping, mixed precision, distribution, resuming. Overridden
are the step itself (cut under a token budget, normalised by the logical batch), scoring, and saving.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import DefaultFlowCallback, ExportableState, PrinterCallback

from engine import checkpoints
from engine.events import EventWriter
from engine.worker.batches import EpochPermutation, LogicalBatch, collate, mixed
from engine.worker.budget import TokenBudget
from engine.worker.heartbeat import memory_now
from engine.worker.scoring import autocast
from engine.worker.tasks.base import Task
from recommender.errors import TrainingFailed


class LogicalBatchTrainer(Trainer):  # type: ignore[misc]  # mypy does not read transformers here
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
    ) -> None:
        """`rows` and `validation` have the columns input_ids and targets; `evaluate_rows(model, step)` scores the latter.

        `checkpoint_note` is stored with every checkpoint, `interrupt` is called before every micro-batch.
        """
        super().__init__(model=model, args=args, train_dataset=rows, eval_dataset=validation, data_collator=collate)
        # One flow decides when to score, save and stop (schedule.py); this one would add its own moments.
        self.remove_callback(DefaultFlowCallback)
        self.remove_callback(PrinterCallback)
        self._task = task
        self._budget = budget
        self._evaluate_rows = evaluate_rows
        self._events = events
        self._note = checkpoint_note
        self._interrupt = interrupt
        self._order = EpochPermutation(len(rows), args.data_seed)
        self._step_started = 0.0
        self._batch: LogicalBatch | None = None

    # Order of the rows

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochPermutation:
        return self._order

    def _run_epoch(self, model: Any, epoch: int, **rest: Any) -> None:
        self._order.epoch = epoch
        super()._run_epoch(model=model, epoch=epoch, **rest)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> None:
        return None  # the step normalises by itself; the Trainer's count would scale the loss a second time

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    # One step

    def training_step(self, model: Any, inputs: LogicalBatch, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of the whole logical batch; its loss, a scalar.

        Out of memory halves the token budget and repeats the step from the same random state.

        Raises:
            TrainingFailed: the loss is not a number, or memory is too small for one row.
        """
        self._step_started = time.monotonic()
        self._batch = inputs
        model.train()
        lengths = [len(ids) for ids in inputs.input_ids]
        while True:
            seed_everything(mixed(self.args.seed, self.state.global_step))
            loss = torch.zeros((), device=self.args.device)
            piece: list[int] = []
            try:
                for piece in self._task.cut(lengths, self._budget.tokens, self.args.device.type):
                    self._interrupt()
                    loss += self._micro_step(model, inputs, piece)
                break
            except (RuntimeError, MemoryError) as error:
                self._budget.shrink(error, longest=lengths[piece[0]], rows=len(piece))
                model.zero_grad()
        if not torch.isfinite(loss):
            raise TrainingFailed(
                f"The loss is no longer a number at step {self.state.global_step + 1}. Lower learning_rate (it is"
                f" {self.args.learning_rate:g}); a new run from the start with a third of it usually cures this."
            )
        return loss

    def _micro_step(self, model: Any, batch: LogicalBatch, piece: list[int]) -> torch.Tensor:
        """Backward through one micro-batch; its share of the logical batch's loss."""
        # Not left to accelerate, which wraps the model's own forward: a packed step goes past it, to the body.
        with autocast(self.args.device, self._task.plan.precision):
            total = self._task.total(model, [batch.input_ids[i] for i in piece], [batch.targets[i] for i in piece])
        share = total / self._task.weight(batch.targets)
        self.accelerator.backward(share)
        return share.detach()

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        # The fp16 scaler skips such a step by itself and lowers its scale; elsewhere it would ruin the weights.
        if self.accelerator.scaler is None and norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            raise TrainingFailed(
                f"The gradient is no longer a number at step {self.state.global_step + 1}; lower learning_rate"
                f" (it is {self.args.learning_rate:g})."
            )
        return norm

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
            tokens=self._batch.tokens,
            rows=len(self._batch.targets),
            seconds=time.monotonic() - self._step_started,
            memory=memory_now(),
        )
        self._batch = None

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics of the validation rows, named as the Trainer's best-model and early-stopping code expects them."""
        found = self._evaluate_rows(self.model, self.state.global_step)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Saving and resuming

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write `step-N` and seal it; earlier checkpoints go only afterwards."""
        started = time.monotonic()
        root = Path(self.args.output_dir)
        folder = checkpoints.folder_of(root, self.state.global_step)
        if folder.exists():  # of this very step, from before a resume: sound, or it would have been put aside
            return
        checkpoints.check_space(root, self._expected_bytes())
        folder.mkdir(mode=0o700)
        best = self.state.best_global_step
        if best:
            self.state.best_model_checkpoint = str(checkpoints.folder_of(root, best))
        self.model.save_pretrained(folder)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        for callback in (c for c in [*self.callback_handler.callbacks, self.control] if isinstance(c, ExportableState)):
            self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        (folder / "loracle.json").write_text(json.dumps(self._note | {"token_budget": self._budget.tokens}))
        written = checkpoints.seal(folder)
        checkpoints.rotate(root, best)
        self._events.write(
            "checkpoint",
            step=self.state.global_step,
            path=str(folder),
            bytes=written,
            seconds=time.monotonic() - started,
            best=best == self.state.global_step,
        )

    def _expected_bytes(self) -> int:
        """Weights that are saved (all, or the adapters), and two optimizer moments for those that are trained."""
        trained: int = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        saved = trained if hasattr(self.model, "peft_config") else sum(p.numel() for p in self.model.parameters())
        return 4 * saved + 8 * trained + 1_000_000

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        trained = super()._init_training_state(*args, **kwargs)
        # The state holds an absolute path; a run folder may have been moved since.
        best = self.state.best_global_step
        if best:
            self.state.best_model_checkpoint = str(checkpoints.folder_of(Path(self.args.output_dir), best))
        return trained

    def load_weights(self, checkpoint: Path) -> None:
        """Put a checkpoint's weights into the model."""
        self._load_from_checkpoint(str(checkpoint))


def seed_everything(seed: int) -> None:
    """Seed every generator a model may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # every device's generator too
