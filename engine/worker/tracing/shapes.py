"""Results of operations that torch cannot tell without contents, and arithmetic that it does not count."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
_IN_PLACE = {aten._fused_adamw_.default, aten._fused_adam_.default, aten._fused_adamw_.tensor_lr}
"""Kernels without a meta version that return nothing."""
_GROUPED = aten._grouped_mm.default
"""Products of experts with their tokens. The meta version knows bf16 alone; CPUs and cards from compute capability 8.0 on have
fp32 and fp16 too, a group after the other in the result's memory (GroupedBlas.cpp, `_grouped_mm_cuda`)."""


def result_of(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation returns on the meta device."""
    if func in _IN_PLACE:
        return None
    if args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
        if func is aten.nonzero.default:  # at most: every place
            return torch.empty((args[0].numel(), args[0].dim()), dtype=torch.int64, device="meta")
        if func is _GROUPED:
            return _grouped(*args[:3])
    return func(*args, **kwargs)


def _grouped(a: torch.Tensor, b: torch.Tensor, ends: torch.Tensor | None = None) -> torch.Tensor:
    """`ends` are where the groups end, in the dimension that only one side has, or that both are summed over."""
    rows, columns = a.shape[-2], b.shape[-1]
    alike = a.dim() == b.dim()
    groups = (a if a.dim() == 3 else b if b.dim() == 3 or ends is None else ends).shape[0]
    return torch.empty((groups, rows, columns) if alike else (rows, columns), dtype=a.dtype, device="meta")


def _four_bit(args: Any) -> int:
    """Rows (..., in) with a packed weight of shape (out, in), the third argument."""
    return 2 * int(args[0].numel()) * int(args[2][0])


_ARITHMETIC: dict[str, Callable[[Any], int]] = {
    "bitsandbytes.gemm_4bit.default": _four_bit,
    "bitsandbytes.gemv_4bit.default": _four_bit,
    # Query and key, (rows, heads, length, width): two products there, five back; causal ones as if all were seen, as in torch.
    "aten._scaled_dot_product_flash_attention_for_cpu.default": lambda args: 4 * args[0].numel() * args[1].shape[2],
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": lambda args: 10 * args[1].numel() * args[2].shape[2],
    # Of sequences end to end, (tokens, heads, width), every token sees as many as the longest sequence has.
    "torch_attn._varlen_attn.default": lambda args: 4 * args[0].numel() * args[6],
    "torch_attn._varlen_attn_backward.default": lambda args: 10 * args[1].numel() * args[9],
}
"""What torch's table of arithmetic (flop_counter.py) lacks, by the operation's name: libraries register theirs when they like."""


def flops_of(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Additions and multiplications."""
    own = _ARITHMETIC.get(str(func))
    if own is not None:
        return int(own(args))
    if func is _GROUPED:
        return 2 * int(args[0].numel()) * int(args[1].shape[-1]) // (args[0].shape[0] if args[0].dim() > args[1].dim() else 1)
    counted = flop_registry.get(getattr(func, "_overloadpacket", None))
    return int(counted(*args, **kwargs, out_val=out)) if counted is not None else 0
