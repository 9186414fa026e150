"""Dropout on a CPU with cheaper random numbers: 16 bits an element instead of a double.

torch draws a double for every element, one after the other: on short texts a tenth of a training step. Sixteen bits say
"keep" with a probability that is right to 1/65,536, and what is kept is divided by exactly that probability, so the
expectation is untouched.
"""

from typing import Any

import torch
from torch import nn

from engine.worker.devices import kind_of

STEPS = 2**16
"""Values of 16 bits."""


def share_kept(p: float) -> float:
    """The share that `draw` keeps on average, exactly.

    Raises:
        ValueError: `p` leaves nothing.
    """
    dropped = min(round(p * STEPS), STEPS)
    if dropped == STEPS:
        raise ValueError("a dropout of 1 leaves nothing to learn from")
    return 1 - dropped / STEPS


def draw(kept: torch.Tensor, p: float) -> torch.Tensor:
    """Fill `kept` (uint8, contiguous) with zeros, of probability `p`, and ones, from torch's own generator."""
    dropped = round((1 - share_kept(p)) * STEPS)
    if not dropped:
        return kept.fill_(1)
    least = dropped - STEPS // 2  # of the 16-bit numbers that keep
    drawn = torch.empty((kept.numel() + 3) // 4, dtype=torch.int64, device=kept.device).random_(-(2**63), None).view(torch.int16)
    # 0 and 1 by arithmetic, which torch does eight numbers at a time; a comparison, one by one, takes four times as long.
    return kept.copy_(drawn[: kept.numel()].clamp_(least - 1, least).sub_(least - 1).view(kept.shape))


class _Dropped(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        kept, ctx.share = draw(torch.empty(x.shape, dtype=torch.uint8, device=x.device), p), share_kept(p)
        ctx.save_for_backward(kept)
        return x.mul(kept).mul_(1 / ctx.share)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return outer[0].mul(kept).mul_(1 / ctx.share), None


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """`x` with a share of about `p` set to zero and the rest scaled up, as while training; `x` on a CPU."""
    found: torch.Tensor = _Dropped.apply(x, p)
    return found


def hasten(model: nn.Module) -> int:
    """Give every `nn.Dropout` of the model the cheaper random numbers; how many got them. On other devices it stays as it was."""
    hastened = 0
    for module in model.modules():
        if type(module) is nn.Dropout and 0 < module.p < 1:
            module.forward = _forward_of(module)
            hastened += 1
    return hastened


def _forward_of(module: nn.Dropout) -> Any:
    usual = module.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not module.training or kind_of(x.device) != "cpu" or not x.is_floating_point():
            found: torch.Tensor = usual(x)
            return found
        return dropout(x, module.p)

    return forward
