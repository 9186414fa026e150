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
OVERHEAD = 512
"""Tokens of padding that attention on a card takes rather than one more call."""
OF_PADDING = 0.5
"""What a token of it takes at most, as a share of what a token of the text does: only attention has it (0.2 to 0.45 in traces of
BERT and Llama)."""
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
    if batch is not None and unit * sum(batch) <= step.micro_tokens:
        tokens = sum(batch)
        rows = max(tokens * tokens // max(sum(n * n for n in batch), 1), 1)  # alike, they have as many scores of attention
        tokens += ceil(OF_PADDING * _padding(facts, step, batch))
        rows = max(rows, ceil(tokens / longest))
        return Largest(rows * unit, max(ceil(tokens / rows), 1), False)
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
    tokens = together(facts) * sum(batch)
    return min(tokens / ceil(tokens / step.micro_tokens) / (largest.rows * largest.length), 1.0)


def _padding(facts: Facts, step: Step, batch: list[int]) -> int:
    """Tokens of padding at most while a card's attention reads the rows of a batch, those of like length together; none on a CPU,
    where it is little, nor where flash attention reads them as they lie."""
    if facts.machine.device is None or (step.precision.startswith("bf16") and facts.model.family == "decoder"):
        return 0
    whole = len(batch) * batch[0]
    parted = min((k * batch[0] + (len(batch) - k) * batch[k] for k in range(1, len(batch))), default=whole)
    return (whole if whole <= parted + OVERHEAD else parted) - sum(batch)


def _longest_rows(facts: Facts, step: Step) -> list[int] | None:
    """Tokens of as many of the longest rows as a logical batch has, the longest first; `None` where nobody counted them. Of
    preferences those of one sequence a row."""
    data = facts.data
    known = [min(n, step.length) for n in data.longest_rows]
    if not known or data.longest_rows[0] != data.tokens_max or not step.batch or data.task == "continued_pretraining":
        return None
    further = max(min(step.batch, counting.once(data)) - LISTED, 0) if len(known) == LISTED else 0  # else these are all
    return known[: step.batch] + further * known[-1:]
