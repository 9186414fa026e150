"""Packing: the sequences of a micro-batch laid end to end in one row, with positions that start anew.

What sequences begin with alike (a system prompt, the question of two answers) says the same of every one of them: a causal model
has read nothing else before it. It may lie in the row once. Its gradient is then the sum of what all of them would give it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from engine.worker.attention import keywords

IGNORED = -100
"""Label of a token that is read and not learned (the loss functions of torch and transformers know it)."""
WORTH = 1 / 32
"""The share of a micro-batch's tokens that must be common beginnings before they are read once; taking them apart costs too."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences of one micro-batch for a causal language model."""

    input_ids: torch.Tensor
    """(1, T)."""
    position_ids: torch.Tensor
    """(1, T), from 0 in every sequence."""
    lengths: tuple[int, ...]
    """Of the sequences; their sum is T, and what they share."""
    shared: tuple[int, ...] | None
    """How many tokens each sequence begins with that the one before it begins with too, and which lie there only."""
    predicting: torch.Tensor
    """(N,): the tokens whose next token is learned."""
    targets: torch.Tensor
    """(N,): those next tokens."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Keywords of the model's body."""
        rest = keywords(self.lengths, self.input_ids.device, self.shared)
        return {"input_ids": self.input_ids, "position_ids": self.position_ids, "use_cache": False, **rest}


def learned(labels: Sequence[int]) -> int:
    """How many tokens of a sequence carry loss: the first has nothing before it that could predict it."""
    return sum(label != IGNORED for label in labels[1:])


def pack(
    input_ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], device: torch.device | str = "cpu", *, once: bool = False
) -> Packed:
    """The sequences in one row. `labels` are as long as the ids, not shifted, `IGNORED` where nothing is learned.

    `predicting` and `targets` are in the order of the sequences given; the row has another where common beginnings lie in it
    `once`.
    """
    order, shared = list(range(len(input_ids))), [0] * len(input_ids)
    if once:
        # In this order a sequence has with none before it more in common than with the last.
        alike = sorted(order, key=lambda i: list(input_ids[i]))
        common = [0, *(_in_common(input_ids[a], input_ids[b]) for a, b in pairwise(alike))]
        if sum(common) >= WORTH * sum(map(len, input_ids)):
            order, shared = alike, common
    ids: list[int] = []
    positions: list[int] = []
    places: list[list[int]] = [[]] * len(order)  # of each sequence's tokens in the row
    last: list[int] = []
    for i, known in zip(order, shared, strict=True):
        last = places[i] = [*last[:known], *range(len(ids), len(ids) + len(input_ids[i]) - known)]
        ids += input_ids[i][known:]
        positions += range(known, len(input_ids[i]))
    next_to = torch.tensor([place for at in places for place in at[:-1]], dtype=torch.long)
    targets = torch.tensor([label for row in labels for label in row[1:]], dtype=torch.long)
    carrying = (targets != IGNORED).nonzero()[:, 0]
    return Packed(
        torch.tensor([ids], dtype=torch.long).to(device),
        torch.tensor([positions], dtype=torch.long).to(device),
        tuple(len(input_ids[i]) for i in order),
        tuple(shared) if any(shared) else None,
        next_to[carrying].to(device),
        targets[carrying].to(device),
    )


def _in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def cut_packed(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of micro-batches of at most `token_budget` tokens each, at least one row, and as equal as they can be.

    Nothing is padded, so their number is what costs: as few as will do where each row, the longest first, goes to the
    micro-batch that is emptiest.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    least = max(1, -(-sum(min(tokens, token_budget) for tokens in lengths) // token_budget))
    for count in range(least, len(lengths) + 1):
        pieces: list[list[int]] = [[] for _ in range(count)]
        full = [0] * count
        for i in order:
            emptiest = full.index(min(full))
            pieces[emptiest].append(i)
            full[emptiest] += lengths[i]
        if all(tokens <= token_budget or len(piece) == 1 for tokens, piece in zip(full, pieces, strict=True)):
            return [piece for piece in pieces if piece]
    return [[i] for i in order]
