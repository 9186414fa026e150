"""When a training scores, saves and stops."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from engine.worker.control import Control
from engine.worker.schedule import Schedule, moments
from tests.conftest import make_plan


@pytest.mark.parametrize(
    ("steps", "evaluations", "after"),
    [(24, 3, {8, 16, 24}), (7, 3, {2, 5, 7}), (5, 10, {1, 2, 3, 4, 5}), (9, 1, {9}), (1, 10, {1})],
)
def test_scores_are_spread_evenly_and_the_last_step_is_scored(steps: int, evaluations: int, after: set[int]) -> None:
    plan = make_plan("a-model", evaluations=evaluations)
    assert moments(plan, steps) == after
    warm = moments(plan.model_copy(update={"warmup_steps": 1}), steps)
    assert warm == (after - {1} or {1}), "by its first step, of learning rate 0, nothing has changed"


def decided(folder: Path, step: int, *, scores: bool = True, **requests: str) -> set[str]:
    """After a step of ten, of which the fourth is due; `requests` are files of the person's."""
    for name, content in requests.items():
        (folder / name.replace("_", "-")).write_text(content)
    schedule = Schedule(frozenset({4, 10}), Control(folder), scores=scores)
    control = schedule.on_step_end(None, SimpleNamespace(global_step=step, max_steps=10), TrainerControl())
    return {name.removeprefix("should_") for name, value in vars(control).items() if value}


STOPS = {"log", "save", "training_stop"}


def test_a_step_is_logged_and_one_that_is_due_scored_and_saved(tmp_path: Path) -> None:
    assert decided(tmp_path, 3) == {"log"}
    assert decided(tmp_path, 4) == {"log", "evaluate", "save"}
    assert decided(tmp_path, 4, scores=False) == {"log", "save"}
    assert decided(tmp_path, 10) == STOPS | {"evaluate"}
    assert decided(tmp_path, 10, scores=False) == STOPS


def test_requests_are_obeyed_after_the_step(tmp_path: Path) -> None:
    assert decided(tmp_path, 2, save="") == {"log", "save"}
    assert decided(tmp_path, 3) == {"log"}, "a request to save is used up"
    assert decided(tmp_path, 2, stop_at="3") == {"log"}
    assert decided(tmp_path, 3) == STOPS
    assert decided(tmp_path, 5) == STOPS, "a pause that was passed is one too"
    (tmp_path / "stop-at").unlink()
    assert decided(tmp_path, 2, stop="") == STOPS
