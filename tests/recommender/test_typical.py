"""The rows of an everyday micro-batch, from what was counted of all."""

import math
from statistics import NormalDist
from typing import Any

import pytest

from recommender.facts import Facts
from recommender.footprint import Step
from recommender.typical import micro_batch

NORMAL = NormalDist(math.log(100), 0.6)
ROWS = [math.exp(NORMAL.inv_cdf((i + 0.5) / 1000)) for i in range(1000)]


def facts(task: str = "chat", **data: Any) -> Facts:
    counted = {"tokens_p50": ROWS[500], "tokens_p95": ROWS[950], "tokens_p99": ROWS[990], "tokens_max": ROWS[999]}
    rounded = {name: round(n) for name, n in counted.items()}
    return Facts.model_validate({"data": {"task": task, "rows": 1000} | rounded | data})


def step(tokens: int, *, length: int = 1024, batch: int = 0) -> Step:
    return Step(method="lora", precision="fp32", micro_tokens=tokens, length=length, batch=batch)


def test_its_rows_are_like_all_rows_though_only_four_lengths_of_them_are_known() -> None:
    lengths = micro_batch(facts(), step(60_000))
    assert sum(lengths) == pytest.approx(60_000, rel=0.01)
    assert sum(lengths) / len(lengths) == pytest.approx(sum(ROWS) / 1000, rel=0.07)
    assert sum(n * n for n in lengths) / len(lengths) == pytest.approx(sum(n * n for n in ROWS) / 1000, rel=0.2)


def test_a_batch_that_fits_is_one_micro_batch_whose_rows_are_cut() -> None:
    lengths = micro_batch(facts(), step(16 * 200, length=200, batch=16))
    assert len(lengths) == 16
    assert (min(lengths) < 50, max(lengths)) == (True, 200)


def test_a_batch_of_everyday_rows_may_fit_where_one_of_the_longest_does_not_and_is_cut_evenly() -> None:
    """Twenty rows were told to be a micro-batch of a step of sixteen."""
    assert len(micro_batch(facts(), step(2500, batch=16))) == 16
    assert len(micro_batch(facts(), step(1500, batch=16))) == 8


def test_of_preferences_two_alike_are_a_pair_and_raw_text_is_in_full_blocks() -> None:
    pairs = micro_batch(facts("preference"), step(3000))
    assert pairs[::2] == pairs[1::2]
    assert sum(pairs) == pytest.approx(3000, rel=0.15)
    assert micro_batch(facts("continued_pretraining"), step(2048, length=512)) == [512] * 4
