"""Packing: the sequences of a micro-batch laid end to end in one row, with positions that start anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.worker.attention import keywords

IGNORED = -100
"""Label of a token that is read and not learned (the loss functions of torch and transformers know it)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences of one micro-batch for a causal language model."""

    input_ids: torch.Tensor
    """(1, T)."""
    position_ids: torch.Tensor
    """(1, T), from 0 in every sequence."""
    lengths: tuple[int, ...]
    """Of the sequences; their sum is T."""
    predicting: torch.Tensor
    """(N,): the tokens whose next token is learned."""
    targets: torch.Tensor
    """(N,): those next tokens."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Keywords of the model's body."""
        rest = keywords(self.lengths, self.input_ids.device)
        return {"input_ids": self.input_ids, "position_ids": self.position_ids, "use_cache": False, **rest}


def learned(labels: Sequence[int]) -> int:
    """How many tokens of a sequence carry loss: the first has nothing before it that could predict it."""
    return sum(label != IGNORED for label in labels[1:])


def pack(input_ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Packed:
    """The sequences in one row. `labels` are as long as the ids, not shifted, `IGNORED` where nothing is learned."""
    lengths = tuple(map(len, input_ids))
    ids = torch.tensor([i for row in input_ids for i in row], dtype=torch.long)
    positions = torch.cat([torch.arange(n) for n in lengths])
    target = torch.tensor([i for row in labels for i in row], dtype=torch.long)
    target[positions == 0] = IGNORED
    carrying = (target != IGNORED).nonzero()[:, 0]
    return Packed(
        ids[None].to(device), positions[None].to(device), lengths, (carrying - 1).to(device), target[carrying].to(device)
    )


def cut_packed(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of micro-batches of at most `token_budget` tokens each, at least one row, and as equal as they can be.

    Nothing is padded, so their number is what costs: as few as first-fit needs, then each row, the longest first, to the
    micro-batch that is emptiest.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    least = max(1, -(-sum(lengths) // token_budget))
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
