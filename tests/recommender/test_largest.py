"""The largest micro-batch, from what was counted of the rows."""

from typing import Any

import pytest

from recommender.facts import Facts
from recommender.footprint import Step
from recommender.largest import LISTED, Largest, largest_micro_batch, scored
from recommender.traced import as_facts, at_once


def found(task: str, tokens: int, length: int, *, batch: int = 0, packed: bool = True, **data: Any) -> Largest:
    facts = Facts.model_validate({"data": {"task": task, "rows": 5000} | data})
    step = Step("lora", "fp32", micro_tokens=tokens, length=length, batch=batch, accumulates=True)
    return largest_micro_batch(facts, step, packed=packed)


@pytest.mark.parametrize(
    ("task", "tokens", "longest", "full"),
    [
        ("instruction", 2048, 512, (4, 512)),
        ("instruction", 2048, 568, (4, 512)),  # three of 568 would leave a sixth of it empty, and other rows do not
        ("preference", 1024, 320, (4, 256)),  # two pairs
        ("continued_pretraining", 1024, 600, (1, 600)),  # blocks are all as long
        ("instruction", 512, 568, (1, 568)),  # one row is never cut
    ],
)
def test_it_is_full_where_nobody_counted_the_longest_rows(task: str, tokens: int, longest: int, full: tuple[int, int]) -> None:
    assert found(task, tokens, longest, batch=64) == (*full, True)


SHORT = [40, 30, 30, *[20] * 13]


@pytest.mark.parametrize(
    ("task", "more", "largest"),
    [
        ("classification", {}, (15, 24, False)),  # 360 tokens: as alike as 24 each, of which fifteen
        ("classification", {"packed": False}, (12, 40, True)),
        ("classification", {"tokens_max": 60}, (8, 60, True)),  # they are of another file
        ("classification", {"length": 25}, (15, 23, False)),  # 335 tokens, where three are cut
        ("classification", {"batch": 4}, (3, 40, False)),
        ("classification", {"batch": 1}, (1, 40, False)),
        ("preference", {}, (12, 40, True)),  # 720 tokens do not fit
        ("preference", {"batch": 8}, (14, 29, False)),
        ("continued_pretraining", {}, (7, 64, True)),  # full blocks
    ],
)
def test_the_longest_rows_of_a_batch_that_fits_are_all_of_it(task: str, more: dict[str, Any], largest: Any) -> None:
    """Sixteen rows of SST-2 were taken to be all as long as the longest: SmolLM2's run was told 13.5% too high."""
    given: dict[str, Any] = {"tokens": 480, "length": 64, "batch": 16, "longest_rows": SHORT, "tokens_max": SHORT[0]} | more
    assert found(task, **given) == largest


@pytest.mark.parametrize(
    ("precision", "family", "largest"),
    [("fp32", "decoder", (15, 53)), ("bf16-mixed", "encoder", (15, 53)), ("bf16-mixed", "decoder", (15, 37))],
)
def test_padding_of_a_cards_attention_is_counted_unless_it_is_flash(precision: Any, family: str, largest: Any) -> None:
    """One row of 64 tokens and fifteen of 32 are read as sixteen of 64 there: a step of Llama took 4.5% more than was told."""
    card = {"name": "A100", "memory_total": 80 * 10**9, "memory_free": 80 * 10**9}
    data = {"task": "chat", "rows": 500, "tokens_max": 64, "longest_rows": [64, *[32] * 63]}
    given = {"machine": {"backend": "cuda", "devices": [card]}, "model": {"family": family}, "data": data}
    step = Step("lora", precision, micro_tokens=4096, length=64, batch=16)
    assert largest_micro_batch(Facts.model_validate(given), step, packed=True) == (*largest, False)


def test_rows_beyond_the_longest_that_were_counted_are_taken_to_be_as_long_as_the_last() -> None:
    many: dict[str, Any] = {"longest_rows": [50] * LISTED, "tokens_max": 50}
    assert found("chat", 10_000, 64, batch=100, **many) == (100, 50, False)
    assert found("chat", 10_000, 64, batch=100, **many | {"rows": 80}) == (80, 50, False)
    few: dict[str, Any] = {"longest_rows": [50] * 30, "tokens_max": 50}
    assert found("chat", 10_000, 64, batch=100, **few) == (30, 50, False)


@pytest.mark.parametrize(
    ("tokens", "peak", "low", "high", "parts"),
    [
        (400, 175_000, 150_000, 190_000, {"weights": 100_000, "activations": 60_000, "reserve": 15_000}),
        (3200, 195_000, 150_000, 210_000, {"weights": 100_000, "temporaries": 80_000, "reserve": 15_000}),
    ],
)
def test_scoring_many_rows_may_hold_more_than_training_a_small_batch(
    tokens: int, peak: int, low: int, high: int, parts: dict[str, int]
) -> None:
    """Ten rows of forty tokens a step, and all that the budget allows when they are only read."""
    step = Step("full", "fp32", micro_tokens=400, length=64, batch=10, scored=tokens)
    phases = {"backward": {"weights": 100_000, "activations": 60_000}, "evaluation": {"weights": 100_000, "temporaries": 10_000}}
    entry = as_facts(step, 175_000, {"weights": 100_000, "activations": 60_000, "reserve": 15_000},
                     low=150_000, high=190_000, phases=phases, packed=True)  # fmt: skip
    data = {"task": "classification", "rows": 5000, "tokens_max": 40}
    facts = Facts.model_validate({"data": data, "measured": {"memory_profile": {"steps": [entry]}}})
    told = at_once(facts, step)
    assert told is not None
    assert (told.peak, told.low, told.high, told.parts) == (peak, low, high, parts)
    assert told.phases["evaluation"] == {"weights": 100_000, "temporaries": 10_000 * tokens // 400}


@pytest.mark.parametrize(("packed", "logits"), [(True, 2560), (False, 8000)])
def test_logits_of_scored_tokens_exist_for_a_chunk_at_a_time(logits: int, *, packed: bool) -> None:
    facts = Facts.model_validate({"model": {"vocabulary_size": 50_000}, "data": {"task": "chat"}})
    step = Step("full", "fp32", micro_tokens=100, length=64, scored=800)
    found = scored(facts, step, {"weights": 5, "logits": 1000}, 100, packed=packed)
    assert found == {"weights": 5, "logits": logits}


@pytest.mark.parametrize(("longest", "low"), [((513, 442, 427, 416), 790_137), ((513, 500, 500, 500), 884_620), ((), 900_000)])
def test_a_micro_batch_that_is_one_of_several_need_not_be_full(longest: tuple[int, ...], low: int) -> None:
    """Four Alpaca rows of 1,798 tokens are two times 900, and 1,024 were told: the peak lay below the interval."""
    step = Step("lora", "fp32", micro_tokens=1024, length=520, batch=4, accumulates=True)
    entry = as_facts(step, 1_000_000, {"weights": 80_000, "activations": 900_000, "reserve": 20_000}, low=900_000, high=1_100_000,
                     phases={}, packed=True, accumulates=True)  # fmt: skip
    data = {"task": "instruction", "rows": 32, "tokens_max": 513, "longest_rows": longest}
    told = at_once(Facts.model_validate({"data": data, "measured": {"memory_profile": {"steps": [entry]}}}), step)
    assert told is not None
    assert (told.low, told.peak, told.most) == (low, 1_000_000, 1_100_000)
