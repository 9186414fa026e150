"""LoRA's path as one operation: `base(x) + scale * B(A(x))` without the tensors that PEFT's own forward leaves between."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """A frozen linear layer and its adapter: the same sums as PEFT's, added in place (in another order)."""

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
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows @ a.t()
        out = functional.linear(rows, weight, bias)
        out.addmm_(narrow, b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, a, b, narrow)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        x, weight, a, b, narrow = ctx.saved_tensors
        gradient = outer[0].reshape(-1, outer[0].shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        by_narrow = (gradient @ b).mul_(ctx.scale)
        by_a = by_narrow.t() @ rows
        by_b = (gradient.t() @ narrow).mul_(ctx.scale)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = gradient @ weight
            by_x.addmm_(by_narrow, a)
            by_x = by_x.view(x.shape)
        return by_x, None, None, by_a, by_b, None


def fuse(model: nn.Module) -> int:
    """Give every plain LoRA layer over a frozen `nn.Linear` the one-operation forward; how many got it.

    Others keep PEFT's: dropout, DoRA, several adapters, quantised or trained base weights. A layer falls back by itself while its
    adapter is switched off or merged, under autocast, and where types differ.
    """
    from peft.tuners.lora.layer import Linear

    fused = 0
    for module in model.modules():
        if type(module) is Linear and _plain(module):
            module.forward = _forward_of(module)
            fused += 1
    return fused


def _plain(module: Any) -> bool:
    name = module.active_adapters[0] if len(module.active_adapters) == 1 else None
    return (
        name in module.lora_A
        and type(module.base_layer) is nn.Linear
        and not any(p.requires_grad for p in module.base_layer.parameters())
        and name not in module.lora_variant
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
        and isinstance(module.lora_dropout[name], nn.Identity)
    )


def _forward_of(module: Any) -> Any:
    name, usual = module.active_adapters[0], module.forward
    base, a, b = module.base_layer, module.lora_A[name], module.lora_B[name]

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        same = x.dtype == base.weight.dtype == a.weight.dtype and not torch.is_autocast_enabled(x.device.type)
        if args or kwargs or module.disable_adapters or module.merged or module.active_adapters != [name] or not same:
            found: torch.Tensor = usual(x, *args, **kwargs)
            return found
        fused: torch.Tensor = _Adapted.apply(x, base.weight, base.bias, a.weight, b.weight, module.scaling[name])
        return fused

    return forward
