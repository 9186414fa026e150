"""Attention over sequences laid end to end, a few at a time: those of like length together, padded to the longest of them.

One call for each sequence pays for every call: on short texts a third of a step on a CPU, more on a GPU. One call for all
pays for the padding. A group of one sequence is a slice, nothing is copied.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from engine.worker import dropout, tiled
from engine.worker.devices import kind_of
from engine.worker.layout import gathered, layout, repeated, spread
from recommender.tiles import TILE


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    lengths: tuple[int, ...],
    p: float,
    scaling: float | None,
    causal: bool,
    window: int | None,
    shared: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Query (1, heads, T, width), key and value (1, key heads, T, width); `p` is the dropout. Returns (1, T, heads, width).

    What is `shared` (as in `packing.Packed`) is for causal attention, which sees the same before it in every sequence: each
    token's answer is that of the first.
    """
    way = layout(lengths, query.device, shared)
    rows = [t[0].transpose(0, 1) for t in (query, key, value)]  # (T, heads, width)
    if way.shared is not None:
        rows = [repeated(t, way, read=i > 0) for i, t in enumerate(rows)]
    elif way.places is not None:
        rows = [spread(t, way.places, way.size) for t in rows]
    groups = zip(way.shapes, way.hidden, strict=True)
    seen = [_visible(longest, hidden, window, causal, query.device) for (_, longest), hidden in groups]
    if p and kind_of(query.device) == "cpu" and query.shape[1] == key.shape[1]:
        if causal:
            pairs = zip(way.shapes, seen, strict=True)
            seen = [band(n, n, True, query.device) if mask is None else mask for (_, n), mask in pairs]
        joined = _Attended.apply(*rows, way.shapes, seen, p, _scale(query, scaling))
    else:
        found = []
        for shape, mask, *parts in zip(way.shapes, seen, *_groups(way.shapes, *rows), strict=True):
            q, k, v = (t.unflatten(0, shape).transpose(1, 2) for t in parts)
            out = _attend_padded(q, k, v, mask, p=p, scaling=scaling, causal=causal and mask is None)
            found.append(out.transpose(1, 2).flatten(0, 1))
        joined = torch.cat(found) if len(found) > 1 else found[0]
    out = joined if way.places is None else gathered(joined, way.places)
    return out.unsqueeze(0)


def _attend_padded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    p: float,
    scaling: float | None,
    causal: bool,
) -> torch.Tensor:
    """Attention of sequences of one length, (sequences, heads, length, width), by the kernel that is fastest here."""
    if causal and not p and kind_of(query.device) == "cpu" and tiled.pays(query.shape[2], query.dtype):
        return tiled.attend(query, key, value, _scale(query, scaling))
    fewer = query.shape[1] // key.shape[1]
    if fewer > 1 and not takes_groups(query, key, mask, p, causal):
        key, value = (t.repeat_interleave(fewer, 1) for t in (key, value))
    grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(
        query, key, value, mask, p, is_causal=causal, scale=scaling, enable_gqa=grouped
    )


def _scale(query: torch.Tensor, scaling: float | None) -> float:
    return scaling if scaling is not None else query.shape[-1] ** -0.5


def attend_from(
    read: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    lengths: tuple[int, ...],
    p: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one token of each sequence to all of it: query (1, heads, R, width) of the tokens `read`, (R,); key and value
    (1, heads, T, width). Returns (1, R, heads, width).
    """
    way = layout(lengths, query.device)
    rows = [t[0].transpose(0, 1) for t in (key, value)]
    asked = query[0].transpose(0, 1)
    order = None
    if way.places is not None:
        rows = [spread(t, way.places, way.size) for t in rows]
        order = way.places.index_select(0, read).argsort()
        asked = asked.index_select(0, order)
    found = []
    for shape, hidden, q, k, v in zip(
        way.shapes,
        way.hidden,
        asked.split([n for n, _ in way.shapes]),
        *(t.split([n * longest for n, longest in way.shapes]) for t in rows),
        strict=True,
    ):
        k, v = (t.unflatten(0, shape).transpose(1, 2) for t in (k, v))
        mask = None if hidden is None else ~hidden[:, None, None, :]
        found.append(functional.scaled_dot_product_attention(q.unsqueeze(2), k, v, mask, p, scale=scaling).squeeze(2))
    joined = torch.cat(found) if len(found) > 1 else found[0]
    return (joined if order is None else joined.index_select(0, order.argsort())).unsqueeze(0)


def takes_groups(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, p: float, causal: bool) -> bool:
    """Whether torch has a kernel here that keeps no scores and reads fewer heads of keys than of queries.

    On NVIDIA's cards before Ampere, in fp32 and beside a mask there is none. Another kernel can do it with repeated keys, which
    take as much as the queries; the scores of 1,024 tokens take 16 times that, or 32 in fp32.
    """
    if kind_of(query.device) != "cuda":
        return True
    asked = torch.backends.cuda.SDPAParams(query, key, key, mask, p, causal, True)
    fused = (torch.backends.cuda.can_use_flash_attention, torch.backends.cuda.can_use_efficient_attention)
    return any(can(asked) for can in fused)


def _visible(
    length: int, hidden: torch.Tensor | None, window: int | None, causal: bool, device: torch.device
) -> torch.Tensor | None:
    """Which keys a query sees, to broadcast to (sequences, heads, length, length); None where a flag says all.

    Padding stands behind a sequence, so a causal query never sees it. What a place of padding computes nobody reads.
    """
    near = band(length, window, causal, device) if window is not None and length > window else None
    if hidden is None or causal:
        return near
    seen = ~hidden[:, None, None, :]
    if near is None:
        return seen
    # A query far behind the end of its sequence would see nothing, and nothing of nothing is not a number.
    return (seen & near) | torch.eye(length, dtype=torch.bool, device=device)


class _Attended(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """Attention of all groups with dropout on its probabilities, on a CPU, where torch has no kernel of its own for it.

    Of (sequences, heads, length, length) it keeps the probabilities and a byte each for what was dropped, not four tensors, and
    works through them a tile at a time.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # torch hands on positions only
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        shapes: Sequence[tuple[int, int]],
        seen: Sequence[torch.Tensor | None],
        p: float,
        scale: float,
    ) -> torch.Tensor:
        """Query, key and value as rows, (P, heads, width), and which keys a query sees, a mask a group; returns such rows."""
        ctx.known = (shapes, share := 1 - p, scale, [t.shape[2] for t in (query, key, value)])
        found = value.new_empty(value.shape)
        saved: list[torch.Tensor] = []
        with torch.autocast("cpu", enabled=False):
            for shape, mask, answer, *rows in zip(shapes, seen, *_groups(shapes, found, query, key, value), strict=True):
                # Of one sequence that would be a slice, and would keep the rows of all groups beside the other groups' copies.
                q, k, v = (_by_head(t, shape).contiguous() for t in rows)
                probabilities = q.new_empty((len(q), shape[1], shape[1]))
                kept = torch.empty_like(probabilities, dtype=torch.int8)
                out = v.new_empty(v.shape)
                unseen = None  # added: filling through a mask takes ten times as long
                if mask is not None:
                    unseen = q.new_zeros(mask.shape).masked_fill_(~mask, float("-inf")).expand(shape[0], 1, *mask.shape[-2:])
                for part, sequences in _tiles(shape[0], query.shape[1], shape[1]):
                    scores = _products(q[part], k[part].transpose(1, 2), scale)
                    if unseen is not None:
                        scores.unflatten(0, (sequences.stop - sequences.start, -1)).add_(unseen[sequences])
                    torch.softmax(scores, -1, out=probabilities[part])
                    stays = dropout.bits_of(dropout.draw(kept[part], p), scores)
                    _products(dropout.masked(probabilities[part], stays, scores), v[part], 1 / share, out[part])
                _into_rows(out, answer, shape)
                saved += [q, k, v, probabilities, kept]
        ctx.save_for_backward(*saved)
        return found

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        shapes, share, scale, widths = ctx.known
        saved = iter(ctx.saved_tensors)
        (gradient,) = outer
        found = [gradient.new_empty((*gradient.shape[:2], width)) for width in widths]
        for shape, outside, *answers in zip(shapes, *_groups(shapes, gradient, *found), strict=True):
            q, k, v, probabilities, kept = (next(saved) for _ in range(5))
            outside = _by_head(outside, shape)
            by_query, by_key, by_value = (t.new_empty(t.shape) for t in (q, k, v))
            for part, _ in _tiles(shape[0], gradient.shape[1], shape[1]):
                likely = probabilities[part]
                stays = dropout.bits_of(kept[part], likely)
                _products(dropout.masked(likely, stays).transpose(1, 2), outside[part], 1 / share, by_value[part])
                by_probability = _products(outside[part], v[part].transpose(1, 2), 1 / share)
                dropout.masked(by_probability, stays, by_probability)
                by_score = torch._softmax_backward_data(by_probability, likely, -1, likely.dtype)
                _products(by_score, k[part], scale, by_query[part])
                _products(by_score.transpose(1, 2), q[part], scale, by_key[part])
            for t, answer in zip((by_query, by_key, by_value), answers, strict=True):
                _into_rows(t, answer, shape)
        return *found, None, None, None, None


def _groups(shapes: Sequence[tuple[int, int]], *rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Each of (P, heads, width) as the rows of its groups."""
    return (t.split([n * longest for n, longest in shapes]) for t in rows)


def _by_head(rows: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Rows of a group, (sequences * length, heads, width), as (sequences * heads, length, width)."""
    return rows.unflatten(0, shape).transpose(1, 2).flatten(0, 1)


def _into_rows(found: torch.Tensor, rows: torch.Tensor, shape: tuple[int, int]) -> None:
    """The way back: into rows that are there already."""
    rows.unflatten(0, shape).transpose(1, 2).copy_(found.unflatten(0, (shape[0], -1)))


def _products(a: torch.Tensor, b: torch.Tensor, factor: float, out: torch.Tensor | None = None) -> torch.Tensor:
    """(B, n, m) times (B, m, k) times a number, which costs nothing inside a product."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=factor, out=out)


def _tiles(sequences: int, heads: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Which of (sequences * heads) matrices are computed together, and the sequences that they belong to.

    On all heads at once of long rows softmax and dropout took three times as long, and the products half as long again.
    """
    at_once = max(TILE // length**2, 1)
    if at_once >= heads:
        step = at_once // heads
        for s in range(0, sequences, step):
            end = min(s + step, sequences)
            yield slice(s * heads, end * heads), slice(s, end)
        return
    for s in range(sequences):
        for h in range(0, heads, at_once):
            yield slice(s * heads + h, s * heads + min(h + at_once, heads)), slice(s, s + 1)


@lru_cache(maxsize=8)
def band(length: int, window: int, causal: bool, device: torch.device) -> torch.Tensor:
    """Which keys a query sees, (length, length): those less than `window` away, and none after it where causal."""
    with torch.inference_mode(False):  # it is kept: first made while scoring, it must serve in training too
        distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)[None, :]
        return (distance < window) & (distance >= 0 if causal else distance > -window)
