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


def mask(shape: torch.Size, p: float, device: torch.device | None = None) -> tuple[torch.Tensor, float]:
    """Zeros with probability `p` and ones, uint8 of that shape, from torch's own generator; and the exact share of ones.

    Raises:
        ValueError: `p` leaves nothing.
    """
    dropped = min(round(p * STEPS), STEPS)
    if dropped == STEPS:
        raise ValueError("a dropout of 1 leaves nothing to learn from")
    count = shape.numel()
    drawn = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(-(2**63), None).view(torch.int16)
    kept = drawn[:count].ge(dropped - STEPS // 2).view(torch.uint8).view(shape)
    return kept, 1 - dropped / STEPS


class _Dropped(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        kept, share = mask(x.shape, p, x.device)
        ctx.save_for_backward(kept)
        ctx.share = share
        return x.mul(kept).mul_(1 / share)

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
