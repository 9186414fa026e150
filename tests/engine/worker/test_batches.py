"""The logical batch and its pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker.batches import EpochPermutation, collate, cut, mixed, padded

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 5000))
def test_a_cut_keeps_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    pieces = cut(lengths, budget)
    assert sorted(i for piece in pieces for i in piece) == list(range(len(lengths)))
    for piece in pieces:
        assert len(piece) == 1 or max(lengths[i] for i in piece) * len(piece) <= budget


@given(LENGTHS)
def test_the_longest_rows_come_first(lengths: list[int]) -> None:
    flat = [lengths[i] for piece in cut(lengths, 512) for i in piece]
    assert flat == sorted(lengths, reverse=True)


def test_a_huge_budget_does_not_cut() -> None:
    assert len(cut([5, 9, 2, 40], 10**8)) == 1


def test_padding_is_on_the_right_and_masked() -> None:
    batch = padded([[7, 8, 9], [5]], 1, "cpu")
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_tokens_are_counted_without_padding() -> None:
    assert collate([{"input_ids": [1, 2, 3], "labels": 0}, {"input_ids": [4], "labels": 1}]).tokens == 4


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own() -> None:
    order = EpochPermutation(50, seed=3)
    first = list(order)
    order.epoch = 1
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    order.epoch = 0
    assert list(order) == first


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_seeds_of_neighbouring_steps_do_not_collide(seed: int) -> None:
    found = {mixed(s, n) for s in (seed, seed + 1) for n in range(5000)}
    assert len(found) == 10_000
    assert all(0 <= x < 2**63 for x in found)
