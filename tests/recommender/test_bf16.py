"""bf16 on a CPU: taken where a trial of the model's own step shows that it is faster and computes the same, never else."""

from typing import Any

import pytest

from recommender.decide import recommend
from recommender.edits import edited
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation

FACTS: dict[str, Any] = {
    "machine": {"backend": "cpu", "cpu_cores": 2, "cpu_bf16": True, "ram_available": 16_000_000_000, "disk_free": 10**12},
    "model": {"id": "m", "family": "encoder", "parameters": 22_700_000, "embedding_parameters": 11_900_000, "layers": 6,
              "hidden_size": 384, "intermediate_size": 1536, "attention_heads": 12, "vocabulary_size": 30_522,
              "max_positions": 512},
    "data": {"task": "classification", "rows": 5_000, "unique_rows": 5_000, "classes": 2, "tokens_p50": 30, "tokens_p95": 60,
             "tokens_max": 90, "tokens_total": 160_000},
}  # fmt: skip
GOOD = {"speedup": 2.34, "loss": 0.6931, "loss_fp32": 0.6930, "gradients_apart": 0.01}


def with_trial(**trial: Any) -> Facts:
    return Facts.model_validate(FACTS | {"measured": {"bf16": {"full": GOOD | trial}, "matmul_flops": {"fp32": 8e10}}})


def why(advice: Recommendation) -> str:
    return next(r.text for r in advice.settings_reasons if r.facts["setting"] == "precision")


def test_what_was_not_tried_is_not_taken() -> None:
    advice = recommend(Facts.model_validate(FACTS))
    assert {c.settings.precision for c in advice.candidates} == {"fp32"}
    assert "not tried" in why(advice)
    plain = recommend(Facts.model_validate(FACTS | {"machine": FACTS["machine"] | {"cpu_bf16": False}}))
    assert "tried" not in why(plain)


def test_a_trial_that_shows_it_decides_for_its_method_with_its_figures() -> None:
    advice = recommend(with_trial())
    assert {c.method: c.settings.precision for c in advice.candidates} == {"full": "bf16-mixed", "lora": "fp32", "qlora": "fp32"}
    assert "2.34 times as fast" in why(advice)
    assert "a loss that differs by <0.1%" in why(advice)


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ({"speedup": 1.02}, "only 1.02 times as fast"),
        ({"speedup": 0.5}, "only 0.5 times as fast"),
        ({"loss": 0.75}, "did not compute what fp32 does"),
        ({"loss": None}, "did not compute what fp32 does"),
        ({"gradients_apart": 0.9}, "did not compute what fp32 does"),
        ({"gradients_apart": None}, "did not compute what fp32 does"),
    ],
)
def test_a_trial_that_does_not_show_it_is_told_and_leaves_fp32(trial: dict[str, Any], said: str) -> None:
    advice = recommend(with_trial(**trial))
    assert advice.candidate("full").settings.precision == "fp32"
    assert said in why(advice)


def test_a_run_takes_less_time_by_what_the_trial_showed_and_a_person_may_still_say_fp32() -> None:
    facts = with_trial()
    advised = recommend(facts).candidate("full")
    before = recommend(with_trial(speedup=1.0)).candidate("full")
    assert before.hours.training is not None
    assert advised.hours.training is not None
    assert before.hours.training / advised.hours.training == pytest.approx(2.34)
    own = {name: getattr(advised.settings, name) for name in Plan.model_fields if name in type(advised.settings).model_fields}
    content = {"model": {"id": "m"}, "data": {"train": "d"}, "method": "full", **own, "precision": "fp32"}
    back = edited(facts, advised, Plan.model_validate(content)).candidate
    assert back.settings.precision == "fp32"
    assert back.hours.predicted == pytest.approx(before.hours.predicted)


def test_micro_batches_of_small_decoders_are_larger_where_products_are_quick() -> None:
    model = FACTS["model"] | {"family": "decoder", "parameters": 134_500_000, "hidden_size": 576, "layers": 30}
    data = {"task": "instruction", "rows": 5_000, "unique_rows": 5_000, "tokens_p95": 300, "tokens_total": 10**6}

    def budget_of(speedup: float, **more: Any) -> int:
        measured = {"bf16": {"lora": GOOD | {"speedup": speedup}}}
        facts = FACTS | {"model": model | more, "data": data, "measured": measured}
        return recommend(Facts.model_validate(facts)).candidate("lora").settings.token_budget

    assert (budget_of(1.9), budget_of(1.0), budget_of(1.9, hidden_size=2048)) == (2048, 1024, 1024)


def test_a_trial_on_a_cpu_says_nothing_of_a_card() -> None:
    card = {"backend": "cuda", "devices": [{"name": "Tesla T4", "memory_total": 16 * 10**9, "memory_free": 15 * 10**9}]}
    facts = Facts.model_validate(FACTS | {"machine": card, "measured": {"bf16": {"full": GOOD}}})
    assert recommend(facts).candidate("full").settings.precision == "fp16-mixed"
