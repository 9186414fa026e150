"""A person's own settings are judged by the same arithmetic as the advised ones."""

from typing import Any

import pytest

from recommender.decide import recommend
from recommender.edits import edited, reasons_of
from recommender.facts import DataFacts, Device, Facts, Machine, ModelFacts
from recommender.plan import DataChoice, ModelChoice, Plan
from recommender.recommendation import Settings

GB = 10**9


@pytest.fixture
def facts() -> Facts:
    return Facts(
        machine=Machine(backend="cuda", devices=(Device(memory_total=12 * GB, memory_free=11 * GB),), disk_free=10**12),
        model=ModelFacts(id="m", family="decoder", parameters=600_000_000, layers=28, hidden_size=1024, max_positions=32_768),
        data=DataFacts(task="chat", rows=5_000, unique_rows=5_000, tokens_p50=200, tokens_p99=600, tokens_max=4_000),
    )


def plan_of(facts: Facts, method: str, **changes: Any) -> Plan:
    settings = recommend(facts).candidate(method).settings
    own = {name: getattr(settings, name) for name in Plan.model_fields if name in type(settings).model_fields}
    return Plan(model=ModelChoice(id="m"), data=DataChoice(train="d"), task="chat", method=method, **own | changes)  # type: ignore[arg-type]


def test_advised_settings_come_out_as_advised(facts: Facts) -> None:
    for candidate in recommend(facts).candidates:
        again = edited(facts, candidate, plan_of(facts, candidate.method))
        assert again.candidate == candidate
        assert not again.cautions


def test_more_of_everything_takes_more(facts: Facts) -> None:
    advised = recommend(facts).candidate("lora")
    plan = plan_of(facts, "lora", epochs=2 * advised.settings.epochs, max_length=4_000, token_budget=16_384, rank=256)
    found = edited(facts, advised, plan).candidate
    assert found.memory.predicted > advised.memory.predicted
    assert found.hours.predicted > 1.5 * advised.hours.predicted
    assert found.trained_parameters > advised.trained_parameters
    assert found.settings.total_steps == pytest.approx(2 * advised.settings.total_steps, rel=0.01)


def test_what_no_longer_fits_says_so(facts: Facts) -> None:
    advised = recommend(facts).candidate("lora")
    found = edited(facts, advised, plan_of(facts, "lora", max_length=32_000, token_budget=64_000))
    assert not found.candidate.fits
    assert [r.code for r in found.against] == ["does_not_fit"]


def test_an_expert_comments_on_changes_only(facts: Facts) -> None:
    advised = recommend(facts).candidate("lora")
    found = edited(facts, advised, plan_of(facts, "lora", learning_rate=1e-5))
    assert [c.code for c in found.cautions] == ["low_lora_rate"]


def test_each_setting_has_its_reason(facts: Facts) -> None:
    reasons = reasons_of(facts, recommend(facts).candidate("qlora"))
    assert {"learning_rate", "rank", "epochs", "max_length"} <= set(reasons)


def test_one_pass_over_the_rows_that_train_is_one_pass(facts: Facts) -> None:
    """Rows that are held out are no rows unseen."""
    advised = recommend(facts).candidate("lora")
    found = edited(facts, advised, plan_of(facts, "lora", epochs=1))
    assert "rows_unseen" not in [c.code for c in found.cautions]


def with_rows(plan: Plan, **rows: int) -> Plan:
    return plan.model_copy(update={"data": plan.data.model_copy(update=rows)})


def test_steps_follow_from_the_batch_and_the_rows_of_ones_own(facts: Facts) -> None:
    advised = recommend(facts).candidate("lora")
    plan, usual = plan_of(facts, "lora"), advised.settings

    def settings(plan: Plan, facts: Facts = facts) -> Settings:
        return edited(facts, advised, plan).candidate.settings

    half = settings(plan.model_copy(update={"effective_batch": usual.effective_batch // 2}))
    assert half.total_steps == pytest.approx(2 * usual.total_steps, rel=0.01)
    shown = settings(with_rows(plan, validation_rows=2_000))
    assert shown.validation_rows == 2_000
    assert shown.total_steps < 0.7 * usual.total_steps
    rows, most = facts.data.rows or 0, {"token_budget": 10**9, "epochs": 1}
    plans = (plan.model_copy(update=most | {"effective_batch": n}) for n in (rows, 100 * rows))
    every, more = (edited(facts, advised, p).candidate.hours for p in plans)
    assert every == more, "no batch has rows that are not there"
    brought = facts.model_copy(update={"data": facts.data.model_copy(update={"eval_rows": 300})})
    assert settings(with_rows(plan, held_out_rows=900), brought).held_out_rows == 0, "a file of held-out rows was brought"


def test_settings_that_fit_take_back_that_nothing_did(facts: Facts) -> None:
    small = facts.model_copy(update={"machine": Machine(backend="cuda", devices=(Device(memory_free=2 * GB),), disk_free=10**12)})
    long = small.model_copy(update={"data": facts.data.model_copy(update={"tokens_p99": 30_000, "tokens_max": 30_000})})
    advised = recommend(long).candidate("full")
    assert (advised.fits, advised.removed_by) == (False, "does_not_fit")
    roomy = edited(facts, advised, plan_of(facts, "full", max_length=64, token_budget=64, gradient_checkpointing=True))
    assert (roomy.candidate.fits, roomy.candidate.removed_by, roomy.against) == (True, None, ())


def test_what_an_expert_says_of_the_advised_settings_is_not_said_of_ones_own(facts: Facts) -> None:
    few = facts.model_copy(update={"data": facts.data.model_copy(update={"rows": 120, "unique_rows": 120})})
    advised = recommend(few).candidate("lora")
    found = edited(few, advised, plan_of(few, "lora", learning_rate=1e-5))
    assert [c.code for c in found.cautions] == ["low_lora_rate"]


def test_rslora_weighs_adapters_by_the_root_of_their_rank(facts: Facts) -> None:
    advised = recommend(facts).candidate("lora")
    found = edited(facts, advised, plan_of(facts, "lora", rslora=True))
    assert [c.code for c in found.cautions] == ["rslora"]
