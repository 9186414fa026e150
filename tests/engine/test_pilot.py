"""What a pilot does with what its slices showed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import compare, groups, launch, runs
from engine.events import EventWriter
from engine.files import write_json
from engine.groups import Group, Task
from engine.metrics import bootstrap
from engine.metrics.kinds import Answers
from engine.pilot import Planned, _slice_hours, stages_of
from engine.pilot import planned as pilot_of
from engine.pilot_course import course, next_task, report, stand
from engine.planning import steps_of
from recommender.decide import recommend
from recommender.errors import InputError, Refused
from recommender.facts import Facts, Goal, Machine
from recommender.plan import Plan
from recommender.recommendation import Recommendation
from tests.engine.test_planning import FACTS, situation
from tests.engine.test_runs import PLAN


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_SAMPLES", 300)


def losses(mean: float, noise: float = 0.01) -> Answers:
    """200 rows with exactly that mean loss above 0.5."""
    spread = np.random.default_rng(round(1000 * mean)).normal(0, noise, 200)
    return Answers([], list(0.5 + mean + spread - spread.mean()))


@pytest.mark.parametrize(
    ("longest", "shortest", "share", "stages"),
    [
        (5000, 5000, 0.1, [500, 1000]),
        (5000, 2500, 0.1, [500, 1000]),
        (400, 400, 0.1, [100]),  # never under 100 steps, which is beyond 20% here
        (600, 600, 0.1, [100, 120]),
        (1000, 1000, 0.3, [300]),
        (80, 60, 0.1, [60]),
        (1000, 150, 0.1, [100, 150]),
    ],
)
def test_slices_are_a_tenth_and_a_fifth_of_the_run_but_100_steps_at_least(
    longest: int, shortest: int, share: float, stages: list[int]
) -> None:
    assert stages_of(longest, shortest, share) == stages


def test_who_is_clearly_behind_goes_and_two_stay_where_nothing_is_clear() -> None:
    found = stand({"full": losses(0.0), "lora": losses(0.1), "qlora": losses(0.2)}, {}, frozenset())
    assert found.left == ["full"]
    assert set(found.dropped) == {"lora", "qlora"}
    found = stand({"full": losses(0.0, 1.0), "lora": losses(0.001, 1.0), "qlora": losses(0.002, 1.0)}, {}, frozenset())
    assert len(found.left) == 2
    assert len(found.dropped) == 1


def test_full_fine_tuning_is_not_given_up_before_a_fifth_of_its_run() -> None:
    behind = {"lora": losses(0.0), "qlora": losses(0.001, 1.0), "full": losses(0.3)}
    assert stand(behind, {}, frozenset({"full"})).left == ["lora", "qlora", "full"]
    assert "full" in stand(behind, {}, frozenset()).dropped


def test_a_raised_learning_rate_must_be_clearly_ahead_of_the_usual_one() -> None:
    slightly = {"full": losses(0.075, 0.5), "full-raised": losses(0.0, 0.5), "lora": losses(0.5, 0.5)}  # by 1.5 times the error
    found = stand(slightly, {"full-raised": "full"}, frozenset())
    assert found.order.index("full-raised") < found.order.index("lora")
    assert found.left[0] == "full"
    assert "short runs flatter it" in found.dropped["full-raised"]
    clearly = {"full": losses(0.2), "full-raised": losses(0.0)}
    assert stand(clearly, {"full-raised": "full"}, frozenset()).left == ["full-raised"]
    alone = {"full-raised": losses(0.0), "lora": losses(0.5)}
    assert stand(alone, {"full-raised": "full"}, frozenset()).left == ["full-raised"], "the usual one failed"


# What one will do


def wanted(
    rows: int = 20_000, hours: float | None = None, free: float = 80e9, **asked: Any
) -> tuple[Planned, Recommendation, Facts]:
    """A pilot of BERT on that many reviews."""
    many = {"rows": rows, "unique_rows": rows, "label_counts": [rows // 2] * 2, "tokens_total": 290 * rows, "eval_rows": None}
    card = {"name": "NVIDIA A100-SXM4-80GB", "memory_total": int(80e9), "memory_free": int(free), "bf16": True}
    changes: dict[str, dict[str, Any]] = {"machine": {"devices": [card]}, "data": many, "goal": {"time_budget_hours": hours}}
    advice, model, data = situation(**changes)
    machine = Machine.model_validate(FACTS["machine"] | changes["machine"] | {"disk_free": 10**12})
    facts = Facts(machine=machine, model=model.facts, data=data.facts, goal=Goal(time_budget_hours=hours))
    return pilot_of(advice, model, replace(data, eval_path=None, eval_fingerprint=None), facts, **asked), advice, facts


def test_candidates_are_compared_on_the_same_steps_the_leader_first() -> None:
    own = {"full": ["learning_rate=3e-5", "effective_batch=64"], "lora": ["rank=4", "effective_batch=8", "warmup_steps=5"]}
    made, advice, facts = wanted(methods=["lora", "full"], own=own)
    assert (made.mode, list(made.plans), made.raised) == ("slice", ["full", "lora", "full-raised"], {"full-raised": "full"})
    assert {p.effective_batch for p in made.plans.values()} == {64}, "as the leader has it"
    assert len({p.seed for p in made.plans.values()}) == 1
    assert {key: p.epochs for key, p in made.plans.items() if key not in made.raised} == {
        method: advice.candidate(method).settings.epochs for method in ("full", "lora")
    }, "their own schedules"
    assert [made.plans[key].learning_rate for key in ("full", "full-raised")] == pytest.approx([3e-5, 9e-5])
    assert (made.plans["lora"].rank, made.plans["lora"].warmup_steps) == (4, 5)
    totals = {key: steps_of(p, facts.data) for key, p in made.plans.items()}
    assert made.stages[0] >= max(100, 0.1 * max(totals.values()))
    assert made.stages[-1] >= 0.2 * totals["full"]
    assert made.labels["full-raised"].endswith("learning rate x3")
    assert [name.split(":")[0] for name in made.left_out] == ["QLoRA"]
    with pytest.raises(InputError, match="one to three different methods"):
        wanted(methods=["full", "full"])


def test_a_pilot_takes_a_share_of_the_time_there_is() -> None:
    three = wanted(methods=["full", "lora"])[0].hours
    two, *_ = wanted(methods=["full", "lora"], hours=0.97 * three / 0.15)
    assert (list(two.plans), two.raised) == (["full", "lora"], {})
    assert two.left_out[-1].endswith("learning rate x3: there is no time for it")
    assert 0.5 * three < two.hours < 0.97 * three
    with pytest.raises(Refused, match=r"more than 15% of the .* allowed"):
        wanted(methods=["full", "lora"], hours=0.9 * two.hours / 0.15)
    totals = dict.fromkeys("abc", 100)
    whole = {"a": 10.0, "b": 20.0, "c": 40.0}
    assert _slice_hours(whole, totals, [10, 20]) == pytest.approx(0.7 * 10 + 0.6 * 10), "the two slowest go on"


def test_few_rows_are_cross_validated_and_the_best_is_trained_once_more() -> None:
    made, advice, facts = wanted(400, methods=["full", "lora"])
    folds = [key for key in made.plans if not key.startswith("final-")]
    assert (made.mode, made.stages, len(folds)) == ("folds", [], 2 * 5)
    assert set(made.plans) - set(folds) == {"final-full", "final-lora"}

    def hours(keys: list[str], folds: int | None = None) -> float:
        return compare.hours([(p, advice.candidate(p.method)) for p in map(made.plans.__getitem__, keys)], facts, folds)

    assert made.hours == pytest.approx(hours(folds, 5) + max(hours(["final-full"]), hours(["final-lora"])))
    assert len(wanted(1_500, methods=["lora"])[0].plans) == 2 * 3 + 2, "three folds, of the usual and of the raised rate"
    with pytest.raises(Refused, match="cross-validated to the end, in 5 folds"):
        wanted(400, methods=["full", "lora"], hours=0.9 * made.hours)
    assert wanted(400, methods=["full", "lora"], hours=1.1 * made.hours)[0].mode == "folds"
    assert wanted(400, methods=["full", "lora"], anyway=True)[0].mode == "slice"


def test_what_no_candidate_could_do_is_refused_before_a_group_is_made() -> None:
    with pytest.raises(InputError, match="A pilot judges by the validation rows, and there are none"):
        wanted(methods=["full", "lora"], assignments=["data.validation_rows=0"])
    with pytest.raises(Refused, match="too little"):
        wanted(methods=["full", "lora"], free=4e9, own={"lora": ["token_budget=1000000", "effective_batch=2000"]})


# The course of one, told from what its runs kept at their pauses


@pytest.fixture
def pilot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Three candidates, compared after steps 2 and 4; no worker is started."""
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: None)
    lora = Plan.model_validate(PLAN.model_dump(exclude_none=True) | {"method": "lora", "rank": 8, "alpha": 16})
    plans = {"full": PLAN, "full-raised": PLAN.model_copy(update={"learning_rate": 1e-4}), "lora": lora}
    more = {"mode": "slice", "stages": [2, 4], "raised": {"full-raised": "full"}, "left_out": [], "labels": NAMES}
    return groups.create(tmp_path, "pilot", plans, advice=recommend(Facts()), facts=Facts(), **more)


NAMES = {"full": "Full", "full-raised": "Full, raised", "lora": "LoRA"}


def paused(pilot: Group, step: int, **kept: Answers) -> None:
    """Those candidates have come to that pause."""
    for key, answers in kept.items():
        run = pilot.run(key.replace("_", "-"))
        run.scores.mkdir(parents=True, exist_ok=True)
        scores = {"predicted": [], "truth": [], "losses": answers.losses, "weights": None, "score": {"macro_f1": 0.5}}
        write_json(run.validation_scores(step), scores)


def comes_to_its_end(pilot: Group, key: str) -> None:
    run = pilot.run(key)
    kept = {file: file.read_bytes() for file in run.scores.glob("*")}
    runs.start(pilot.plans()[key], None, pilot.path, name=key)
    for file, content in kept.items():
        file.write_bytes(content)
    events = EventWriter(run.events)
    for step in range(1, 6):
        events.write("step", step=step, loss=1.0, seconds=2.0)
    events.write("end", status="done", code=0)
    events.close()
    write_json(run.report_file, {"version": 1})


NONE: frozenset[str] = frozenset()


def test_a_pilot_goes_from_stage_to_stage_until_one_is_left(pilot: Group) -> None:
    assert next_task(pilot, frozenset({"full", "full-raised"})) == Task("lora"), "there is nobody to compare with"
    assert next_task(pilot, NONE) == Task("full", 2)
    paused(pilot, 2, full=losses(0.3), full_raised=losses(0.5))
    assert next_task(pilot, NONE) == Task("lora", 2)
    assert course(pilot, NONE).winner is None
    paused(pilot, 2, lora=losses(0.0))
    assert next_task(pilot, NONE) == Task("lora", 4)
    paused(pilot, 4, lora=losses(0.0))
    assert next_task(pilot, NONE) == Task("full", 4), "full fine-tuning is not given up yet"
    paused(pilot, 4, full=losses(0.3))
    assert next_task(pilot, NONE) == Task("lora")
    comes_to_its_end(pilot, "lora")
    assert next_task(pilot, NONE) is None
    assert [standing.left for _, standing in course(pilot, NONE).history] == [["lora", "full"], ["lora"]]


def test_an_adapter_that_is_clearly_behind_goes_at_once(pilot: Group) -> None:
    paused(pilot, 2, full=losses(0.0), full_raised=losses(0.2), lora=losses(0.3))
    assert next_task(pilot, NONE) == Task("full")


def test_a_pilot_reports_what_its_slices_showed_and_who_goes_on(pilot: Group) -> None:
    paused(pilot, 2, full=losses(0.2, 1.0), full_raised=losses(0.04, 1.0), lora=losses(0.05, 1.0))
    paused(pilot, 4, full=losses(0.3), lora=losses(0.0))
    found = report(pilot, NONE)
    assert (found["winner"], found["winner_name"], found["complete"]) == ("lora", "LoRA", False)
    first, second = found["stages"]
    assert [(s["key"], s["gap"] is None, bool(s["dropped"])) for s in first["scores"]] == [
        ("full-raised", False, True), ("lora", True, False), ("full", False, False),
    ]  # fmt: skip
    assert (second["scores"][1]["gap"], second["scores"][1]["metric"]) == (pytest.approx(0.3), 0.5)
    said = " ".join(found["statements"])
    assert "LoRA leads Full by 0.1500 loss" in said
    assert "after 2 steps, which may be chance." in said, "a gap of one and a half times its error"
    assert "leads Full, raised" not in said
    assert "Full, raised was dropped: the higher learning rate is not clearly ahead" in said
    assert "Full was dropped" not in said, "that it is clearly behind was said with the gap"
    for key in ("lora", "full"):
        comes_to_its_end(pilot, key)
    found = report(pilot, NONE)
    assert (found["complete"], found["seconds_not_continued"]) == (True, 10.0), "of the runs that were not gone on with"


def test_candidates_of_a_small_pilot_end_in_every_fold_before_the_best_is_trained(
    pilot: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pilot.content()
    keys = ("full-fold-1", "lora-fold-1", "final-full", "final-lora")
    plans = dict(zip(keys, (content["plans"]["full"], content["plans"]["lora"]) * 2, strict=True))
    write_json(pilot.path / "group.json", content | {"mode": "folds", "plans": plans})
    monkeypatch.setattr(compare, "judged", lambda *_: {"best": "lora"})
    assert next_task(pilot, NONE) == Task("full-fold-1")
    assert next_task(pilot, frozenset({"full-fold-1"})) == Task("lora-fold-1")
    for key in ("full-fold-1", "lora-fold-1"):
        comes_to_its_end(pilot, key)
    assert next_task(pilot, NONE) == Task("final-lora")
    assert next_task(pilot, frozenset({"final-lora"})) is None
    comes_to_its_end(pilot, "final-lora")
    assert next_task(pilot, NONE) is None
