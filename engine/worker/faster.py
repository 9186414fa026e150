"""What a plan puts into a model so that its steps are quicker: compared before the first step, taken out where it fails."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from engine.text import one_line
from engine.worker import compiled, products
from engine.worker.batches import LogicalBatch, collate
from engine.worker.budget import has_lost_the_gpu, is_out_of_memory
from engine.worker.compiled import Compiled
from engine.worker.liger import Liger
from engine.worker.narrator import Narrator
from engine.worker.tasks.base import Encoded
from engine.worker.token_rows import lengths_of
from recommender.errors import LoracleError, TrainingFailed
from recommender.plan import Plan

ROUNDING = {"fp32": (1e-4, 1e-3)}
"""By precision: how far the loss, and the norms of the gradients, may lie apart, as shares. Another order of sums explains it."""
ROUNDING_16_BIT = (1e-2, 5e-2)
MOST_TOKENS = 1024
MOST_ROWS = 8
"""Of the batch that is compared."""
SEED = 1

Step = Callable[[LogicalBatch], torch.Tensor]
"""Forward and backward through some rows; their loss, and gradients left behind."""


class Change(Protocol):
    """Something put into a model."""

    words: str
    setting: str

    def undo(self) -> None:
        """Take it out."""


class Faster:
    """What is in the model of a run, for as long as it holds. Within a `with`; at its end the model is as it was."""

    def __init__(self, plan: Plan, tell: Narrator) -> None:
        self._plan, self._tell = plan, tell
        self._change: Change | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo()

    def begin(self, model: Any, rows: Encoded, step: Step) -> None:
        """Put in what the plan wants, if a few of the rows get the same loss and the same gradients with it as without."""
        make = Compiled if self._plan.compile else Liger if self._plan.kernels == "liger" else None
        if make is None:
            return
        if make is Compiled and self._plan.precision == "fp32" and products.in_use() == "onednn":
            text = "Without torch.compile: what it makes multiplies by MKL, and on this processor oneDNN is faster."
            self._tell.recovered({"compile": True}, {"compile": False}, text)
            return
        self._tell.phase("compile" if self._plan.compile else "kernels")
        batch = some_of(rows, min(MOST_TOKENS, self._plan.token_budget))
        try:
            usual = _said(model, batch, step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            model.zero_grad()
            self._leave_out(make, "memory ran out before they could be compared")  # the preflight says what else to do
            return
        try:
            self._change = make(model)
        except (ValueError, RuntimeError, ImportError) as error:
            self._leave_out(make, compiled.reason(error))
            return
        try:
            with_it = _said(model, batch, step)
        except Exception as error:
            if not self.gave_way(error, memory_too=True):
                raise
            model.zero_grad()
            return
        apart = difference(with_it, usual)
        allowed = ROUNDING.get(self._plan.precision, ROUNDING_16_BIT)
        if self._change is not None and not all(a <= most for a, most in zip(apart, allowed, strict=True)):
            self._undo()
            self._leave_out(make, f"a batch gets another loss ({apart[0]:.2g} of it) or other gradients ({apart[1]:.2g})")

    def gave_way(self, error: BaseException, *, memory_too: bool = False) -> bool:
        """Whether what was put in may be to blame for `error`: then it is out, that was told, and the step can be repeated.

        Memory that ran out is another matter, unless the compiler has said so or with `memory_too`.

        Raises:
            TrainingFailed: it may, and no step can be repeated by this process.
        """
        if self._change is None or isinstance(error, LoracleError):
            return False
        if has_lost_the_gpu(error):
            _, instead = _values(self._change)
            setting = f"{self._change.setting}={str(instead).lower()}"
            text = f"The GPU failed in a step with {self._change.words}: {compiled.reason(error)}."
            raise TrainingFailed(text, f"`--set {setting}` does without.", setting) from error
        if is_out_of_memory(error) and not (memory_too or compiled.from_compiler(error)):
            return False
        change = self._change
        self._undo()
        self._leave_out(change, compiled.reason(error))
        return True

    def _undo(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.undo()

    def _leave_out(self, change: "Change | type[Change]", why: str) -> None:
        wanted, instead = _values(change)
        text = f"Without {change.words}: {one_line(why, 200)}. The steps are slower; the result does not change."
        self._tell.recovered({change.setting: wanted}, {change.setting: instead}, text)


def _values(change: "Change | type[Change]") -> tuple[Any, Any]:
    """Of its setting: with it, and without."""
    return ("liger", "torch") if change.setting == "kernels" else (True, False)


def some_of(rows: Encoded, most: int) -> LogicalBatch:
    """Rows of a middling length: one, or a few of at most so many tokens together."""
    lengths = lengths_of(rows.input_ids)
    middle = sorted(range(len(rows)), key=lambda i: lengths[i])[len(rows) // 2 :]
    taken, tokens = middle[:1], lengths[middle[0]]
    for i in middle[1:]:
        tokens += lengths[i]
        if tokens > most or len(taken) == MOST_ROWS:
            break
        taken.append(i)
    return collate([rows[i] for i in taken])


def _said(model: Any, batch: LogicalBatch, step: Step) -> tuple[float, torch.Tensor]:
    """The loss, and the norm of each parameter's gradient; none is left."""
    from engine.worker.trainer import seed_everything

    model.zero_grad()
    seed_everything(SEED)
    loss = float(step(batch))
    norms = [torch.zeros(()) if p.grad is None else p.grad.float().norm().cpu() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    return loss, torch.stack(norms)


def difference(found: tuple[float, torch.Tensor], wanted: tuple[float, torch.Tensor]) -> tuple[float, float]:
    """How far two steps lie apart: of the loss, and of the gradients' norms together, as shares."""
    loss = abs(found[0] - wanted[0]) / max(abs(wanted[0]), 1e-6)
    gradients = float((found[1] - wanted[1]).norm() / wanted[1].norm().clamp_min(1e-12))
    return loss, gradients
