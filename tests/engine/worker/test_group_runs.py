"""Pilots and cross-validations of real runs, in the test's own process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import compare, groups, launch, pilot, pilot_course
from engine.events import EventWriter, read_events
from engine.files import read_json, sha256_of
from engine.groups import Group
from engine.metrics import bootstrap
from engine.rundir import RunDirectory
from engine.worker.control import Control
from engine.worker.narrator import Narrator
from engine.worker.session import Session
from recommender.decide import recommend
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.plan import Plan
from tests.conftest import make_plan


@pytest.fixture(autouse=True)
def workers_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's worker does its work while it is being started."""

    def here(run: RunDirectory, plan: Plan, waiting: object = None) -> None:
        events = EventWriter(run.events)
        try:
            stopped = Session(run, plan, Narrator(events), Control(run.control)).go()
            events.write("end", status="stopped" if stopped else "done", code=5 if stopped else 0)
        except LoracleError as error:
            events.write("end", status="failed", code=4, cause=error.message)
        finally:
            events.close()

    monkeypatch.setattr(launch, "launch", here)
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_SAMPLES", 100)


def made(root: Path, kind: groups.Kind, plans: dict[str, Plan], **more: Any) -> Group:
    return groups.create(root, kind, plans, advice=recommend(Facts()), facts=Facts(), **more)


def no_watching(begin: groups.Begin) -> None:
    begin()


def test_the_winner_of_a_pilot_is_what_an_undisturbed_run_of_its_plan_is(
    tiny: Path, run_here: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    plans = {
        "lora": make_plan(tiny, "lora", epochs=1, learning_rate=1e-5),
        "full": make_plan(tiny, epochs=1, learning_rate=2e-3),
        "full-raised": make_plan(tiny, epochs=1, learning_rate=1e-2),
        "broken": make_plan(tiny, "lora", epochs=1, target_modules="nothing"),
    }
    labels = {key: key.upper() for key in plans}
    more = {"mode": "slice", "labels": labels, "stages": [3, 6], "raised": {"full-raised": "full"}, "left_out": []}
    group = made(tmp_path, "pilot", plans, **more)
    stopped, failed = groups.drive(group, pilot_course.next_task, no_watching)
    assert (stopped, failed) == (False, frozenset({"broken"}))
    report = pilot_course.report(group, failed)
    winner = report["winner"]
    assert report["complete"]
    assert [s["step"] for s in report["stages"]] == [3, 6][: len(report["stages"])]
    losses = {s["key"]: s["loss"] for s in report["stages"][-1]["scores"] if not s["dropped"]}
    assert winner == min(losses, key=lambda key: losses[key])
    for score in report["stages"][0]["scores"]:
        kept = read_json(group.run(score["key"]).validation_scores(3))["losses"]
        assert score["loss"] == pytest.approx(sum(kept) / len(kept))
    assert any("after 3 steps" in s for s in report["statements"])
    assert "80%" in report["trust"]

    whole = run_here(plans[winner])
    name = "model.safetensors" if plans[winner].method == "full" else "adapter_model.safetensors"
    assert sha256_of(group.run(winner).model / name) == sha256_of(whole.model / name)
    steps = [e["step"] for e in read_events(group.run(winner).events) if e["kind"] == "step"]
    assert steps == list(range(1, 13)), "no step was done twice"
    for key in plans:
        if key not in (winner, "broken"):
            assert not group.run(key).model.exists()


def test_a_small_pilot_cross_validates_and_trains_the_winner_on_all_rows(tiny: Path, tmp_path: Path) -> None:
    whole = {
        "full": make_plan(tiny, epochs=0.5, learning_rate=1e-3),
        "lora": make_plan(tiny, "lora", epochs=0.5, learning_rate=1e-6),
    }
    plans = {f"{key}-fold-{n + 1}": compare.in_fold(plan, 2, n) for n in range(2) for key, plan in whole.items()}
    plans |= {f"{pilot.FINAL}{key}": plan for key, plan in whole.items()}
    labels = {"full": "Full", "lora": "LoRA"}
    group = made(tmp_path, "pilot", plans, mode="folds", labels=labels, stages=[], raised={}, left_out=[])
    assert groups.drive(group, pilot_course.next_task, no_watching) == (False, frozenset())
    report = pilot_course.report(group, frozenset())
    kept = [read_json(group.run(f"full-fold-{n}").scores / "after.json") for n in (1, 2)]
    assert report["held_out"] == sum(len(k["truth"]) for k in kept)
    right = sum(t == p for k in kept for t, p in zip(k["truth"], k["predicted"], strict=True))
    scores = {row["key"]: row for row in report["methods"]}
    assert scores["full"]["accuracy"]["mean"] == pytest.approx(right / report["held_out"])
    assert report["winner"] == max(scores, key=lambda key: scores[key]["macro_f1"]["mean"])
    final = group.run(f"final-{report['winner']}").report() or {}
    assert final["rows"]["held_out"] == 40, "the held-out file was kept for the end"
    assert len(group.begun()) == 5


def test_a_comparison_reports_quality_cost_and_overfitting_a_method(tiny: Path, tmp_path: Path) -> None:
    plans = {
        "full-1": make_plan(tiny, epochs=0.5, evaluations=2),
        "lora-1": make_plan(tiny, "lora", epochs=0.5, evaluations=2),
        "qlora-1": make_plan(tiny, "qlora", target_modules="nothing"),
    }
    group = made(tmp_path, "compare", plans)
    _, failed = groups.drive(group, compare.next_task, no_watching)
    assert failed == {"qlora-1"}
    report = compare.report(group, failed)
    assert not report["complete"]
    assert group.status() == "stopped"
    full, lora, qlora = report["methods"]
    assert "target_modules nothing" in qlora["failed"]["qlora-1"]
    assert qlora["done"] == 0
    for row in (full, lora):
        own = group.run(row["runs"][0]).report() or {}
        after = own["scores"]["after"]
        assert {m: row[m]["mean"] for m in ("accuracy", "macro_f1")} == pytest.approx(
            {m: after[m] for m in ("accuracy", "macro_f1")}
        )
        assert row["loss"]["mean"] == pytest.approx(after["loss"], rel=1e-5)
        best = next(v["loss"] for v in own["validation"] if v["step"] == own["best_step"])
        assert row["fit"]["gap"] == pytest.approx(best - own["fit"]["training_loss"])
        assert row["memory_peak"] > 0
        assert row["model_bytes"] == sum(f.stat().st_size for f in group.run(row["runs"][0]).model.rglob("*") if f.is_file())
    assert full["trained_parameters"] > lora["trained_parameters"]
    assert report["baselines"]["majority"]["accuracy"] < 0.5
    difference, certainty, *simpler = report["statements"]
    assert "against LoRA" in difference
    assert "another seed may move them as far" in certainty
    assert all(said.startswith("No method did better than ") for said in simpler), "of what needs no training"
