"""When to score, to save and to stop: the one flow of a run."""

from typing import Any

from transformers import TrainerCallback

from engine.worker.control import Control


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


def moments(total_steps: int, evaluations: int) -> frozenset[int]:
    """Steps after which the validation rows are scored: evenly spread, the last step always among them."""
    return frozenset(max(1, round(total_steps * i / evaluations)) for i in range(1, evaluations + 1))
