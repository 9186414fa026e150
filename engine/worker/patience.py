"""Early stopping: when validation rows have shown nothing better for long enough."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from engine.files import read_json
from engine.worker.arguments import CHOICE
from recommender.plan import Plan

LEAST_GAIN = 0.0005
"""What the choice of the best checkpoint must gain to count; rounding gains a little for ever."""
LEAST_FALL = 0.001
"""Of its lowest value, what the loss must fall to count."""


class EarlyStopping(TrainerCallback, ExportableState):  # type: ignore[misc]  # mypy does not read transformers here
    """Ends a training after so many evaluations in a row in which neither the metric nor the loss has come to something better.

    The loss counts beside the metric: before a model separates the classes it gives all rows the same answer, and while its
    loss falls the metric stands still or gets worse (MiniLM with two layers trained: stopped after 13 of 22 steps, untrained).
    Both are compared with the last value that counted, so that many small gains add up.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.waited = 0
        self.best, self.lowest = -math.inf, math.inf

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **rest: Any) -> None:
        """Take in an evaluation; a value that is no number is no gain."""
        choice, loss = metrics[f"eval_{CHOICE}"], metrics["eval_loss"]
        gained, fell = choice > self.best + LEAST_GAIN, loss < self.lowest * (1 - LEAST_FALL)
        self.best = choice if gained else self.best
        self.lowest = loss if fell else self.lowest
        self.waited = 0 if gained or fell else self.waited + 1
        if self.waited >= self._patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        kept = {name: getattr(self, name) for name in ("waited", "best", "lowest")}
        return {"args": {"patience": self._patience}, "attributes": kept}


def patience_ended(checkpoint: Path, plan: Plan) -> bool:
    """Whether early stopping ended the training with that checkpoint.

    A worker that was stopped, paused or killed at this very step has not noted it anywhere else. What a checkpoint keeps of it
    goes on into the next ones, of a run too whose plan no longer asks for it.
    """
    if not plan.early_stopping:
        return False
    kept = read_json(checkpoint / "trainer_state.json").get("stateful_callbacks", {})
    waited = kept.get(EarlyStopping.__name__, {}).get("attributes", {}).get("waited", 0)
    return bool(waited >= plan.patience)
