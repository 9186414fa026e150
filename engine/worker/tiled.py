"""Causal attention on a CPU, a tile of queries at a time; each tile reads only the keys before its end.

torch's flash kernel for the CPU is slow in bf16 there and back: 10.7 ms for 8 rows of 40 tokens, 16.5 ms for one of 378 (9 heads,
3 of keys; Zen 4), where this takes 2.5 and 11. In fp32 it saves a quarter of 378 tokens and nothing of less than 128. Products
are in fp32 whatever comes in: those in 16 bit cost a kernel of oneDNN for every length, 0.8 ms and 1 MB each.
"""

from collections.abc import Iterator
from typing import Any

import torch

from recommender import tiles
from recommender.tiles import KEPT, QUERIES, TILE, Tile

NARROW = (torch.bfloat16, torch.float16)


def pays(longest: int, dtype: torch.dtype) -> bool:
    """Whether it is faster than torch's own kernel on sequences of that length."""
    return dtype in NARROW or (dtype == torch.float32 and tiles.pays(longest, narrow=False))


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
            work, kept = _Tiles(q, k, v, shared, scale), []
            for tile in _tiles(len(q), shared, length):
                likely = work.forward(tile, out, query.dtype)
                if likely is not None:
                    kept.append(likely)
                del likely  # nothing of a tile lives beside the next one
        ctx.save_for_backward(query, key, value, *kept)
        return _heads_first(out, n, shared, query.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        n, length, shared, scale = ctx.known
        query, key, value, *kept = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            q, gradient = _side_by_side(query, shared), _side_by_side(outer[0], shared)
            k, v = _side_by_side(key, 1), _side_by_side(value, 1)
            by = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            work = _Tiles(q, k, v, shared, scale)
            for i, tile in enumerate(_tiles(len(q), shared, length)):
                work.backward(tile, gradient, by, kept[i] if kept else None)
        return (
            _heads_first(by[0], n, shared, query.dtype),
            _heads_first(by[1], n, 1, key.dtype),
            _heads_first(by[2], n, 1, value.dtype),
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


def _tiles(matrices: int, shared: int, length: int) -> Iterator[Tile]:
    """A call's tiles; a trace looks on here."""
    return tiles.tiles(matrices, shared, length, TILE)


class _Tiles:
    """What all tiles of a call read, side by side and in fp32."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shared: int, scale: float) -> None:
        self._q, self._k, self._v, self._shared, self._scale = q, k, v, shared, scale
        self._unseen = _unseen(q.shape[1] // shared, q)

    def forward(self, tile: Tile, out: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
        """Write a tile of `out`; the probabilities in that type where they are to be kept."""
        likely = self._probabilities(tile)
        kept = likely.to(dtype) if self._q.shape[1] <= KEPT * self._shared else None
        some, rows = self._part(tile)
        out[some, rows] = likely @ self._v[some, : tile.end]
        return kept

    def backward(
        self, tile: Tile, gradient: torch.Tensor, by: tuple[torch.Tensor, torch.Tensor, torch.Tensor], kept: torch.Tensor | None
    ) -> None:
        """Write a tile of the gradient by queries, and add to those by keys and by values."""
        by_query, by_key, by_value = by
        some, rows = self._part(tile)
        likely = kept.float() if kept is not None else self._probabilities(tile)
        outside = gradient[some, rows]
        by_value[some, : tile.end].baddbmm_(likely.transpose(1, 2), outside)
        by_likely = outside @ self._v[some, : tile.end].transpose(1, 2)
        by_score = torch._softmax_backward_data(by_likely, likely, -1, likely.dtype)
        by_query[some, rows] = torch.baddbmm(
            gradient.new_empty(()), by_score, self._k[some, : tile.end], beta=0, alpha=self._scale
        )
        by_key[some, : tile.end].baddbmm_(by_score.transpose(1, 2), self._q[some, rows], alpha=self._scale)

    def _part(self, tile: Tile) -> tuple[slice, slice]:
        """The tile's matrices, and its rows in them."""
        return slice(tile.first, tile.behind), slice(tile.begin * self._shared, tile.end * self._shared)

    def _probabilities(self, tile: Tile) -> torch.Tensor:
        """(matrices, queries * shared, end)."""
        some, rows = self._part(tile)
        before = self._k[some, : tile.end].transpose(1, 2)
        scores = torch.baddbmm(before.new_empty(()), self._q[some, rows], before, beta=0, alpha=self._scale)
        size = tile.end - tile.begin
        scores.unflatten(1, (size, self._shared))[..., tile.begin :].add_(self._unseen[:size, :, :size])
        return torch.softmax(scores, -1)
