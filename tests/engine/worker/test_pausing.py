"""A run that pauses after a given step, and goes on as if it never had."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl

from engine import checkpoints, runs
from engine.events import read_events
from engine.files import read_json
from engine.rundir import RunDirectory
from engine.worker.patience import EarlyStopping
from engine.worker.tasks.classification import Classification
from tests.conftest import make_plan, weights
from tests.engine.worker.conftest import Begin, Here
from tests.engine.worker.inside import events, work


def pause_at(run: RunDirectory, step: int | None) -> None:
    runs.clear_requests(run, stop_at=step)


@pytest.mark.parametrize(("method", "steps"), [("full", [8, 13]), ("lora", [5])])
def test_a_paused_run_goes_on_to_the_very_same_model(
    finished: Callable[[str], RunDirectory], run_here: Here, begin: Begin, method: str, steps: list[int]
) -> None:
    whole = finished(method)  # scored after steps 8, 16 and 24
    run = begin(whole.plan())
    for step in steps:
        pause_at(run, step)
        run_here(run.plan(), again=run)
        kept = read_json(run.validation_scores(step))
        assert kept["step"] == step
        assert sum(kept["losses"]) / 24 == pytest.approx(kept["score"]["loss"], rel=1e-5)
        assert len(kept["truth"]) == len(kept["predicted"]) == 24
        newest, _ = checkpoints.newest_sound(run.checkpoints)
        assert newest == run.checkpoints / f"step-{step}"
        assert not run.report_file.exists()
        assert not (run.scores / "before.json").exists(), "a slice is not worth scoring the held-out rows"
    pause_at(run, None)
    run_here(run.plan(), again=run)
    assert weights(run) == weights(whole)
    first, second = whole.report() or {}, run.report() or {}
    for name in ("scores", "gains", "best_step", "steps", "fit"):
        assert second[name] == first[name]
    assert run.state().losses == whole.state().losses


def test_a_pause_at_an_evaluation_scores_what_the_evaluation_scored(
    finished: Callable[[str], RunDirectory], run_here: Here, begin: Begin
) -> None:
    run = begin(finished("full").plan())
    pause_at(run, 8)
    run_here(run.plan(), again=run)
    told = [e for e in read_events(run.events) if e["kind"] == "evaluation" and e["split"] == "validation"]
    assert [e["step"] for e in told] == [8]
    assert read_json(run.validation_scores(8))["score"]["loss"] == told[0]["metrics"]["loss"]


def test_a_pause_whose_validation_loss_is_no_number_ends_with_a_sentence_and_goes_on_without_the_pause(
    tiny: Path, run_here: Here, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Classification.answers
    plan = make_plan(tiny, epochs=0.5, evaluations=2)
    run = begin(plan)
    pause_at(run, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "answers", lambda *args: [a._replace(loss=math.nan) for a in answers(*args)])
        end = work(run)
    assert (end["status"], end["code"], end["checkpoint"]) == ("failed", 4, 3)
    assert end["cause"].startswith("The validation loss is no longer a number at step 3. Most likely learning_rate is too high")
    assert "--set learning_rate=" in end["cure"]
    said = [e["text"] for e in events(run, "warning")]
    assert any(text.startswith("The validation loss after step 3 is not a number") for text in said)
    pause_at(run, None)
    run_here(plan, again=run)
    assert (run.report() or {})["steps"] == 6


def test_asking_again_for_a_pause_that_was_reached_trains_nothing(
    finished: Callable[[str], RunDirectory], run_here: Here, begin: Begin
) -> None:
    """A worker may die between its checkpoint and its scores."""
    run = begin(finished("full").plan())
    pause_at(run, 5)
    run_here(run.plan(), again=run)
    kept = read_json(run.validation_scores(5))
    run.validation_scores(5).unlink()
    run_here(run.plan(), again=run)
    assert read_json(run.validation_scores(5)) == kept
    assert [e["step"] for e in read_events(run.events) if e["kind"] == "step"] == [1, 2, 3, 4, 5]


def test_a_pause_beyond_the_end_leaves_saving_to_whoever_goes_on(tiny: Path, run_here: Here, begin: Begin) -> None:
    plan = make_plan(tiny, epochs=0.5, evaluations=6, early_stopping=True, patience=2, learning_rate=1e-12)
    run = begin(plan)
    pause_at(run, 50)
    run_here(plan, again=run)
    assert read_json(run.validation_scores(50))["step"] == 3  # early stopping
    assert read_json(run.checkpoints / checkpoints.FINISHED)["stopped_early"]
    assert not run.model.exists()
    pause_at(run, None)
    run_here(plan, again=run)
    assert {"before", "after"} <= set((run.report() or {})["scores"])


SLOW = [(0.487, 0.692), (0.355, 0.688), (0.355, 0.683), (0.355, 0.680), (0.355, 0.679), (0.355, 0.677)]
"""Macro-F1 and loss of MiniLM with two layers trained on 340 rows of SST-2: it has not yet begun to tell the classes apart."""


@pytest.mark.parametrize(
    ("curve", "ended"),
    [
        ([*SLOW, (0.355, 0.674), (0.45, 0.66)], None),
        ([*SLOW, (0.355, 0.68), (0.355, 0.69), (0.355, 0.7)], 9),
        ([*SLOW, (0.355, 0.6768), (0.4, math.nan), (0.355, 0.6762), (0.355, 0.6761), (0.355, 0.676)], None),
        ([(0.8, 0.5), (0.8003, 0.51), (0.8006, 0.52), (0.8009, 0.6), (0.8012, 0.7)], None),
        ([(0.8, 0.5), (0.8001, 0.4999), (0.8002, 0.4998), (0.8003, 0.4997)], 4),  # rounding gains as much for ever
        ([(0.8, 0.5), (0.7, 0.51), (math.nan, math.nan), (0.79, 0.6), (0.9, 0.6)], 4),
    ],
)
def test_early_stopping_waits_while_the_metric_or_the_loss_gets_better(
    curve: list[tuple[float, float]], ended: int | None
) -> None:
    stopping, said = EarlyStopping(3), []
    for metric, loss in curve:
        kept = stopping.state()  # as a checkpoint keeps it
        stopping = EarlyStopping(**kept["args"])
        for name, value in kept["attributes"].items():
            setattr(stopping, name, value)
        control = TrainerControl()
        stopping.on_evaluate(None, None, control, {"eval_choice": metric, "eval_loss": loss})
        said.append(control.should_training_stop)
    assert (said.index(True) + 1 if True in said else None) == ended


def test_early_stopping_is_not_forgotten_by_a_pause_before_it_or_a_worker_killed_at_that_very_step(
    tiny: Path, run_here: Here, begin: Begin
) -> None:
    plan = make_plan(tiny, epochs=0.5, evaluations=6, early_stopping=True, patience=2, learning_rate=1e-12)
    run = begin(plan)
    for step in (2, None):
        pause_at(run, step)
        run_here(plan, again=run)
    steps = (run.report() or {})["steps"]
    assert steps == 3
    for file in (run.report_file, run.checkpoints / checkpoints.FINISHED):
        file.unlink()
    run_here(plan, again=run)
    assert (run.report() or {})["steps"] == steps
    assert json.loads((run.checkpoints / checkpoints.FINISHED).read_text())["stopped_early"]


def test_a_plan_that_no_longer_asks_for_early_stopping_goes_on_after_it(tiny: Path, run_here: Here) -> None:
    """Whatever the checkpoint keeps of it."""
    fields: dict[str, Any] = {"epochs": 0.5, "evaluations": 6, "patience": 2, "learning_rate": 1e-12}
    run = run_here(make_plan(tiny, early_stopping=True, **fields))
    total = len(events(run, "step")) + 3
    for file in (run.report_file, run.checkpoints / checkpoints.FINISHED):
        file.unlink()
    shutil.rmtree(run.model)
    run_here(make_plan(tiny, early_stopping=False, **fields), again=run)
    assert [e["step"] for e in events(run, "step")] == list(range(1, total + 1))
