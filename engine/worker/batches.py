"""The logical batch: what the mathematics sees, and how memory cuts it into micro-batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

OVERHEAD = {"cpu": 48, "cuda": 8192}
"""What one more micro-batch costs beside its tokens, in padded tokens: adding its gradients to the others', and the calls
themselves. About 40 ms of 1 ms tokens for MiniLM on 2 cores. On an H100 launching the kernels dominates: 45 ms for BERT-base,
as long as 30,000 of its tokens take, and 150 ms for 8 billion parameters, as long as 2,000 of theirs (benchmarks/gpu)."""

TYPE = 2**32
"""A token's type stands above its id, which is smaller than that in any vocabulary."""


@dataclass(frozen=True, slots=True)
class LogicalBatch:
    """Rows of one optimizer step, unpadded. Not a mapping, so that nothing moves or pads it on the way."""

    input_ids: list[list[int]]
    targets: list[Any]
    """What the task's loss compares with, a row each."""

    @property
    def tokens(self) -> int:
        """Tokens that are read, padding not counted."""
        return sum(map(len, self.input_ids))


def collate(rows: Sequence[dict[str, Any]]) -> LogicalBatch:
    """Rows of the dataset as one logical batch."""
    return LogicalBatch([list(r["input_ids"]) for r in rows], [r["targets"] for r in rows])


def cut(lengths: Sequence[int], token_budget: int, overhead: int = OVERHEAD["cpu"]) -> list[list[int]]:
    """Indices of micro-batches: sorted by length, at most `token_budget` padded tokens each, at least one row.

    Among all such cuts the one with the least padded tokens, where every micro-batch costs `overhead` tokens more. The
    longest come first, so that the largest blocks are asked for while memory is least fragmented.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    n = len(order)
    cost = np.zeros(n + 1)  # of the first rows in that order, cut at best
    start = np.zeros(n + 1, dtype=int)  # where the last micro-batch of that best cut begins
    padded_to = np.array([max(lengths[i], 1) for i in order])
    most = np.maximum(token_budget // padded_to, 1) if n else padded_to  # rows that a micro-batch beginning here may hold
    first = 0
    for end in range(1, n + 1):
        while first + most[first] < end:  # lengths fall, so whatever was too far back stays so
            first += 1
        begin = np.arange(first, end)
        total = cost[begin] + padded_to[begin] * (end - begin) + overhead
        best = int(total.argmin())
        cost[end], start[end] = total[best], begin[best]
    pieces: list[list[int]] = []
    while n:
        pieces.append(order[start[n] : n])
        n = int(start[n])
    return pieces[::-1]


def typed(input_ids: Sequence[int], token_types: Sequence[int]) -> list[int]:
    """Ids that carry the type of their token, for models that tell the two texts of a pair apart by it; `padded` parts them.

    One number a token, so that everything between (tables, micro-batches, lengths) need not know of types.
    """
    return [i + TYPE * kind for i, kind in zip(input_ids, token_types, strict=True)]


def padded(input_ids: Sequence[Sequence[int]], pad: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both (rows, longest), padded on the right; `token_type_ids` where ids carry any."""
    longest = max(map(len, input_ids))
    ids = torch.full((len(input_ids), longest), pad, dtype=torch.long)
    mask = torch.zeros((len(input_ids), longest), dtype=torch.long)
    for i, row in enumerate(input_ids):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if int(ids.max()) >= TYPE:
        batch |= {"input_ids": ids % TYPE, "token_type_ids": ids // TYPE}
    return {name: tensor.to(device) for name, tensor in batch.items()}


class EpochPermutation(Sampler[int]):  # type: ignore[misc]  # mypy does not read torch here
    """A permutation of the rows that depends on seed and epoch only, so that a resumed run sees the same order."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
        return iter(torch.randperm(self.rows, generator=generator).tolist())


def mixed(seed: int, number: int) -> int:
    """One 63-bit seed from a seed and a step or epoch; neighbours land far apart (splitmix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1
