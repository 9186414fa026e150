"""The allocator's rules, each by what `memory_allocated` and `memory_reserved` would show."""

import pytest

from engine.prediction.allocator import MIB, Allocator


def replay(events: list[tuple[int, int]], *, expandable: bool = False) -> Allocator:
    """After a stream of (number, size): a block comes where `size` is not negative and goes where it is; 0 empties the cache."""
    found = Allocator(expandable=expandable)
    for number, size in events:
        if number == 0:
            found.empty_cache()
        elif size >= 0:
            found.allocate(number, size)
        else:
            found.release(number)
    return found


def counters(events: list[tuple[int, int]], *, expandable: bool = False) -> tuple[int, int]:
    found = replay(events, expandable=expandable)
    return found.peak_allocated, found.peak_reserved


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        # A segment of its own, 1 MiB larger than the tensor: too little to be split off, so that it counts.
        (11 * MIB, 12 * MIB, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
    ],
)
def test_one_block(size: int, allocated: int, reserved: int) -> None:
    assert counters([(1, size)]) == (allocated, reserved)


def test_the_smallest_free_block_is_taken_and_neighbours_become_one() -> None:
    # Two halves of a freed block of 40 MiB serve two tensors of 20, and after them one of 40 again.
    halves = [(1, 40 * MIB), (1, -1), (2, 20 * MIB), (3, 20 * MIB)]
    for first, second in ((2, 3), (3, 2)):
        assert counters([*halves, (first, -1), (second, -1), (4, 40 * MIB)]) == (40 * MIB, 40 * MIB)


def test_a_block_that_is_too_small_stays_and_more_is_reserved() -> None:
    assert counters([(1, 30 * MIB), (1, -1), (2, 32 * MIB)]) == (32 * MIB, 62 * MIB)
    # With expandable segments the free end grows instead, and of a block no more counts than is asked for.
    assert counters([(1, 30 * MIB), (1, -1), (2, 32 * MIB)], expandable=True) == (32 * MIB, 40 * MIB)
    assert counters([(1, 11 * MIB), (2, 9 * MIB)], expandable=True) == (20 * MIB, 20 * MIB)
    # Of what is free at the end only the lack is mapped.
    assert counters([(1, 30 * MIB), (1, -1), (2, 50 * MIB)], expandable=True) == (50 * MIB, 60 * MIB)


def test_an_emptied_cache_gives_back_whole_segments_only() -> None:
    events = [(1, 30 * MIB), (2, 4 * MIB), (3, 4 * MIB), (1, -1), (2, -1), (0, 0), (4, 30 * MIB)]
    found = replay(events)
    assert found.reserved == 20 * MIB + 30 * MIB
    assert found.peak_reserved == 50 * MIB
