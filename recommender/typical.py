"""The sequences of an everyday micro-batch: what a step takes on average is theirs, where its memory is the longest ones'."""

import math
from itertools import pairwise

from recommender.facts import DataFacts, Facts
from recommender.footprint import Step
from recommender.largest import longest_sequence, together

RARE = 0.05
"""Of rows, those that are shorter than p50 by as much as p95 is longer; the shortest are taken to be like them."""


def micro_batch(facts: Facts, step: Step) -> list[int]:
    """Tokens of each sequence, the rows' lengths evenly drawn; of preferences two alike are a pair."""
    longest, unit = longest_sequence(facts, step.length), together(facts)
    if facts.data.task == "continued_pretraining" or facts.data.tokens_p50 is None:
        return [longest] * max(step.micro_tokens // max(longest, 1), 1)
    many = _lengths(facts.data, 100, longest)
    full = step.micro_tokens * len(many) / (unit * sum(many))
    count = step.batch / math.ceil(step.batch / full) if step.batch else full  # cut as evenly as can be
    return [n for n in _lengths(facts.data, max(int(count), 1), longest) for _ in range(unit)]


def _lengths(data: DataFacts, count: int, longest: int) -> list[int]:
    """So many lengths at even shares of the rows, between the counted ones as if their logarithms lay on straight lines."""
    half = max(data.tokens_p50 or 1, 1)
    upper = max(data.tokens_p95 or half, half)
    known = [(RARE, max(half * half / upper, 1.0)), (0.5, half), (0.95, upper)]
    known += [(share, most) for share, most in ((0.99, data.tokens_p99), (1.0, data.tokens_max)) if most and most >= upper]
    return [min(max(round(_at((i + 0.5) / count, known)), 1), longest) for i in range(count)]


def _at(share: float, known: list[tuple[float, float]]) -> float:
    if share <= known[0][0]:
        return known[0][1]
    for (a, low), (b, high) in pairwise(known):
        if share <= b:
            return math.exp(math.log(low) + (share - a) / (b - a) * math.log(high / low))
    return known[-1][1]
