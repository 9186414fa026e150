"""From advice to a plan: what may be overridden, and what is written down about it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import planning
from engine.inspect import DataInspection, ModelInspection
from engine.inspection.processor import processor, usable_cores
from engine.planning import completed, plan_for, steps_of
from engine.prediction.candidates import is_wanted, with_counted_steps, with_traces
from engine.prediction.candidates import steps_of as steps_shown
from recommender.decide import recommend
from recommender.edits import edited
from recommender.errors import InputError, Refused
from recommender.facts import Facts, Measured
from recommender.plan import Plan
from recommender.plan_file import dump, parse
from recommender.recommendation import Recommendation

FACTS = json.loads((Path(__file__).parents[1] / "recommender" / "facts_example.json").read_text())


def situation(**changes: dict[str, Any]) -> tuple[Recommendation, ModelInspection, DataInspection]:
    content = json.loads(json.dumps(FACTS))
    content["machine"] |= {"disk_free": 10**12}
    content["data"] |= {"labels": ["neg", "pos"], "text_column": "review", "label_column": "stars"}
    for name, fields in changes.items():
        content[name] |= fields
    facts = Facts.model_validate(content)
    model = ModelInspection(facts.model, "/models/x", None, "f" * 64)
    data = DataInspection(facts.data, (), ("review", "stars"), 1.0, "/data/a.csv", "/data/b.csv", "a" * 64, "b" * 64)
    return recommend(facts), model, data


FEW = {"rows": 40, "unique_rows": 40, "label_counts": [20, 20], "tokens_total": 4000, "classes": 2}


def test_the_plan_says_everything_that_repeats_the_run() -> None:
    advice, model, data = situation()
    plan = plan_for(advice, model, replace(data, train_rows=500, eval_rows=200), seed=7)
    assert plan.method == advice.verdict
    assert plan.seed == 7
    assert plan.model.model_dump() == {"id": "/models/x", "revision": None, "fingerprint": "f" * 64}
    assert (plan.data.text_column, plan.data.label_column, plan.data.labels) == ("review", "stars", ["neg", "pos"])
    assert (plan.data.train_rows, plan.data.eval_rows) == (500, 200)
    assert (plan.data.train_fingerprint, plan.data.eval_fingerprint) == ("a" * 64, "b" * 64)
    assert plan.learning_rate == advice.settings.learning_rate
    assert plan.overrides == []
    assert parse(dump(plan)) == plan
    advice, model, data = situation(data={"eval_rows": None})  # its own split could not be used
    assert plan_for(advice, model, replace(data, eval_rows=200)).data.eval_rows is None


def test_another_method_than_the_recommended_runs_and_is_recorded() -> None:
    advice, model, data = situation()
    other = next(c.method for c in advice.candidates if c.method != advice.verdict and c.fits)
    plan = plan_for(advice, model, data, method=other)
    assert plan.method == other
    assert plan.learning_rate == advice.candidate(other).settings.learning_rate
    assert len(plan.overrides) >= 1
    written = {"task": "instruction", "classes": None, "label_counts": None}
    advice, model, data = situation(model={"family": "decoder"}, data=written)
    assert (advice.verdict, advice.candidate("full").removed_by) == ("lora", None)
    assert plan_for(advice, model, data, method="full").overrides == ["Full fine-tuning instead of the recommended LoRA"]


def test_of_raw_text_a_plan_has_as_many_steps_as_its_blocks_take() -> None:
    """And not its documents: a pilot's slices and the warm-up of a run of another length are shares of them."""
    books: dict[str, Any] = {"task": "continued_pretraining", "layout": "text", "columns": {"text": "review"}}
    books |= {"classes": None, "eval_rows": None}
    books |= {"label_counts": None, "labels": None, "label_column": None, "rows": 40, "unique_rows": 40, "duplicate_share": None}
    books |= dict.fromkeys(("tokens_p50", "tokens_p95", "tokens_p99", "tokens_max"), 50_000)
    books |= {"tokens_total": 2_000_000, "trained_tokens": 2_000_000, "truncation": []}
    advice, model, data = situation(data=books, model={"family": "decoder", "max_positions": 8192})
    plan = plan_for(advice, model, data, method="lora", anyway=True)
    advised = advice.candidate("lora").settings
    assert steps_of(plan, data.facts) == pytest.approx(advised.total_steps, rel=0.1)
    smaller = [f"effective_batch={advised.effective_batch // 2}"]
    half = plan_for(advice, model, data, method="lora", anyway=True, assignments=smaller)
    assert half.warmup_steps == pytest.approx(2 * advised.warmup_steps, abs=1)


def test_weights_made_for_running_a_model_have_facts_and_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    recommendation, model, data = situation()
    gguf = replace(model, facts=model.facts.model_copy(update={"weights_format": "gguf", "id": "tiny.gguf"}))
    with pytest.raises(InputError, match=r"tiny\.gguf: GGUF weights are made for inference and cannot be trained"):
        plan_for(recommendation, gguf, data)
    plan = plan_for(recommendation, model, data)
    monkeypatch.setattr(planning, "inspect_model", lambda name, **options: gguf)
    with pytest.raises(InputError, match="made for inference"):
        completed(plan)
    gptq = replace(model, facts=model.facts.model_copy(update={"quantization": "gptq", "id": "tiny-gptq"}))
    with pytest.raises(InputError, match=r"tiny-gptq: its weights are quantised for inference \(gptq\)"):
        plan_for(recommendation, gptq, data)


def test_assignments_change_the_plan() -> None:
    advice, model, data = situation()
    plan = plan_for(advice, model, data, assignments=["learning_rate=1e-4", "epochs=1", "data.validation_rows=10"])
    assert (plan.learning_rate, plan.epochs, plan.data.validation_rows) == (1e-4, 1.0, 10)


def test_a_run_of_another_length_warms_up_for_the_same_share_of_it() -> None:
    advice, model, data = situation()
    usual, short = plan_for(advice, model, data), plan_for(advice, model, data, assignments=["epochs=1"])
    assert usual.warmup_steps == advice.settings.warmup_steps
    assert short.warmup_steps == pytest.approx(usual.warmup_steps / usual.epochs, abs=1)
    own = plan_for(advice, model, data, assignments=["epochs=1", "warmup_steps=7"])
    assert own.warmup_steps == 7
    fewer = plan_for(advice, model, replace(data, train_rows=500))
    assert steps_of(fewer, data.facts) < 0.6 * steps_of(usual, data.facts)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("learning_rat=1", "learning_rate"),
        ("learning_rate=fast", "learning_rate"),
        ("epochs", "NAME=VALUE"),
        ("epochs=-1", "epochs"),
        ("rank=0", "rank"),
    ],
)
def test_a_wrong_assignment_names_the_field(assignment: str, told: str) -> None:
    advice, model, data = situation()
    with pytest.raises(InputError) as caught:
        plan_for(advice, model, data, assignments=[assignment])
    assert told in caught.value.message


def test_a_run_that_would_be_wasted_is_refused_until_somebody_insists() -> None:
    advice, model, data = situation(data=FEW)
    assert advice.verdict == "not_yet"
    with pytest.raises(Refused, match="--anyway runs it regardless"):
        plan_for(advice, model, data)
    plan = plan_for(advice, model, data, anyway=True)
    assert plan.overrides
    assert all(o.startswith("G") for o in plan.overrides)


def test_nothing_to_learn_is_refused_whoever_insists() -> None:
    advice, model, data = situation(data=FEW | {"classes": 1, "label_counts": [40], "rows": 40})
    with pytest.raises(Refused):
        plan_for(advice, model, data, anyway=True)


def test_what_cannot_fit_is_refused_whoever_insists() -> None:
    tight = {"backend": "cpu", "devices": [], "ram_total": 10**9, "ram_available": 3 * 10**8}
    advice, model, data = situation(machine=tight)
    assert advice.verdict == "does_not_fit"
    for anyway in (False, True):
        with pytest.raises(Refused) as refused:
            plan_for(advice, model, data, method="full", anyway=anyway)
        assert refused.value.message.count("far too little") == 1, "of the method that was asked for"
    near = situation(machine=tight | {"ram_available": 14 * 10**8})
    with pytest.raises(Refused):
        plan_for(*near, method="full")
    (against,) = plan_for(*near, method="full", anyway=True).overrides  # the estimate's lower end would fit
    assert against.startswith("does_not_fit: ")


def test_who_insists_on_few_rows_hears_what_really_stands_in_the_way() -> None:
    """Of the gate that was overridden nothing: neither as the cause, nor what to do about it."""
    advice, model, data = situation(data=FEW, machine={"disk_free": 10**6})
    assert advice.verdict == "not_yet"
    with pytest.raises(Refused) as refused:
        plan_for(advice, model, data, method="full", anyway=True)
    assert "of disk" in refused.value.message
    assert "rows" not in refused.value.message
    assert "--anyway" not in refused.value.message


def test_a_persons_plan_is_completed_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, data = situation()
    monkeypatch.setattr(planning, "inspect_model", lambda name, **options: model)
    monkeypatch.setattr(planning, "inspect_data", lambda *args, **kwargs: data)
    monkeypatch.setattr(planning, "inspect_machine", lambda runs, try_nf4: Facts.model_validate(FACTS).machine)
    content: dict[str, Any] = {
        "model": {"id": "x"}, "data": {"train": "a.csv", "eval": "b.csv"}, "method": "full",
        "learning_rate": 2e-5, "epochs": 1, "effective_batch": 8, "max_length": 64,
    }  # fmt: skip
    made = completed(Plan.model_validate(content)).plan
    assert made.data.train == "/data/a.csv"
    assert made.data.labels == ["neg", "pos"]
    assert made.model.fingerprint == "f" * 64
    assert completed(made).plan == made
    turned = content["data"] | {"labels": ["pos", "neg"]}
    assert completed(Plan.model_validate(content | {"data": turned})).plan.data.labels == ["pos", "neg"], "their own order"

    monkeypatch.setattr("engine.refusals.adamw_8bit_works", lambda machine: False)
    for changed, told in (
        ({"optimizer": "adamw_8bit"}, "optimizer adamw_8bit does not run on this machine"),
        ({"data": content["data"] | {"train_fingerprint": "0" * 64}}, "a.csv has changed"),
        ({"data": content["data"] | {"eval_fingerprint": "0" * 64}}, "b.csv has changed"),
        ({"model": {"id": "x", "fingerprint": "0" * 64}}, "is not the model that the plan was made for"),
        ({"max_length": 100_000}, "reads 512 tokens at most"),
    ):
        with pytest.raises((InputError, Refused), match=told):
            completed(Plan.model_validate(content | changed))
    for there, told in (({"disk_free": 10**6}, "Free some space, or use --runs"), ({"ram_available": 10**8}, "Lower max_length")):
        machine = Facts.model_validate(FACTS).machine.model_copy(update={"backend": "cpu", "devices": ()} | there)
        monkeypatch.setattr(planning, "inspect_machine", lambda runs, try_nf4, machine=machine: machine)
        with pytest.raises(Refused, match=told):
            completed(Plan.model_validate(content))


def test_a_plans_own_step_is_counted_before_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was set: the trace of that very step decides, not the formula, and what cannot be traced is asked once."""
    _, model, data = situation()
    machine = Facts.model_validate(FACTS).machine
    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr(planning, "inspect_model", lambda name, **options: model)
    monkeypatch.setattr(planning, "inspect_data", lambda *args, **kwargs: data)
    monkeypatch.setattr(planning, "inspect_machine", lambda runs, try_nf4: machine)
    monkeypatch.setattr("engine.prediction.candidates.checked", lambda known: known)
    asked: list[dict[str, Any]] = []
    peaks = {"lora": 10**9}

    def answers(request: dict[str, Any], plans: list[dict[str, Any]], **_: object) -> tuple[dict[str, Any], set[str]]:
        asked.extend(plans)
        return {p["name"]: {"peak": peaks[p["method"]], "parts": {}} for p in plans if p["method"] in peaks}, set()

    monkeypatch.setattr("engine.prediction.candidates.each", answers)
    content: dict[str, Any] = {
        "model": {"id": "x"}, "data": {"train": "a.csv", "eval": "b.csv"}, "learning_rate": 2e-5, "epochs": 1,
        "effective_batch": 8, "max_length": 64, "method": "lora", "rank": 8, "alpha": 16, "target_modules": "query", "dora": True,
    }  # fmt: skip
    own = Plan.model_validate(content)
    known = completed(own).facts
    assert [(p["settings"]["target_modules"], p["settings"]["dora"]) for p in asked] == [("query", True)]
    advised = recommend(known).candidate("lora")
    memory, without = (edited(known, advised, plan).candidate.memory for plan in (own, own.model_copy(update={"dora": False})))
    assert memory.predicted == 10**9 + memory.parts["runtime"]
    assert memory.high - memory.low < without.high - without.low  # of another step it is only a yardstick
    peaks["lora"] = 10**13
    with pytest.raises(Refused, match="does not fit"):
        completed(own)
    asked.clear()
    with pytest.raises(Refused, match=r"nothing of the model would be left\. Use `--set learning_rate=0\.000"):
        completed(own.model_copy(update={"learning_rate": 0.5}))
    assert asked == [], "seconds, for a run that is refused"

    asked.clear()
    peaks.clear()
    whole = with_counted_steps(known, lambda _: [own])
    assert [p["name"] for p in asked if not p["beside"]] == ["full", "lora", "qlora"]  # their own one is known
    assert any(p["beside"] for p in asked)  # and what decides beside
    assert all(p["fit"] for p in asked)  # for other sizes too
    times = len(asked)
    assert with_counted_steps(whole, lambda _: [own]) == whole
    assert len(asked) == times
    asked.clear()
    with_counted_steps(known.model_copy(update={"measured": Measured()}))
    assert [p["name"] for p in asked[:3]] == ["full", "lora", "qlora"]
    assert len(asked) == len({p["name"] for p in asked}), "none of them can be traced: nothing is tried again"


def test_a_step_that_was_counted_beside_others_is_timed_once_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its time would be the formula's, and that of the candidate next to it the processor's own."""
    asked: list[bool] = []

    def answers(request: dict[str, Any], plans: list[dict[str, Any]], **_: object) -> tuple[dict[str, Any], set[str]]:
        asked.extend(p["everyday"] is not None for p in plans)
        return {p["name"]: {"peak": 10**9, "parts": {}} for p in plans}, set()

    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr("engine.prediction.candidates.checked", lambda known: known)
    monkeypatch.setattr("engine.prediction.candidates.each", answers)
    here = {"backend": "cpu", "cpu_name": processor().name, "cpu_cores": usable_cores(), "ram_available": 16 * 10**9}
    facts = Facts.model_validate(FACTS | {"machine": here})
    best = recommend(facts).best
    steps = steps_shown(facts, [best])
    beside = with_traces(facts, (), steps, fits=True)
    assert is_wanted(beside, [best])
    assert not is_wanted(with_traces(beside, steps), [best])
    assert with_traces(beside, (), steps) is beside
    elsewhere = Facts.model_validate(FACTS | {"machine": here | {"cpu_name": "another", "cpu_cores": 64}})
    with_traces(elsewhere, steps_shown(elsewhere, [recommend(elsewhere).best]))
    assert asked == [False, True, False], "nobody times the operations of another machine's processor"
    card = Facts.model_validate(FACTS | {"machine": {"backend": "cuda", "devices": [{"name": "L4", "memory_free": 24 * 10**9}]}})
    with_traces(card, steps_shown(card, [recommend(card).best]))
    assert asked[3:] == [True], "a card's are worked out from its speeds"


@pytest.mark.parametrize("free", [10**6, 10**12])
def test_weights_are_downloaded_for_a_plan_only_once_it_can_run(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    _, model, data = situation()
    asked: list[bool] = []

    def looked_at(name: str, weights: bool = True, revision: str | None = None) -> ModelInspection:
        assert revision == "c" * 40
        asked.append(weights)
        return replace(model, weights_here=weights, revision=revision)

    machine = Facts.model_validate(FACTS).machine.model_copy(update={"disk_free": free})
    monkeypatch.setattr(planning, "inspect_model", looked_at)
    monkeypatch.setattr(planning, "inspect_data", lambda *args, **kwargs: data)
    monkeypatch.setattr(planning, "inspect_machine", lambda runs, try_nf4: machine)
    content: dict[str, Any] = {
        "model": {"id": "org/x", "revision": "c" * 40}, "data": {"train": "a.csv", "eval": "b.csv"}, "method": "full",
        "learning_rate": 2e-5, "epochs": 1, "effective_batch": 8, "max_length": 64,
    }  # fmt: skip
    if free < 10**9:
        with pytest.raises(Refused, match=r"of disk for checkpoints and the result, .* is free. Free some space, or use --runs"):
            completed(Plan.model_validate(content))
    else:
        completed(Plan.model_validate(content))
    assert asked == [False] if free < 10**9 else [False, True]
