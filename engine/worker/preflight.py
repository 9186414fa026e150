"""Before the first step: the worst batches for real."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.findings import DAMAGED_FOR_A_WORD
from engine.inspection.nvidia import under_windows
from engine.rundir import RunDirectory
from engine.worker.batches import collate
from engine.worker.budget import LONE_TRIES, give_back, out_of_memory, what_helps
from engine.worker.memory import Peak, memory_available
from engine.worker.modeling import Built
from engine.worker.narrator import Narrator
from engine.worker.recomputing import is_recomputing
from engine.worker.room import room_for_files
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded, Task
from engine.worker.trainer import LogicalBatchTrainer
from recommender.errors import Refused, TrainingFailed

WINDOWS = 8
"""Logical batches that are looked through for the fullest micro-batch, from the longest rows to the shortest."""
MOST_ROWS = 512
"""Of a logical batch that are looked at: a micro-batch holds fewer."""
AHEAD = 20_000
"""Rows of the first logical batches of the run itself, which are looked through as well. Four of the longest rows may be cut into
two micro-batches of 930 tokens, and four others be one of 969."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a run is about to do, tried in seconds."""

    run: RunDirectory
    tell: Narrator
    reader: Reader
    rows: dict[str, Encoded]
    """By use."""

    def go(self, trainer: LogicalBatchTrainer, built: Built, predicted: int | None) -> None:
        """Tell what was found. Weights, random numbers and the trainer's optimizer are left as they were.

        What does not fit is made to fit as it would be during the training: smaller micro-batches, then checkpointing.

        Raises:
            Refused: even so it does not fit, or the disk or the main memory cannot hold what will be saved.
        """
        with untouched(trainer.model):
            trainer.quicken(self.rows["train"])
        began = time.monotonic()
        self.tell.phase("preflight")
        room = room_for_files(self.run, self.reader.task.plan, self.tell, trainer, built)
        available = memory_available()
        peak = Peak()
        try:
            tried = self._tried(trainer, available, peak)
        except TrainingFailed as error:
            if error.setting is not None:  # not for lack of memory: a GPU failed in kernels that a setting puts in
                raise
            raise Refused(f"Tried before the first step: {error.message}") from None
        except Exception as error:  # outside of a micro-batch: nothing smaller could be tried
            out_of_memory(error)
            helps = what_helps(self.reader.task.plan)
            raise Refused(f"Tried before the first step: memory cannot hold the optimizer's states. {helps}") from None
        self.tell.events.write(
            "preflight",
            predicted=predicted,
            probed=peak.bytes(),
            available=available,
            token_budget=self.reader.budget.tokens,
            gradient_checkpointing=is_recomputing(trainer.model),
            batches=tried,
            seconds=time.monotonic() - began,
            **room,
        )
        give_back()  # scoring comes next, and pieces of other sizes would be taken beside those that the step has left

    def _tried(self, trainer: LogicalBatchTrainer, available: int, peak: Peak) -> list[dict[str, Any]]:
        """Put the worst micro-batches through the model; which they were.

        Raises:
            TrainingFailed: one row alone does not fit.
        """
        with untouched(trainer.model), _nothing_shared(self.reader.task):
            while True:
                budget, recomputes = self.reader.budget.tokens, is_recomputing(trainer.model)
                tried = [*self._train(trainer), *self._evaluate(trainer.model)]
                if (self.reader.budget.tokens, is_recomputing(trainer.model)) != (budget, recomputes):
                    continue  # with another cut others are the worst
                if _was_there(peak.bytes(), available):
                    return tried
                # Nothing was refused and yet more was taken than is free: where the system lends what it does not have.
                worst = max(tried, key=lambda t: t["tokens"])
                failure = MemoryError("more was taken than is free")
                for _ in range(LONE_TRIES if worst["rows"] == 1 else 1):  # it has gone through: another try changes nothing
                    self.reader.budget.shrink(failure, longest=worst["longest"], rows=worst["rows"], tokens=worst["tokens"])
                peak = Peak()

    def _train(self, trainer: LogicalBatchTrainer) -> list[dict[str, Any]]:
        rows, task = self.rows["train"], self.reader.task
        lengths = task.lengths(rows.input_ids, rows.targets)
        batch = trainer.args.per_device_train_batch_size
        around = [*windows(lengths, batch), *trainer.batches(AHEAD // batch)]
        with _rehearsal(trainer):
            while True:
                pieces, alone = [], True
                for window in around:
                    cut = task.cut([lengths[i] for i in window], self.reader.budget.tokens, trainer.args.device.type)
                    pieces.append(heaviest([[window[i] for i in piece] for piece in cut], lengths, task.held))
                    alone = alone and len(cut) == 1
                worst = _distinct(pieces[0], heaviest(pieces, lengths, task.held))
                if not any(self._failed(trainer, rows, piece, lengths, alone=alone) for piece in worst):
                    return [_described("train", [lengths[i] for i in piece], task.held) for piece in worst]

    def _failed(
        self, trainer: LogicalBatchTrainer, rows: Encoded, piece: list[int], lengths: list[int], *, alone: bool
    ) -> bool:
        """Whether memory ran out in that micro-batch, and room was made. Where each is a step's `alone`, no gradients of
        others are there meanwhile; else all are, also after one that was tried alone."""
        self.reader.interrupt()
        if alone:
            trainer.model.zero_grad()
        else:
            _with_gradients(trainer.model)
        failure: BaseException | None = None
        loss = torch.zeros(())
        try:
            loss = trainer.rehearse(collate([rows[i] for i in piece]))
        except Exception as error:
            failure = out_of_memory(error)
        if failure is None:
            if not torch.isfinite(loss):
                self._no_number(trainer, rows, piece, lengths)
            self.reader.budget.worked()
            return False
        tried = [lengths[i] for i in piece]
        self.reader.budget.shrink(failure, longest=max(tried), rows=len(piece), tokens=self.reader.task.held(tried))
        return True

    def _no_number(self, trainer: LogicalBatchTrainer, rows: Encoded, piece: list[int], lengths: list[int]) -> None:
        """Whether it is these rows: of a model that has no number for any row the scores before the training tell.

        Raises:
            Refused: it is.
        """
        shortest = min(range(len(lengths)), key=lambda i: lengths[i])
        wrong = trainer.overflowing(collate([rows[i] for i in (shortest, *piece)]))
        if wrong:
            wider = self.reader.task.plan.precision != "fp32"
            raise Refused(
                f"Of {len(piece)} rows tried before the first step, among the longest, the loss of {len(wrong)} is not a number;"
                f' the first of these begins "{wrong[0]}".',
                DAMAGED_FOR_A_WORD + (" `--set precision=fp32` may help too." if wider else ""),
            )

    def _evaluate(self, model: Any) -> list[dict[str, Any]]:
        """The longest rows that are scored, and the fullest micro-batch of them, whatever they are held for."""
        pieces: list[tuple[str, list[int], list[int]]] = []
        for use in ("validation", "held_out"):
            lengths = self.reader.task.lengths(self.rows[use].input_ids, self.rows[use].targets)
            if not lengths:
                continue
            order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
            most = [max(1, self.reader.budget.tokens // max(lengths[i], 1)) for i in order]  # as `Reader` cuts
            pieces += [(use, order[i : i + most[i]], lengths) for i in spread(len(order))]
        tried = []
        if pieces:
            longest = max(pieces, key=lambda p: p[2][p[1][0]])
            fullest = max(pieces, key=lambda p: padded([p[2][i] for i in p[1]]))
            for use, piece, lengths in [longest] if longest is fullest else [longest, fullest]:
                self.reader.score(model, self.rows[use].take(piece))
                tried.append(_described(use, [lengths[i] for i in piece], padded))
        return tried


@contextlib.contextmanager
def untouched(model: Any) -> Iterator[None]:
    """While inside, batches may go through the model: its buffers, mode and gradients, and every random state, come back."""
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    was_training, states = model.training, (random.getstate(), np.random.get_state())
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        model.train(was_training)
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, b in model.named_buffers():
                b.copy_(buffers[name])


@contextlib.contextmanager
def _nothing_shared(task: Task) -> Iterator[None]:
    """While inside, every row is read whole: a later micro-batch as full as the worst one may begin with nothing alike."""
    once, task.once = task.once, False
    try:
        yield
    finally:
        task.once = once


@contextlib.contextmanager
def _rehearsal(trainer: LogicalBatchTrainer) -> Iterator[None]:
    """While inside, an optimizer of the run's kind holds its state and all gradients exist, as after the first step.

    It takes a step on gradients of zero at a learning rate of zero: every weight is multiplied by one, and zero added. But not
    where its states would be paged: bitsandbytes never frees such memory, which gives way to a step's by itself.
    """
    optimizer, trainer.optimizer = trainer.create_optimizer(), None
    try:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        trainer.model.zero_grad()  # those of an earlier trial may be no numbers, which zero times is no number either
        _with_gradients(trainer.model)
        if not (getattr(optimizer, "is_paged", False) and trainer.args.device.type == "cuda"):
            optimizer.step()
        yield
    finally:
        del optimizer


def _with_gradients(model: Any) -> None:
    """Where a parameter that is trained has no gradient, it is zero."""
    for p in model.parameters():
        if p.requires_grad and p.grad is None:
            p.grad = torch.zeros_like(p)


def _was_there(peak: int, available: int) -> bool:
    """Whether the memory that was taken was free. A GPU's allocator says no by itself, but Windows' driver gives main memory
    instead (WSL issue 11050), many times as slow, and what was lent then looks as if it had been free."""
    if torch.cuda.is_available():
        return peak <= available or not under_windows()
    return peak <= max(available, memory_available())


def windows(lengths: Sequence[int], batch: int) -> list[list[int]]:
    """Indices of logical batches of neighbours by length, from the longest rows to the shortest."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + min(batch, MOST_ROWS)] for i in spread(len(order))]


def spread(rows: int) -> list[int]:
    """Where the windows begin: at the first row, and evenly after it."""
    return sorted({rows * n // WINDOWS for n in range(WINDOWS)})


def padded(lengths: Sequence[int]) -> int:
    """Tokens of a micro-batch of rows of those lengths, padding included."""
    return len(lengths) * max(lengths)


def heaviest(pieces: Sequence[Sequence[int]], lengths: Sequence[int], held: Callable[[Sequence[int]], int]) -> list[int]:
    """The micro-batch that holds the most tokens; of equals the one with the longest row."""
    worst: Sequence[int] = max(pieces, key=lambda piece: (held([lengths[i] for i in piece]), lengths[piece[0]]))
    return list(worst)


def _distinct(first: list[int], second: list[int]) -> list[list[int]]:
    return [first] if first == second else [first, second]


def _described(use: str, lengths: Sequence[int], held: Callable[[Sequence[int]], int]) -> dict[str, Any]:
    return {"use": use, "rows": len(lengths), "longest": max(lengths), "tokens": held(lengths)}
