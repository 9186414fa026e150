"""When to score, to save and to stop: the one flow of a run."""

from typing import Any

from transformers import TrainerCallback

from engine.worker.control import Control
from recommender.plan import Plan


class Schedule(TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers here
    """Logs every step, scores and saves at `moments`, and obeys the person's requests."""

    def __init__(self, moments: frozenset[int], control: Control, *, scores: bool) -> None:
        self._moments = moments
        self._requests = control
        self._scores = scores

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Decide at the end of each step."""
        control.should_log = True
        due = state.global_step in self._moments
        control.should_evaluate = due and self._scores
        control.should_save = due or self._requests.take_save()
        if state.global_step >= state.max_steps:
            control.should_training_stop = control.should_save = True
        pause = self._requests.stop_at
        if self._requests.stop or (pause is not None and state.global_step >= pause):
            control.should_training_stop = control.should_save = True
        return control


def moments(plan: Plan, total_steps: int) -> frozenset[int]:
    """Steps after which the validation rows are scored: evenly spread, the last step always among them.

    The first step of a warm-up has the learning rate 0, and a model that nothing has changed is no checkpoint worth keeping.
    """
    first = min(2 if plan.warmup_steps else 1, total_steps)
    return frozenset(max(first, round(total_steps * i / plan.evaluations)) for i in range(1, plan.evaluations + 1))
