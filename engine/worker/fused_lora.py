"""LoRA's path as one operation: `base(x) + scale * B(A(dropout(x)))` without the tensors that PEFT's forward leaves between."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from engine.worker import dropout, products
from engine.worker.devices import kind_of

DROPS = ("cpu", "cuda")
"""Devices on which an adapter's dropout is a part of the operation."""
VECTOR = 16
"""Numbers of fp32 in a register of AVX-512."""


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """A frozen linear layer and its adapter: the same sums as PEFT's, added in place (in another order); (rows, outputs).

    All is computed in the type of `weight`; `x`, `a` and `b` may be of others and get their gradients in them.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # torch hands on positions only
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        p: float,
    ) -> torch.Tensor:
        ctx.dtypes, ctx.shape = (x.dtype, a.dtype, b.dtype), x.shape
        rows, a, b = x.reshape(-1, x.shape[-1]).to(weight.dtype), a.to(weight.dtype), b.to(weight.dtype)
        narrow, kept = _narrow(ctx, rows, a, scale, p)
        out = functional.linear(rows, weight, bias if bias is None else bias.to(weight.dtype))
        out.addmm_(narrow, b.t(), alpha=ctx.scale)
        ctx.save_for_backward(rows, a, b, narrow, kept, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        *saved, weight = ctx.saved_tensors
        (gradient,) = outer
        by_x, by_a, by_b = _by_adapter(ctx, gradient, saved, ctx.needs_input_grad[0])
        if by_x is not None:
            by_x = products.added(by_x, gradient, weight).view(ctx.shape).to(ctx.dtypes[0])
        return by_x, None, None, by_a, by_b, None, None


class _Beside(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """An adapter added to what its frozen layer said, (rows, outputs); for layers whose weights cannot be multiplied here."""

    @staticmethod
    def forward(  # noqa: PLR0917  # torch hands on positions only
        ctx: Any,
        out: torch.Tensor,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        p: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.dtypes, ctx.shape = (x.dtype, a.dtype, b.dtype), x.shape
        rows, a, b = x.reshape(-1, x.shape[-1]).to(dtype), a.to(dtype), b.to(dtype)
        narrow, kept = _narrow(ctx, rows, a, scale, p)
        ctx.save_for_backward(rows, a, b, narrow, kept)
        if out.dtype == dtype:
            return torch.addmm(out, narrow, b.t(), alpha=ctx.scale)
        return torch.add(out, narrow @ b.t(), alpha=ctx.scale)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        saved = ctx.saved_tensors
        gradient = outer[0].to(saved[0].dtype)
        by_x, by_a, by_b = _by_adapter(ctx, gradient, saved, ctx.needs_input_grad[1])
        if by_x is not None:
            by_x = by_x.view(ctx.shape).to(ctx.dtypes[0])
        return outer[0], by_x, by_a, by_b, None, None, None


def _narrow(ctx: Any, rows: torch.Tensor, a: torch.Tensor, scale: float, p: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What an adapter says between its two matrices, and what its dropout kept; `ctx` keeps the factor of the whole."""
    ctx.p, ctx.scale = p, scale
    if not p:
        return rows @ a.t(), None
    dropped, kept, short = dropout.drop(rows, p)
    ctx.scale *= short
    return dropped @ a.t(), kept


def _by_adapter(
    ctx: Any, gradient: torch.Tensor, saved: Sequence[Any], by_rows: bool
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Gradients of an adapter's rows, if they are wanted, and of its two matrices."""
    rows, a, b, narrow, kept = saved
    by_narrow = (gradient @ b.t().contiguous().t()).mul_(ctx.scale)  # half the time of `gradient @ b` in fp32 at rank 8
    # Dropped once more: layers that read the same rows would each keep a copy of them otherwise.
    read = rows if kept is None else dropout.drop_again(rows, kept, ctx.p)
    by_a = (by_narrow.t() @ read).to(ctx.dtypes[1])
    by_b = _transposed_product(gradient, narrow).to(ctx.dtypes[2]).mul_(ctx.scale)
    if not by_rows:
        return None, by_a, by_b
    del read
    found = by_narrow @ a
    return found if kept is None else dropout.drop_again(found, kept, ctx.p, found), by_a, by_b


def _transposed_product(wide: torch.Tensor, narrow: torch.Tensor) -> torch.Tensor:
    """`wide.t() @ narrow`, for which MKL takes four times as long as the other way about at less than a vector of numbers."""
    return (narrow.t() @ wide).t() if narrow.shape[1] < VECTOR else wide.t() @ narrow


def fuse(model: nn.Module) -> int:
    """Give every plain LoRA layer over a frozen linear layer the one-operation forward; how many got it.

    Others keep PEFT's: DoRA, several adapters, trained base weights, 8-bit ones. A layer falls back by itself while its adapter
    is switched off or merged, where types differ outside of autocast, and on other devices than `DROPS` where it drops.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear and _plain(module):
            module.forward = _forward_of(module, _in_one)
            fused += 1
        elif type(module).__name__ == "Linear4bit" and hasattr(module, "lora_A") and _plain(module):
            module.forward = _forward_of(module, _beside)
            fused += 1
    return fused


def _plain(module: Any) -> bool:
    name = module.active_adapters[0] if len(module.active_adapters) == 1 else None
    return (
        name in module.lora_A
        and not any(p.requires_grad for p in module.base_layer.parameters())
        and name not in module.lora_variant
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
        and type(module.lora_dropout[name]) in (nn.Identity, nn.Dropout)
    )


def _forward_of(module: Any, fused: Callable[[Any, str, torch.Tensor], torch.Tensor | None]) -> Any:
    name, usual = module.active_adapters[0], module.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor | None = None
        if not (args or kwargs or module.disable_adapters or module.merged or module.active_adapters != [name]):
            found = fused(module, name, x)
        return usual(x, *args, **kwargs) if found is None else found

    return forward


def _computed_in(x: torch.Tensor, *weights: torch.Tensor) -> torch.dtype | None:
    """The type that a layer computes in here; None where PEFT's own casts would decide."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if all(w.dtype == x.dtype for w in weights) else None


def _in_one(module: Any, name: str, x: torch.Tensor) -> torch.Tensor | None:
    base, a, b = module.base_layer, module.lora_A[name].weight, module.lora_B[name].weight
    if _computed_in(x, base.weight, a) != base.weight.dtype:
        return None  # fp32 weights under autocast, which keeps the casts of a whole pass: a matter of the usual path
    p = _dropped_of(module.lora_dropout[name], x.device)
    if p is None:
        return None
    return _shaped(_Adapted.apply(x, base.weight, base.bias, a, b, module.scaling[name], p), x)


def _beside(module: Any, name: str, x: torch.Tensor) -> torch.Tensor | None:
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    dtype, p = _computed_in(x, a), _dropped_of(module.lora_dropout[name], x.device)
    if dtype is None or p is None:
        return None
    out = module.base_layer(x)
    return _shaped(_Beside.apply(out.reshape(-1, out.shape[-1]), x, a, b, module.scaling[name], p, dtype), x)


def _shaped(found: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A layer's outputs, (rows, outputs), as its inputs lie. A view made within an operation could not be changed in place, as
    Longformer divides its queries."""
    return found.view(*x.shape[:-1], found.shape[-1])


def _dropped_of(module: nn.Module, device: torch.device) -> float | None:
    """The share that an adapter drops now; None where it cannot do so as a part of the operation."""
    p: float = module.p if isinstance(module, nn.Dropout) and module.training else 0.0
    return p if not p or kind_of(device) in DROPS else None
