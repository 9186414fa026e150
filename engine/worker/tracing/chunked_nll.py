"""The losses that TRL's SFTTrainer takes by itself. From 1.7 to 1.14 (`loss_type="chunked_nll"`) the product of the head for 256
learned tokens at a time, and once more on the way back (trl/trainer/sft_trainer.py, `_chunked_cross_entropy_loss`); since 1.15 a
tile of tokens and words at a time (trl/kernels/chunked_logprob.py, `ChunkedLogProbFunction`)."""

from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.worker.token_loss import Head

CHUNK = 256
"""Learned tokens whose logits exist at once."""
NARROW = (1, 13)
"""The first version of TRL that multiplies in the type of the hidden states, and makes only the logits fp32."""


TILE = (4096, 32_768)
"""Learned tokens and words of a tile."""


def chunked_nll(
    hidden: torch.Tensor, head: Head, labels: torch.Tensor, *, learned: float = 1.0, wide: bool = False
) -> torch.Tensor:
    """Sum of the cross-entropies of the next tokens, a scalar in fp32. `hidden` (rows, tokens, size), `labels` (rows, tokens), of
    which the share `learned` carries loss; `wide` as before `NARROW`.

    Where they are one chunk, the gradient of a head that is the embedding too is a view, to which autograd cannot add the
    embedding's own in place.
    """
    flat, told = hidden[..., :-1, :].reshape(-1, hidden.shape[-1]), labels[..., 1:].reshape(-1)
    order = (told != -100).to(torch.int8).argsort(descending=True, stable=True)  # learned tokens come first
    chunks = max(-(-round(learned * told.numel()) // CHUNK), 1)
    flat, told = flat[order][: chunks * CHUNK], told[order][: chunks * CHUNK]
    total = flat.new_zeros((), dtype=torch.float32)
    for part, target in zip(flat.split(CHUNK), told.split(CHUNK), strict=True):
        given = (part, head.module.weight, target, head.scale, head.softcap, wide)
        total = total + checkpoint(_part, *given, use_reentrant=False)[0]
    return total


def _part(  # noqa: PLR0917 - checkpoint passes no keywords on to where they count
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, scale: float, softcap: float | None, wide: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, right answers and entropy, which are measured in the same pass."""
    logits = hidden.float() @ weight.float().t() if wide else (hidden @ weight.to(hidden.dtype).t()).float()
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    likely = functional.log_softmax(logits, dim=-1)
    loss, counts = functional.nll_loss(likely, labels, reduction="sum"), labels != -100
    right = ((logits.argmax(dim=-1) == labels) & counts).sum().float()
    return loss, right, (-(likely.exp() * likely).sum(dim=-1) * counts).sum()


def tiled_nll(hidden: torch.Tensor, head: Head, labels: torch.Tensor, *, learned: float = 1.0) -> torch.Tensor:
    """The same as TRL has it since `step.TILED`: a scalar of the same arguments."""
    rows, length = labels[..., 1:].shape
    told = max(round(learned * rows * length), 1)
    of_row, place = torch.empty((2, told), dtype=torch.long, device=hidden.device).unbind()
    found: torch.Tensor = _Tiled.apply(hidden[:, :-1][of_row, place], head.module.weight)
    return -hidden.new_zeros((rows, length), dtype=torch.float32).masked_scatter(labels[..., 1:] != -100, found).sum()


class _Tiled(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """What the kernel asks for: likelihoods of the learned tokens from running sums; gradients are summed in fp32."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        kind, tokens = hidden.device.type, hidden.shape[0]
        ctx.computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        sums = [torch.empty(tokens, dtype=torch.float32, device=hidden.device) for _ in range(7)]
        for _ in _tiles(hidden, weight, ctx.computed):
            pass
        likely, entropy, normaliser = (torch.empty_like(sums[0]) for _ in range(3))
        ctx.save_for_backward(hidden, weight, normaliser, entropy)
        return likely

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        hidden, weight, *_ = ctx.saved_tensors
        by_hidden, by_weight = (
            torch.zeros_like(t, dtype=torch.float32) if needed else None
            for t, needed in zip((hidden, weight), ctx.needs_input_grad, strict=True)
        )
        for tile, tokens, words, part, rows in _tiles(hidden, weight, ctx.computed):
            if by_hidden is not None:
                _add(by_hidden[tokens], tile, rows)
            if by_weight is not None:
                _add(by_weight[words], tile.t(), part)
        found = zip((by_hidden, by_weight), (hidden, weight), strict=True)
        return tuple(None if g is None else g.to(t.dtype) for g, t in found)


def _tiles(hidden: torch.Tensor, weight: torch.Tensor, computed: torch.dtype) -> Any:
    """Each product of some tokens with some words, in the place of the one before: it, which they are, and both factors."""
    buffer = torch.empty((min(hidden.shape[0], TILE[0]), TILE[1]), dtype=computed, device=hidden.device)
    for first in range(0, hidden.shape[0], TILE[0]):
        tokens = slice(first, first + TILE[0])
        part = hidden[tokens].to(computed)
        for start in range(0, weight.shape[0], TILE[1]):
            words = slice(start, start + TILE[1])
            rows = weight[words].to(computed)
            tile = buffer[: part.shape[0], : rows.shape[0]]
            torch.mm(part, rows.t(), out=tile)
            yield tile, tokens, words, part, rows
            del rows


def _add(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """`total += a @ b`, which is summed in fp32 whatever type the factors have: they are not copied for it."""
    total.addmm_(*(torch.empty(1, device=t.device).expand(t.shape) for t in (a, b)))
