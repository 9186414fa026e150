"""The allocator's rules, each by what `memory_allocated` and `memory_reserved` would show."""

import random

import pytest

from engine.prediction.allocator import MIB, Allocator, Heap, OutOfRoom
from engine.prediction.lengths import LONG, USUAL, Lengths, growing, rows_of
from engine.prediction.stream import Event, Segment
from recommender.facts import DataFacts


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
    assert counters([(1, 20 * MIB - 512)], expandable=True) == (20 * MIB - 512, 20 * MIB), "however little is left"
    # Of what is free at the end only the lack is mapped.
    assert counters([(1, 30 * MIB), (1, -1), (2, 50 * MIB)], expandable=True) == (50 * MIB, 60 * MIB)
    # What is free at the end could grow: a larger block before it is taken instead.
    held = [(1, 40 * MIB), (2, 20 * MIB), (3, 15 * MIB), (1, -1), (3, -1), (4, 18 * MIB)]
    assert counters([*held, (5, 40 * MIB)], expandable=True) == (78 * MIB, 100 * MIB)


def test_an_emptied_cache_gives_back_whole_segments_only() -> None:
    events = [(1, 30 * MIB), (2, 4 * MIB), (3, 4 * MIB), (1, -1), (2, -1), (0, 0), (4, 30 * MIB)]
    found = replay(events)
    assert found.reserved == 20 * MIB + 30 * MIB
    assert found.peak_reserved == 50 * MIB


@pytest.mark.parametrize("expandable", [False, True])
def test_however_memory_was_cut_no_byte_of_it_is_lost_or_given_twice(expandable: bool) -> None:
    draw, found, held = random.Random(0), Allocator(expandable=expandable), dict[int, int]()
    for name in range(1000):
        held[name] = draw.choice((draw.randrange(1, MIB), draw.randrange(MIB, 40 * MIB)))
        found.allocate(name, held[name])
        for gone in draw.sample(sorted(held), draw.randrange(3) if len(held) > 5 else 0):
            del held[gone]
            found.release(gone)
        assert sum(held.values()) <= found.allocated <= found.reserved
    for name in held:
        found.release(name)
    found.empty_cache()
    assert found.allocated == 0
    assert [len(pool.blocks) for pool in found._pools] == ([1, 1] if expandable else [0, 0])
    assert found.reserved == sum(block.size for pool in found._pools for block in pool.blocks.values())


def test_a_heap_takes_the_smallest_piece_that_holds_a_block_and_grows_only_at_its_end() -> None:
    """A block takes 64 bytes more than its tensor, and a piece that is to hold it has to be 64 larger than that."""
    heap = Heap()
    for name, size in enumerate((4096, 1024, 8192, 1024)):
        heap.allocate(name, size)
    whole = 4096 + 1024 + 8192 + 1024 + 4 * 64
    heap.release(0)
    heap.release(2)
    heap.allocate(4, 2048)  # into the first piece
    heap.allocate(5, 6144)  # into the second
    assert heap.peak_reserved == whole
    heap.allocate(6, 3072)  # some 2,000 are left of each, and neither holds it
    assert heap.peak_reserved == whole + 3072 + 64
    assert heap.allocated == 1024 + 1024 + 2048 + 6144 + 3072 + 5 * 64


def test_a_block_does_not_fit_where_one_of_its_size_was_unless_a_neighbour_is_free() -> None:
    held = Heap()
    for name in range(3):
        held.allocate(name, 4096)
    held.release(1)
    held.allocate(3, 4096)
    assert held.reserved == 4 * (4096 + 64)
    held.release(3)
    held.release(2)
    held.allocate(4, 4096)
    held.allocate(5, 4096)
    assert held.reserved == 4 * (4096 + 64)


def test_segments_that_are_free_are_given_back_before_a_card_is_full() -> None:
    pool = Allocator(limit=100 * MIB)
    for name, size in enumerate((40, 50)):
        pool.allocate(name, size * MIB)
    pool.release(0)
    pool.allocate(2, 50 * MIB)
    assert (pool.reserved, pool.peak_reserved) == (100 * MIB, 100 * MIB)
    pool.release(1)
    pool.allocate(3, 30 * MIB)  # a part of the segment: the rest of it is held by that
    with pytest.raises(OutOfRoom):
        pool.allocate(4, 40 * MIB)


def stream(length: int) -> list[Segment]:
    """A loop of which all is as long as the micro-batch but the weights: logits, and what they are copied to."""
    logits = [Event(number, length * MIB, "logits") for number in (3, 4)]
    step = [[*logits, Event(5, length // 4 * MIB, "kept")], [Event(3, -1, ""), Event(4, -1, ""), Event(5, -1, "")]]
    again = [[e._replace(number=e.number + 3) for e in part] for part in step]
    parts = {"load": [Event(1, 100 * MIB, "weights")], "first forward": step[0], "first backward": step[1]}
    parts |= {"forward": again[0], "backward": again[1], "optimizer": [], "evaluation": []}
    return [Segment(phase, events) for phase, events in parts.items()]


def test_each_micro_batch_that_is_the_longest_so_far_is_taken_anew_beside_what_shorter_ones_left() -> None:
    lengths = Lengths(stream(80), stream(40), (80, 40))
    equal = 100 * MIB + (2 * 80 + 20) * MIB
    assert lengths.reserved([80]) == lengths.reserved([80, 40, 60, 48]) == equal
    assert lengths.reserved([40, 60, 80]) == 100 * MIB + 2 * (40 + 60 + 80) * MIB + 10 * MIB, "what is kept fits older blocks"
    assert lengths.room([80]) < 1.02 * equal
    assert equal < lengths.room([40, 48, 60, 64, 72, 80]) < lengths.reserved([40, 48, 60, 64, 72, 80]), "free segments go back"


def test_longer_micro_batches_come_as_often_as_the_lengths_of_the_rows_have_it() -> None:
    evenly = rows_of(DataFacts(), 400)
    assert [evenly(share) for share in (0.5, 1.0)] == [200, 400]
    assert growing(400, 1, LONG, evenly)[:3] == [200, 300, 350]
    usual, long = (growing(400, 4, share, evenly) for share in (USUAL, LONG))
    assert usual[-1] == long[-1] == 400
    assert len(usual) < len(long) < 12
    counted = rows_of(DataFacts(tokens_p50=100, tokens_p95=400, tokens_max=500), 400)
    assert growing(400, 1, LONG, counted)[0] == 100
    cut = rows_of(DataFacts(tokens_p50=900, tokens_p95=2000, tokens_max=5000), 400)
    assert growing(400, 4, LONG, cut) == [400], "all are cut at the same length"
