"""The plans of a fair comparison, and of a pilot."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine import compare, groups, new_run, pilot
from engine.events import EventWriter
from engine.files import write_json
from engine.inspect import DataInspection, ModelInspection
from engine.metrics import bootstrap
from engine.metrics.kept import joined
from engine.metrics.kinds import Answers
from engine.metrics.registry import kind_of
from engine.planning import steps_of
from recommender.decide import recommend
from recommender.errors import InputError, Refused
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation
from tui import show_groups

FACTS = json.loads((Path(__file__).parents[1] / "recommender" / "facts_example.json").read_text())
Situation = tuple[Recommendation, ModelInspection, DataInspection, Facts]


def situation(rows: int = 6000, hours: float | None = None, held_out: str | None = "/data/b.csv") -> Situation:
    content = json.loads(json.dumps(FACTS))
    content["machine"] |= {"disk_free": 10**12}
    content["data"] |= {"labels": ["neg", "pos"], "text_column": "review", "label_column": "stars"}
    content["data"] |= {"rows": rows, "unique_rows": rows, "label_counts": [rows // 2, rows - rows // 2]}
    content["data"] |= {"tokens_total": 100 * rows, "eval_rows": 500 if held_out else None}
    content["goal"] = {"time_budget_hours": hours}
    facts = Facts.model_validate(content)
    model = ModelInspection(facts.model, "/models/x", None, "f" * 64)
    eval_mark = "b" * 64 if held_out else None
    data = DataInspection(facts.data, (), ("review", "stars"), 1.0, "/data/a.csv", held_out, "a" * 64, eval_mark)
    return recommend(facts), model, data, facts


def compared(*args: Any, methods: tuple[str, ...] = ("full", "lora"), **fields: Any) -> dict[str, Plan]:
    given: dict[str, Any] = {"methods": methods, "seeds": [1], "anyway": True}
    return compare.plans(*args, **(given | fields))


def test_methods_share_all_but_what_belongs_to_them() -> None:
    advice, model, data, facts = situation()
    plans = compared(advice, model, data, facts, seeds=[3, 5])
    assert list(plans) == ["full-3", "lora-3", "full-5", "lora-5"]
    full, lora = plans["full-3"], plans["lora-3"]
    own = {"method", "learning_rate", "rank", "alpha", "target_modules", "dropout", "warmup_steps", "overrides",
           "token_budget", "gradient_checkpointing", "max_grad_norm"}  # fmt: skip
    assert full.model_dump(exclude=own) == lora.model_dump(exclude=own)
    assert full.epochs == max(advice.candidate(m).settings.epochs for m in ("full", "lora"))
    for plan, method in ((full, "full"), (lora, "lora")):
        assert plan.learning_rate == advice.candidate(method).settings.learning_rate
    assert full.learning_rate != lora.learning_rate
    assert plans["full-5"] == full.model_copy(update={"seed": 5})
    alone = compared(advice, model, data, facts, methods=("lora",), seeds=[1, 2, 3])
    assert list(alone) == ["lora-1", "lora-2", "lora-3"]
    advised = advice.candidate("lora")
    told = compare.hours(((plan, advised) for plan in alone.values()), facts)
    assert told == pytest.approx(3 * advised.hours.predicted), "as the plan of one of them is told"


def test_the_comparison_that_few_rows_are_advised_to_make_is_made() -> None:
    """It was refused, with the advice to make it."""
    advice, model, data, facts = situation(rows=100)
    assert advice.verdict == "not_yet"
    assert any("loracle compare --methods full,lora" in text for text in advice.instead)
    plans = compared(advice, model, data, facts, seeds=[1, 2, 3, 4, 5], anyway=False)
    assert len(plans) == 10
    assert not any("G5" in told for plan in plans.values() for told in plan.overrides)
    with pytest.raises(Refused, match="with five seeds"):
        compared(advice, model, data, facts, anyway=False)


def test_warm_up_is_a_share_of_the_steps_that_there_really_are() -> None:
    advice, model, data, facts = situation()
    long = compared(advice, model, data, facts)["full-1"]
    short = compared(advice, model, data, facts, assignments=["epochs=1"])["full-1"]
    assert short.epochs == 1
    assert "at most one pass each" in compare.budget(short)
    assert f"up to {long.epochs:g} passes each" in compare.budget(long)
    assert 0 < short.warmup_steps < long.warmup_steps
    assert short.warmup_steps < 0.1 * steps_of(short, facts.data)
    assert compared(advice, model, data, facts, assignments=["warmup_steps=7"])["lora-1"].warmup_steps == 7


def test_every_fold_is_held_out_once_a_method() -> None:
    plans = compared(*situation(held_out=None), folds=3)
    assert list(plans) == ["full-1-fold-1", "lora-1-fold-1", "full-1-fold-2", "lora-1-fold-2", "full-1-fold-3", "lora-1-fold-3"]
    assert [p.data.fold for p in plans.values()] == [0, 0, 1, 1, 2, 2]
    advice, model, data, facts = situation(held_out=None)
    whole = compared(advice, model, data, facts)
    for plan in plans.values():
        steps, of_all = steps_of(plan, facts.data, 3), whole[f"{plan.method}-1"]
        assert plan.warmup_steps == pytest.approx(steps * of_all.warmup_steps / steps_of(of_all, facts.data), abs=0.5)
        assert steps != steps_of(of_all, facts.data)
    own = compared(advice, model, data, facts, folds=3, assignments=["warmup_steps=7"])
    assert {p.warmup_steps for p in own.values()} == {7}, "though each fold has other steps than the advice"
    assert {p.data.held_out_rows for p in plans.values()} == {None}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"folds": 3}, "--folds and --eval exclude each other"),
        ({"methods": ("full",)}, "two or three different methods, or several seeds of one"),
        ({"methods": ("full", "full")}, "two or three different methods, or several seeds of one"),
        ({"assignments": ["seed=3"]}, "use --seeds"),
        ({"assignments": ["folds=3", "fold=0"]}, "use --folds"),
        ({"assignments": ["learning_rat=1"]}, "learning_rat"),
    ],
)
def test_what_cannot_be_compared_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compared(*situation(), **fields)


def test_more_folds_than_groups_are_refused() -> None:
    advice, model, data, facts = situation(held_out=None)
    grouped = dataclasses.replace(data, facts=data.facts.model_copy(update={"groups": 4, "columns": {"group": "hospital"}}))
    with pytest.raises(InputError, match="--folds is 5, and the rows are of 4 groups"):
        compared(advice, model, grouped, facts, folds=5)
    plans = compared(advice, model, grouped, facts, folds=4)
    assert {plan.data.columns["group"] for plan in plans.values() if plan.data.columns} == {"hospital"}


def test_a_comparison_is_refused_for_what_a_run_is() -> None:
    with pytest.raises(Refused, match="nothing of the model would be left"):
        compared(*situation(), assignments=["learning_rate=0.5"])


def test_below_2000_rows_candidates_are_cross_validated_and_the_winner_gets_all_rows() -> None:
    found = pilot.planned(*situation(rows=1500), methods=["full", "lora"])
    assert found.mode == "folds"
    folds = [p for k, p in found.plans.items() if not k.startswith(pilot.FINAL)]
    assert sorted((p.method, p.data.fold) for p in folds) == [(m, f) for m in ("full", "lora") for f in range(len(folds) // 2)]
    assert all(p.data.eval is None for p in folds), "the held-out file is for the final run alone"
    assert {k: p.data.eval for k, p in found.plans.items() if k.startswith(pilot.FINAL)} == {
        "final-full": "/data/b.csv",
        "final-lora": "/data/b.csv",
    }


def test_the_spread_over_seeds_is_told_in_words() -> None:
    truth = [0, 1] * 20
    right = {"full": (36, 30), "lora": (32, 32)}
    answers = {
        name: [Answers([t if i < n else 1 - t for i, t in enumerate(truth)], [0.5] * 40) for n in counts]
        for name, counts in right.items()
    }
    found = bootstrap.side_by_side(kind_of("classification", ["no", "yes"]), truth, answers, "accuracy")["methods"]
    rows = [{"method": name, "name": name, **found[name]} for name in answers]
    said = compare.statements(rows, "full", "accuracy")
    assert "full: accuracy 0.825 on average over 2 seeds, from 0.750 to 0.900 (standard deviation 0.106)." in said
    assert "lora: accuracy 0.800 on average over 2 seeds, from 0.800 to 0.800 (standard deviation 0.000)." in said
    told = compare.unbeaten(rows, {"probe": {"accuracy": 0.85}, "majority": {"accuracy": 0.5}}, "full", "accuracy")
    assert told == ["No method did better than a linear probe on the untouched model: accuracy 0.850 against 0.825 at best."]
    apart = {"difference": {"mean": 0.02, "low": 0.01, "high": 0.03}}
    worse: list[dict[str, Any]] = [{"method": "full", "name": "Full"}, {"method": "lora", "name": "LoRA", "loss": apart}]
    (line,) = compare.statements(worse, "full", "loss")
    assert line == "LoRA scored +0.020 loss against Full (95% interval +0.010 to +0.030), which is worse."


def test_a_fold_without_weights_counts_each_row_once_beside_one_that_has_them() -> None:
    even = {"predicted": [[1.0]], "losses": [1.0], "weights": None}
    uneven = {"predicted": [[2.0], [3.0]], "losses": [2.0, 3.0], "weights": [4.0, 2.0]}
    assert joined([even, uneven]).weights == [1.0, 4.0, 2.0]
    assert joined([even, even]).weights is None


def test_a_seed_whose_run_failed_is_named_and_in_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    advice, model, data, facts = situation(held_out=None)
    plans = compare.plans(advice, model, data, facts, methods=["lora"], seeds=[1, 2, 3], anyway=True)
    group = groups.create(tmp_path, "compare", plans, advice=advice, facts=facts)
    told = {
        "labels": ["neg", "pos"], "fit": {"validation_loss": None}, "seconds": {"total": 2, "training": 1},
        "trained_parameters": 1, "model_bytes": 1, "best_step": 1, "steps": 1, "total_steps": 1, "scores": {},
    }  # fmt: skip
    for (key, plan), right in zip(plans.items(), (4, 0, 3), strict=True):
        run = new_run.create(group.path, plan, None, name=key)
        end = {"status": "failed", "code": 4, "cause": "no disk"} if key == "lora-2" else {"status": "done", "code": 0}
        writer = EventWriter(run.events)
        writer.write("end", **end)
        writer.close()
        if key != "lora-2":
            said = [t if i < right else 1 - t for i, t in enumerate((0, 1, 0, 1))]
            kept = {"truth": [0, 1, 0, 1], "predicted": said, "losses": [0.5] * 4, "weights": None}
            write_json(run.scores / "after.json", kept)
            write_json(run.report_file, {"version": 1, "memory": {"peak": right}} | told)
    report = compare.report(group, frozenset({"lora-2"}))
    (lora,) = report["methods"]
    assert lora["accuracy"]["by_seed"] == [1.0, 0.75]
    assert lora["failed"] == {"lora-2": "no disk"}
    assert lora["memory_peak"] == 4, "the most that one of them needed"
    assert (report["seeds"], report["seeds_scored"], report["complete"]) == ([1, 2, 3], [1, 3], False)
    show_groups.report(report, Console(width=100))
    shown = capsys.readouterr().out
    assert "on 4 held-out rows, means of seeds 1, 3\n" in shown
    assert "! lora-2 failed: no disk" in shown
    assert "sd over seeds" in shown
    assert "against the best" not in shown, "one method has no other to be behind"
