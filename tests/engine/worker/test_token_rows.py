"""Rows in flat arrays are the rows that were put in."""

import random
import sys

import pytest

from engine.worker.batches import TYPE
from engine.worker.tasks.base import Encoded
from engine.worker.token_rows import PART, Records, TokenRows, digest_of, lengths_of


def made(count: int) -> list[list[int]]:
    rng = random.Random(count)
    rows = [[rng.randrange(-100, 300_000) for _ in range(rng.choice([0, 1, 7, 40]))] for _ in range(count)]
    for row in rows[PART : PART + 9]:  # pairs of texts, in one part of three
        row.append(7 + TYPE)
    return rows


@pytest.mark.parametrize("count", [0, 3, PART, 2 * PART + 50])
def test_rows_come_out_as_they_went_in(count: int) -> None:
    rows = made(count)
    held = TokenRows(iter(row) for row in rows)
    assert list(held) == rows
    assert held == rows
    assert held[5:-3:7] == rows[5:-3:7]
    assert digest_of(held) == digest_of(rows)
    for other in ([*rows, []], [row + row[:1] for row in rows], [[0, *rows[0]], *rows[1:]] if rows else [[0]]):
        assert (digest_of(other) == digest_of(rows)) is (other == rows)
    assert len(held) == count
    assert lengths_of(held) == lengths_of(rows) == list(map(len, rows))
    with pytest.raises(IndexError):
        held[count]
    for i in random.Random(0).sample(range(count), min(count, 20)):
        assert held[i] == rows[i]
        assert held[i - count] == rows[i]
        held[i].append(1)
        assert held[i] == rows[i], "a row is a copy"
    held.append([1, 2])
    assert held[-1] == [1, 2]


def test_some_rows_of_several_fields_are_taken_in_order() -> None:
    rows, numbers = made(2 * PART), list(range(2 * PART))
    whole = Encoded(TokenRows(rows), Records(labels=TokenRows(rows), number=numbers), numbers)
    chosen = [PART + 3, 0, 2 * PART - 1, 0]
    some = whole.take(chosen)
    assert list(some.input_ids) == [rows[i] for i in chosen]
    assert list(some.targets) == [{"labels": rows[i], "number": i} for i in chosen]
    assert list(some.truth) == chosen
    assert some[1] == {"input_ids": rows[0], "targets": {"labels": rows[0], "number": 0}}


def test_many_rows_take_about_four_bytes_a_token() -> None:
    held = TokenRows([1000 + i % 30_000 for i in range(start, start + 256)] for start in range(10 * PART))
    arrays = sum(sys.getsizeof(numbers) + sys.getsizeof(ends) for numbers, ends in held._parts)
    assert arrays < 4.2 * sum(held.lengths())
