"""Causal attention on a CPU, a tile of queries at a time; each tile reads only the keys before its end.

torch's flash kernel for the CPU is slow in bf16 there and back: 10.7 ms for 8 rows of 40 tokens, 16.5 ms for one of 378 (9 heads,
3 of keys; Zen 4), where this takes 2.5 and 11. In fp32 it saves a quarter of 378 tokens and nothing of less than 128. Products
are in fp32 whatever comes in: those in 16 bit cost a kernel of oneDNN for every length, 0.8 ms and 1 MB each.
"""

from collections.abc import Iterator
from typing import Any

import torch

QUERIES = 64
"""Of a tile."""
TILE = 2**19
"""Scores worked on together: 2 MB in fp32, which stay in the caches."""
LEAST = 128
"""Tokens from which it is faster in fp32."""
KEPT = 512
"""Tokens up to which keeping the probabilities (their lower half) costs little memory beside a layer's other activations."""


def pays(longest: int, dtype: torch.dtype) -> bool:
    """Whether it is faster than torch's own kernel on sequences of that length."""
    return dtype in (torch.bfloat16, torch.float16) or (dtype == torch.float32 and longest >= LEAST)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Query (sequences, heads, length, width), key and value (sequences, key heads, length, their width); as the query.

    Every place sees itself and those before it. Of sequences longer than `KEPT` nothing of (length, length) is kept for the way
    back; of others the probabilities are, in the query's type.
    """
    found: torch.Tensor = _Attended.apply(query, key, value, scale)
    return found


class _Attended(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """The query heads of one key head lie side by side, (matrices, length * shared, width): their products are one."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        n, heads, length, _ = query.shape
        shared = heads // key.shape[1]
        ctx.known = (n, length, shared, scale)
        with torch.autocast("cpu", enabled=False):
            q, k, v = _side_by_side(query, shared), _side_by_side(key, 1), _side_by_side(value, 1)
            out = q.new_empty((*q.shape[:2], v.shape[2]))
            unseen, kept = _unseen(length, q), []
            for some, begin, end in _tiles(len(q), shared, length):
                likely = _probabilities(q, k, unseen, some, begin, end, shared, scale)
                if length <= KEPT:
                    kept.append(likely.to(query.dtype))
                out[some, begin * shared : end * shared] = likely @ v[some, :end]
        ctx.save_for_backward(query, key, value, *kept)
        return _heads_first(out, n, shared, query.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        n, length, shared, scale = ctx.known
        query, key, value, *kept = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            q, gradient = _side_by_side(query, shared), _side_by_side(outer[0], shared)
            k, v = _side_by_side(key, 1), _side_by_side(value, 1)
            by_query, by_key, by_value = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            unseen = _unseen(length, q)
            for i, (some, begin, end) in enumerate(_tiles(len(q), shared, length)):
                rows = slice(begin * shared, end * shared)
                likely = kept[i].float() if kept else _probabilities(q, k, unseen, some, begin, end, shared, scale)
                outside = gradient[some, rows]
                by_value[some, :end].baddbmm_(likely.transpose(1, 2), outside)
                by_likely = outside @ v[some, :end].transpose(1, 2)
                by_score = torch._softmax_backward_data(by_likely, likely, -1, likely.dtype)
                by_query[some, rows] = torch.baddbmm(q.new_empty(()), by_score, k[some, :end], beta=0, alpha=scale)
                by_key[some, :end].baddbmm_(by_score.transpose(1, 2), q[some, rows], alpha=scale)
        return (
            _heads_first(by_query, n, shared, query.dtype),
            _heads_first(by_key, n, 1, key.dtype),
            _heads_first(by_value, n, 1, value.dtype),
            None,
        )


def _side_by_side(heads: torch.Tensor, shared: int) -> torch.Tensor:
    """(sequences, heads, length, width) to (sequences * heads / shared, length * shared, width), fp32, contiguous."""
    _, count, length, width = heads.shape
    apart = heads.unflatten(1, (count // shared, shared)).transpose(2, 3)
    return apart.to(torch.float32, memory_format=torch.contiguous_format).reshape(-1, length * shared, width)


def _heads_first(rows: torch.Tensor, n: int, shared: int, dtype: torch.dtype) -> torch.Tensor:
    """What `_side_by_side` made, back again; laid out a token after the other, as the layer behind reads it."""
    matrices, length, width = len(rows) // n, rows.shape[1] // shared, rows.shape[2]
    apart = rows.view(n, matrices, length, shared, width).permute(0, 2, 1, 3, 4)
    return apart.to(dtype, memory_format=torch.contiguous_format).reshape(n, length, -1, width).transpose(1, 2)


def _unseen(length: int, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of a tile's own keys, (tile, 1, tile)."""
    size = min(QUERIES, length)
    return like.new_full((size, size), float("-inf")).triu_(1)[:, None]


def _tiles(matrices: int, shared: int, length: int) -> Iterator[tuple[slice, int, int]]:
    """Which matrices are worked on together, and the first query of a tile and the one behind its last."""
    at_once = max(TILE // (shared * min(QUERIES, length) * length), 1)
    for first in range(0, matrices, at_once):
        for begin in range(0, length, QUERIES):
            yield slice(first, min(first + at_once, matrices)), begin, min(begin + QUERIES, length)


def _probabilities(  # noqa: PLR0917
    q: torch.Tensor, k: torch.Tensor, unseen: torch.Tensor, some: slice, begin: int, end: int, shared: int, scale: float
) -> torch.Tensor:
    """(matrices, queries * shared, end)."""
    rows = q[some, begin * shared : end * shared]
    scores = torch.baddbmm(q.new_empty(()), rows, k[some, :end].transpose(1, 2), beta=0, alpha=scale)
    size = end - begin
    scores.unflatten(1, (size, shared))[..., begin:].add_(unseen[:size, :, :size])
    return torch.softmax(scores, -1)
