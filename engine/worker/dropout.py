"""Dropout on a CPU with cheaper random numbers: a byte an element instead of a double.

torch draws a double for every element, one after the other: on short texts a tenth of a training step. Here a byte decides. What
is dropped of a call is therefore a number of 256ths; where `p` lies between two, chance takes one of them for the whole call, so
that every element is dropped with a probability of exactly `p`.
"""

from typing import Any

import numpy as np
import torch
from numpy.random import SFC64
from torch import nn

from engine.worker.devices import kind_of

COARSE = 1 / 16
"""From that `p` on a byte decides, below it two: a 256th is a large part of a small `p`."""
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers as wide as a floating-point number of so many bytes."""
LIBRARY = torch.library.Library("loracle", "DEF")
LIBRARY.define("draw_(Tensor(a!) kept, float p) -> Tensor(a!)")
# The same for compiled graphs, which take no operation that writes into what it was given, and make one of two calls that look
# alike: the seed, which torch draws, tells them apart.
LIBRARY.define("drawn(Tensor x, float p, Tensor seed) -> Tensor")


def _seed(device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.randint(2**63 - 1, (), device=device)


def _draw(kept: torch.Tensor, p: float, seed: torch.Tensor | None = None) -> torch.Tensor:
    wide = 1 if p >= COARSE else 2
    steps = 256**wide
    words = SFC64(int(_seed() if seed is None else seed)).random_raw(-(-kept.numel() * wide // 8) + 1)
    dropped, rest = divmod(p * steps, 1)
    dropped += float(words[-1]) / 2**64 < rest
    if not 0 < dropped < steps:
        return kept.fill_(0 if dropped else -1)
    drawn = words.view(f"i{wide}")[: kept.numel()]
    # By numpy: torch compares one number at a time, and has its threads meet after each call.
    gone = np.less(drawn, int(dropped) - steps // 2)
    np.subtract(gone.view("i1"), 1, out=kept.view(-1).numpy())
    return kept


LIBRARY.impl("draw_", _draw, "CPU")
LIBRARY.impl("draw_", lambda kept, p: kept, "Meta")
LIBRARY.impl("drawn", lambda x, p, seed: _draw(torch.empty(x.shape, dtype=torch.int8), p, seed), "CPU")
LIBRARY.impl("drawn", lambda x, p, seed: torch.empty(x.shape, dtype=torch.int8, device="meta"), "Meta")


def draw(kept: torch.Tensor, p: float) -> torch.Tensor:
    """Fill `kept` (int8, contiguous) with 0, of probability `p` (less than 1), and -1, which has all its bits set.

    torch's own generator says where the random numbers begin.

    Raises:
        ValueError: `p` leaves nothing.
    """
    if not p < 1:
        raise ValueError("a dropout of 1 leaves nothing to learn from")
    found: torch.Tensor = torch.ops.loracle.draw_(kept, p)
    return found


def masked(x: torch.Tensor, bits: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """`x` where `bits` (as `bits_of` gives them) are set, 0 elsewhere; bit by bit, which takes a third of a product's time."""
    out = torch.empty_like(x) if out is None else out
    torch.bitwise_and(x.view(bits.dtype), bits, out=out.view(bits.dtype))
    return out


def bits_of(kept: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What `draw` drew, as wide as the elements of `x`."""
    return kept.to(BITS[x.element_size()])


class _Dropped(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        kept, ctx.p = torch.ops.loracle.drawn(x, p, _seed(x.device)), p
        ctx.save_for_backward(kept)
        return masked(x, bits_of(kept, x)).mul_(1 / (1 - p))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return masked(outer[0], bits_of(kept, outer[0])).mul_(1 / (1 - ctx.p)), None


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """`x` with a share of about `p` set to zero and the rest scaled up, as while training; `x` on a CPU."""
    found: torch.Tensor = _Dropped.apply(x, p)
    return found


def drop(x: torch.Tensor, p: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """`x` with a share of about `p` set to zero, what was kept (a byte an element), and the factor that the rest still lacks.

    For operations that have a gradient of their own, on a CPU or CUDA: a product that follows takes the factor for nothing.
    """
    if kind_of(x.device) == "cpu":
        kept = torch.ops.loracle.drawn(x, p, _seed(x.device))
        return masked(x, bits_of(kept, x)), kept, 1 / (1 - p)
    dropped, kept = torch.native_dropout(x, p, True)
    return dropped, kept, 1.0


def drop_again(x: torch.Tensor, kept: torch.Tensor, p: float, out: torch.Tensor | None = None) -> torch.Tensor:
    """`x` with what `drop` did not keep set to zero, and the rest scaled as it was there; on a CPU written to `out`."""
    if kept.dtype == torch.int8:
        return masked(x, bits_of(kept, x), out)
    found: torch.Tensor = torch.ops.aten.native_dropout_backward(x, kept, 1 / (1 - p))
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
