"""The logical batch and its pieces."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker.batches import EpochPermutation, collate, cut, mixed, padded
from engine.worker.packing import cut_packed

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 5000))
def test_a_cut_keeps_every_row_once_the_longest_first_within_the_budget(lengths: list[int], budget: int) -> None:
    pieces = cut(lengths, budget)
    assert [lengths[i] for piece in pieces for i in piece] == sorted(lengths, reverse=True)
    assert sorted(i for piece in pieces for i in piece) == list(range(len(lengths)))
    for piece in pieces:
        assert len(piece) == 1 or max(lengths[i] for i in piece) * len(piece) <= budget


def test_nothing_is_cut_where_cutting_costs_more_than_padding() -> None:
    assert len(cut([5, 9, 2, 40], 10**8, overhead=1000)) == 1
    assert len(cut([5, 9, 2, 40], 10**8, overhead=10)) == 2


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 300), st.integers(0, 80))
def test_no_cut_within_the_budget_costs_less(lengths: list[int], budget: int, overhead: int) -> None:
    order = sorted(lengths, reverse=True)

    def cost(pieces: list[list[int]]) -> int:
        return sum(max(piece) * len(piece) + overhead for piece in pieces)

    def every_cut(rows: list[int]) -> Iterator[list[list[int]]]:
        if not rows:
            yield []
        for n in range(1, len(rows) + 1):
            if n == 1 or rows[0] * n <= budget:
                for rest in every_cut(rows[n:]):
                    yield [rows[:n], *rest]

    found = [[lengths[i] for i in piece] for piece in cut(lengths, budget, overhead)]
    assert cost(found) == min(cost(pieces) for pieces in every_cut(order))


@given(LENGTHS, st.integers(1, 5000))
def test_a_packed_cut_keeps_every_row_once_within_the_budget_and_is_even(lengths: list[int], budget: int) -> None:
    pieces = cut_packed(lengths, budget)
    assert sorted(i for piece in pieces for i in piece) == list(range(len(lengths)))
    tokens = [sum(lengths[i] for i in piece) for piece in pieces]
    assert all(len(piece) == 1 or n <= budget for piece, n in zip(pieces, tokens, strict=True))
    assert max(tokens) - min(tokens) <= max(lengths)


@pytest.mark.parametrize(
    ("lengths", "budget", "count"), [([4, 4], 8, 1), ([1, 1, 2], 2, 2), ([2, 5, 3, 4], 7, 2), ([9, 1, 1], 2, 2)]
)
def test_as_few_micro_batches_are_packed_as_will_do(lengths: list[int], budget: int, count: int) -> None:
    """Also beside a row that is too long for the budget, which lack of memory has lowered."""
    assert len(cut_packed(lengths, budget)) == count


def test_padding_is_on_the_right_and_masked() -> None:
    batch = padded([[7, 8, 9], [5]], 1, "cpu")
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_tokens_are_counted_without_padding() -> None:
    assert collate([{"input_ids": [1, 2, 3], "targets": 0}, {"input_ids": [4], "targets": 1}]).tokens == 4


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
