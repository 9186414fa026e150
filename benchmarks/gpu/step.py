"""Loracle's optimizer step on a model in memory, by the very trainer that its worker uses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.events import EventWriter
from engine.worker.accelerator import take_hold
from engine.worker.arguments import training_arguments
from engine.worker.batches import collate
from engine.worker.budget import TokenBudget
from engine.worker.tasks.base import Encoded, Task
from engine.worker.trainer import LogicalBatchTrainer

STEPS = 1000
"""Of the schedule; so far no benchmark goes."""
Mark = Callable[[str], None]


class EngineStep:
    """Steps of one plan; `mark` is called with `forward`, `backward` and `optimizer` when each is over."""

    def __init__(self, model: Any, task: Task, rows: Encoded, work: Path, mark: Mark = lambda phase: None) -> None:
        work.mkdir(parents=True, exist_ok=True)
        take_hold()  # as the worker does
        task.prepare(rows, next(model.parameters()).device)
        task.adopt(model)
        self.model, self.task, self.rows, self.mark = model, task, rows, mark
        self.recovered: list[tuple[int, int]] = []
        self.trainer = LogicalBatchTrainer(
            model,
            training_arguments(task.plan, work, STEPS, scored=False),
            rows,
            None,
            task=task,
            budget=TokenBudget(task.plan.token_budget, lambda before, after: self.recovered.append((before, after))),
            evaluate_rows=lambda model, step: {},
            events=EventWriter(work / "events.jsonl"),
            checkpoint_note={},
            interrupt=lambda: None,
        )
        self.trainer.create_optimizer_and_scheduler(STEPS)
        if self.trainer.accelerator.scaler is not None:  # of fp16, whose scale the step takes out again
            self.trainer.optimizer = self.trainer.accelerator.prepare(self.trainer.optimizer)
        self._watch()

    def _watch(self) -> None:
        total, backward = self.task.total, self.trainer.accelerator.backward

        def told_total(*given: Any) -> torch.Tensor:
            loss = total(*given)
            self.mark("forward")
            return loss

        def told_backward(*given: Any, **more: Any) -> None:
            backward(*given, **more)
            self.mark("backward")

        self.task.total = told_total  # type: ignore[method-assign,assignment]
        self.trainer.accelerator.backward = told_backward

    def step(self, which: list[int]) -> float:
        """One optimizer step on the rows at those indices; its loss."""
        batch = collate([self.rows[i] for i in which])
        loss = self.trainer.training_step(self.model, batch)
        self.trainer._clip_grad_norm(self.model)
        self.trainer.optimizer.step()
        self.trainer.lr_scheduler.step()
        self.model.zero_grad()
        self.trainer.state.global_step += 1
        self.mark("optimizer")
        return float(loss)

    def forget_optimizer(self) -> None:
        """Begin anew without moments."""
        self.trainer.optimizer.state.clear()
        self.model.zero_grad()
