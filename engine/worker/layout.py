"""Where the tokens of sequences laid end to end lie while attention is computed, and how they come there and back."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from engine.worker.batches import cut
from engine.worker.devices import kind_of
from recommender import largest

OVERHEAD = {"cpu": 32, "cuda": largest.OVERHEAD}
"""What one more group costs, in padded tokens."""
MOST = {"cpu": 4096, "cuda": 65_536}
"""Padded tokens of a group: beyond that its calls cost nothing beside its arithmetic."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tokens of a micro-batch lie in groups."""

    shapes: tuple[tuple[int, int], ...]
    """(sequences, longest) of each group; their products add up to P."""
    places: torch.Tensor | None
    """(T,): where each token lies among the P places of all groups; None where they are as they were. Of a token that several
    sequences share, where it lies in the first of them."""
    hidden: tuple[torch.Tensor | None, ...]
    """(sequences, longest) of each group: True where nothing lies; None for a group without padding."""
    shared: "Shared | None" = None
    """Where some tokens belong to several sequences."""

    @property
    def size(self) -> int:
        """P."""
        return sum(n * longest for n, longest in self.shapes)


@dataclass(frozen=True, slots=True)
class Shared:
    """How tokens that several sequences begin with come to all of their places, and their gradients back."""

    sources: torch.Tensor
    """(P,): the token of each place; any at places of padding, which nothing reads."""
    again: torch.Tensor
    """(E,): the places of a token in all sequences but its first."""
    tokens: torch.Tensor
    """(S,): the tokens that have such places."""
    which: torch.Tensor
    """(E,): which of these S lies at `again`."""


@lru_cache(maxsize=8)
def layout(lengths: tuple[int, ...], device: torch.device, shared: tuple[int, ...] | None = None) -> Layout:
    """The groups that cost least; `shared` as in `packing.Packed`."""
    kind = kind_of(device) if kind_of(device) in MOST else "cuda"
    groups = cut(lengths, MOST[kind], OVERHEAD[kind])
    shapes = tuple((len(group), lengths[group[0]]) for group in groups)
    in_order = [i for group in groups for i in group] == list(range(len(lengths)))
    if shared is None and in_order and sum(lengths) == sum(n * m for n, m in shapes):
        return Layout(shapes, None, (None,) * len(groups))
    with torch.inference_mode(False):  # kept: first made while scoring, it must serve in training too
        of_sequence: list[torch.Tensor] = [torch.empty(0)] * len(lengths)
        hidden: list[torch.Tensor | None] = []
        begin = 0
        for group, (n, longest) in zip(groups, shapes, strict=True):
            for place, i in enumerate(group):
                of_sequence[i] = torch.arange(lengths[i]) + begin + place * longest
            begin += n * longest
            sizes = torch.tensor([lengths[i] for i in group])
            padding = torch.arange(longest)[None, :] >= sizes[:, None]
            hidden.append(padding.to(device) if bool(padding.any()) else None)
        if shared is None:
            return Layout(shapes, torch.cat(of_sequence).to(device), tuple(hidden))
        own, ways = _taken_apart(of_sequence, shared, begin)
        apart = Shared(*(t.to(device) for t in ways))
        return Layout(shapes, own.to(device), tuple(hidden), apart)


def _taken_apart(
    of_sequence: list[torch.Tensor], shared: tuple[int, ...], size: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """From the places of the sequences those of `Layout` and the four of `Shared`."""
    sources = torch.zeros(size, dtype=torch.long)
    own, again, of_token = [], [], []
    last = torch.empty(0, dtype=torch.long)
    tokens = 0
    for places, known in zip(of_sequence, shared, strict=True):
        fresh = len(places) - known
        last = torch.cat([last[:known], torch.arange(tokens, tokens + fresh)])
        sources[places] = last
        own.append(places[known:])
        again.append(places[:known])
        of_token.append(last[:known])
        tokens += fresh
    repeated, which = torch.cat(of_token).unique(return_inverse=True)
    return torch.cat(own), (sources, torch.cat(again), repeated, which)


class _Spread(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """Rows to their places. What lies elsewhere has no gradient, which autograd does not know of an index."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor, size: int, fill: float) -> torch.Tensor:
        ctx.save_for_backward(places)
        shape = (size, *rows.shape[1:])
        return (rows.new_full(shape, fill) if fill else rows.new_zeros(shape)).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        return outer[0].index_select(0, ctx.saved_tensors[0]), None, None, None


class _Gathered(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """Rows from their places; each place is read once, so gradients are copied where `index_select` would add them up."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (gradient,) = outer
        return gradient.new_zeros((ctx.size, *gradient.shape[1:])).index_copy_(0, ctx.saved_tensors[0], gradient), None


class _Repeated(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """Rows to all of their places; the gradient of one is the sum of those at its places, in fp32."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor, shared: Shared, read: bool) -> torch.Tensor:
        ctx.save_for_backward(places)
        ctx.shared = shared if read else None
        return rows.index_select(0, shared.sources)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (gradient,), (places,), shared = outer, ctx.saved_tensors, ctx.shared
        found = gradient.index_select(0, places)
        if shared is not None:
            more = gradient.new_zeros((len(shared.tokens), *gradient.shape[1:]), dtype=torch.float32)
            more.index_add_(0, shared.which, gradient.index_select(0, shared.again).float())
            found.index_add_(0, shared.tokens, more.to(found.dtype))
        return found, None, None, None


def repeated(rows: torch.Tensor, way: Layout, *, read: bool) -> torch.Tensor:
    """(T, ...) to (P, ...): each at all its places. Where only the first of them is `read`, the others have no gradient."""
    found: torch.Tensor = _Repeated.apply(rows, way.places, way.shared, read)
    return found


def spread(rows: torch.Tensor, places: torch.Tensor, size: int, fill: float = 0.0) -> torch.Tensor:
    """(T, ...) to (size, ...): row i at `places[i]`, `fill` elsewhere. No place may be named twice."""
    found: torch.Tensor = _Spread.apply(rows, places, size, fill)
    return found


def gathered(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(P, ...) to (T, ...): what lies at `places`, none of which may be named twice."""
    found: torch.Tensor = _Gathered.apply(rows, places)
    return found
