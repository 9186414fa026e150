"""The memory of Liger's fused head and loss: gradients with the first pass, logits of one piece of the tokens at a time."""

from typing import Any

import torch
from torch.nn import functional


def fused_loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A scalar. `hidden` (rows, length, width), `weight` (vocabulary, width)."""
    found: torch.Tensor = _Fused.apply(hidden.reshape(-1, hidden.shape[-1]), weight)
    return found


class _Fused(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """As liger_kernel/ops/fused_linear_cross_entropy.py asks for memory."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tokens, width = hidden.shape
        pieces = max(-(-weight.shape[0] // width), 1)
        chunk = 1 << (max(-(-tokens // pieces), 1) - 1).bit_length()
        by_hidden = torch.zeros_like(hidden)
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        losses = torch.zeros(tokens, dtype=torch.float32, device=hidden.device)
        for begin in range(0, tokens, chunk):
            part = hidden[begin : begin + chunk]
            logits = functional.linear(part, weight).contiguous()
            by_hidden[begin : begin + chunk] = logits @ weight
            if by_weight is not None:
                by_weight += torch.mm(logits.t(), part)
        ctx.found = (by_hidden, by_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        found, ctx.found = ctx.found, None
        return tuple(None if g is None else g.mul_(outer[0]) for g in found)
