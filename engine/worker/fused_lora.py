"""LoRA's path as one operation: `base(x) + scale * B(A(x))` without the tensors that PEFT's own forward leaves between."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """A frozen linear layer and its adapter: the same sums as PEFT's, added in place (in another order).

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
    ) -> torch.Tensor:
        ctx.dtypes = (x.dtype, a.dtype, b.dtype)
        rows, a, b = x.reshape(-1, x.shape[-1]).to(weight.dtype), a.to(weight.dtype), b.to(weight.dtype)
        narrow = rows @ a.t()
        out = functional.linear(rows, weight, bias if bias is None else bias.to(weight.dtype))
        out.addmm_(narrow, b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, narrow)
        ctx.shape, ctx.scale = x.shape, scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        rows, weight, a, b, narrow = ctx.saved_tensors
        gradient = outer[0].reshape(-1, outer[0].shape[-1])
        by_a, by_b, by_narrow = _by_adapter(ctx, gradient, rows, b, narrow)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = gradient @ weight
            by_x.addmm_(by_narrow, a)
            by_x = by_x.view(ctx.shape).to(ctx.dtypes[0])
        return by_x, None, None, by_a, by_b, None


class _Beside(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """An adapter added to what its frozen layer said; for layers whose weights cannot be multiplied here."""

    @staticmethod
    def forward(  # noqa: PLR0917  # torch hands on positions only
        ctx: Any, out: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float, dtype: torch.dtype
    ) -> torch.Tensor:
        ctx.dtypes = (x.dtype, a.dtype, b.dtype)
        rows, a, b = x.reshape(-1, x.shape[-1]).to(dtype), a.to(dtype), b.to(dtype)
        narrow = rows @ a.t()
        flat = out.reshape(-1, out.shape[-1])
        ctx.save_for_backward(rows, a, b, narrow)
        ctx.shape, ctx.scale = x.shape, scale
        if out.dtype == dtype:
            found = torch.addmm(flat, narrow, b.t(), alpha=scale)
        else:
            found = torch.add(flat, narrow @ b.t(), alpha=scale)
        return found.view(out.shape)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        rows, a, b, narrow = ctx.saved_tensors
        gradient = outer[0].reshape(-1, outer[0].shape[-1]).to(rows.dtype)
        by_a, by_b, by_narrow = _by_adapter(ctx, gradient, rows, b, narrow)
        by_x = (by_narrow @ a).view(ctx.shape).to(ctx.dtypes[0]) if ctx.needs_input_grad[1] else None
        return outer[0], by_x, by_a, by_b, None, None


def _by_adapter(
    ctx: Any, gradient: torch.Tensor, rows: torch.Tensor, b: torch.Tensor, narrow: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of an adapter's two matrices, and of what lies between them."""
    by_narrow = (gradient @ b).mul_(ctx.scale)
    by_a = (by_narrow.t() @ rows).to(ctx.dtypes[1])
    by_b = (gradient.t() @ narrow).to(ctx.dtypes[2]).mul_(ctx.scale)
    return by_a, by_b, by_narrow


def fuse(model: nn.Module) -> int:
    """Give every plain LoRA layer over a frozen linear layer the one-operation forward; how many got it.

    Others keep PEFT's: dropout, DoRA, several adapters, trained base weights, 8-bit ones. A layer falls back by itself while
    its adapter is switched off or merged, and where types differ outside of autocast.
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
        and isinstance(module.lora_dropout[name], nn.Identity)
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
    found: torch.Tensor = _Adapted.apply(x, base.weight, base.bias, a, b, module.scaling[name])
    return found


def _beside(module: Any, name: str, x: torch.Tensor) -> torch.Tensor | None:
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    dtype = _computed_in(x, a)
    if dtype is None:
        return None
    found: torch.Tensor = _Beside.apply(module.base_layer(x), x, a, b, module.scaling[name], dtype)
    return found
