"""The largest micro-batches that can occur, trained and scored: of them a step's memory is counted."""

from math import ceil
from typing import NamedTuple

from recommender import counting
from recommender.facts import Facts
from recommender.footprint import Step, loss_chunk

FULL = 0.9
"""Share of a micro-batch's tokens that its longest sequences leave filled, below which others are looked at."""
LISTED = 64
"""Of the longest rows, how many are counted one by one."""
GROWING = ("activations", "temporaries", "logits")
"""Parts that go by the tokens of a micro-batch."""


class Largest(NamedTuple):
    """A micro-batch of sequences of one length."""

    rows: int
    """Sequences."""
    length: int
    """Tokens of each."""
    accumulates: bool
    """Whether the logical batch is cut in several."""


def longest_sequence(facts: Facts, length: int) -> int:
    """Tokens of the longest sequence of a step that cuts at `length`."""
    if facts.data.task == "continued_pretraining":  # whose blocks are always full
        return length
    return min(length, facts.data.tokens_max or length)


def longest_unit(facts: Facts, length: int) -> int:
    """Tokens of what is never cut in two: a sequence; of preferences the chosen and the rejected text together."""
    return longest_sequence(facts, length) * together(facts)


def together(facts: Facts) -> int:
    """Sequences of what is never cut in two."""
    return 2 if facts.data.task == "preference" else 1


def largest_micro_batch(facts: Facts, step: Step, *, packed: bool) -> Largest:
    """Sequences of a step's largest micro-batch; whether sequences are `packed`, without padding.

    Then the longest rows of a logical batch, laid end to end, may all fit: no other batch has more tokens, nor longer ones beside
    each other. Else it is as full as the step's tokens allow. Where the longest sequences would leave much of it empty, it is
    taken for full of shorter ones, one unit more; blocks of raw text are all as long.
    """
    longest, unit = longest_sequence(facts, step.length), together(facts)
    batch = _longest_rows(facts, step) if packed else None
    if batch is not None and unit * batch[0] <= step.micro_tokens:
        tokens, squares = batch
        rows = max(tokens * tokens // max(squares, 1), 1)  # alike, they have as many tokens, and scores of attention
        rows += -(-tokens // rows) > longest
        return Largest(rows * unit, max(-(-tokens // rows), 1), False)
    rows = max(step.micro_tokens // max(longest * unit, 1), 1) * unit
    if rows * longest < FULL * step.micro_tokens and facts.data.task != "continued_pretraining":
        rows += unit
        longest = max(step.micro_tokens // rows, 1)
    return Largest(rows, longest, step.accumulates)


def scored(facts: Facts, step: Step, counted: dict[str, int], tokens: int, *, packed: bool) -> dict[str, int]:
    """Bytes of the parts that are there while rows are scored, `counted` of so many tokens. As many are scored at a time as the
    budget allows, and a logical batch may be far smaller."""
    times = max(step.scored / max(tokens, 1), 1.0)
    found = {name: int(size * (times if name in GROWING else 1)) for name, size in counted.items()}
    if packed and "logits" in found:  # which exist for so many tokens at most
        chunk = loss_chunk(facts.model.vocabulary_size or 1, cpu=facts.machine.device is None)
        share = counting.trained_tokens(facts.data) / max(facts.data.tokens_total or 0, 1) if facts.data.trained_tokens else 1.0
        found["logits"] = min(found["logits"], int(counted["logits"] * max(chunk / max(share * tokens, 1), 1)))
    return found


def least_filled(facts: Facts, step: Step, largest: Largest) -> float:
    """The share of a packed `largest` micro-batch, one of several, that is filled at least: the longest rows of a logical batch
    are parted evenly."""
    batch = _longest_rows(facts, step)
    if batch is None or not largest.accumulates:
        return 1.0
    tokens = together(facts) * batch[0]
    return min(tokens / ceil(tokens / step.micro_tokens) / (largest.rows * largest.length), 1.0)


def _longest_rows(facts: Facts, step: Step) -> tuple[int, int] | None:
    """Tokens of as many of the longest rows as a logical batch has, and the sum of their squares; `None` where nobody counted
    them. Of preferences those of one sequence a row."""
    data = facts.data
    known = [min(n, step.length) for n in data.longest_rows]
    if not known or data.longest_rows[0] != data.tokens_max or not step.batch or data.task == "continued_pretraining":
        return None
    some = known[: step.batch]
    further = max(min(step.batch, counting.once(data)) - LISTED, 0) if len(known) == LISTED else 0  # else these are all
    return sum(some) + further * some[-1], sum(n * n for n in some) + further * some[-1] ** 2
