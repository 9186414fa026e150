"""The largest micro-batch, from what was counted of the rows."""

from typing import Any

import pytest

from recommender.facts import Facts
from recommender.footprint import Step
from recommender.largest import LISTED, Largest, largest_micro_batch


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


def test_rows_beyond_the_longest_that_were_counted_are_taken_to_be_as_long_as_the_last() -> None:
    many = {"longest_rows": [50] * LISTED, "tokens_max": 50}
    assert found("chat", 10_000, 64, batch=100, **many) == (100, 50, False)
    assert found("chat", 10_000, 64, batch=100, **many | {"rows": 80}) == (80, 50, False)
    few = {"longest_rows": [50] * 30, "tokens_max": 50}
    assert found("chat", 10_000, 64, batch=100, **few) == (30, 50, False)
