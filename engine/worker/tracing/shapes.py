"""Results of operations that torch cannot tell without contents, and arithmetic that it does not count."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
_IN_PLACE = {aten._fused_adamw_.default, aten._fused_adam_.default, aten._fused_adamw_.tensor_lr}
"""Kernels without a meta version that return nothing."""
_FILLING = {aten.normal_.default, aten.uniform_.default, aten.zero_.default, aten.fill_.Scalar}
"""Without contents nothing happens, and asking for nothing takes half a millisecond."""
_GROUPED = aten._grouped_mm.default
"""Products of experts with their tokens. The meta version knows bf16 alone; CPUs and cards from compute capability 8.0 on have
fp32 and fp16 too, a group after the other in the result's memory (GroupedBlas.cpp, `_grouped_mm_cuda`)."""


def result_of(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation returns on the meta device."""
    if func in _IN_PLACE:
        return None
    first = args[0][0] if args and isinstance(args[0], list | tuple) and args[0] else args[0] if args else None
    if isinstance(first, torch.Tensor) and first.is_meta:
        if func in _FILLING:
            return args[0]
        if _on_lists(func):
            return None
        if func is aten.nonzero.default:  # at most: every place
            return torch.empty((args[0].numel(), args[0].dim()), dtype=torch.int64, device="meta")
        if func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            return func(first, [place for i in args[1] for place in _places(i)])
        if func is aten.unique_consecutive.default:  # how often a text ends, by which BART sees that all do equally often
            none = torch.empty(0, dtype=torch.int64, device="meta")
            return torch.empty(1, dtype=first.dtype, device="meta"), none, none
        if func is _GROUPED:
            return _grouped(*args[:3])
        return _remembered(func, args, kwargs)
    return func(*args, **kwargs)


def _places(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Numbers of what a mask chooses, at most: every place."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [torch.empty(index.numel(), dtype=torch.int64, device="meta") for _ in range(index.dim())]


_Outline = tuple[Any, Any, torch.dtype] | None
_KNOWN: dict[Any, list[_Outline] | None] = {}
"""By operation and what it was given: sizes, strides and types of its results; `None` where it has to be asked every time. Meta
versions in Python take up to a millisecond, and a step calls them with the same shapes in every layer."""


class _Odd(Exception):
    """An argument of which more than its shape matters."""


def _remembered(func: Any, args: Any, kwargs: Any) -> Any:
    if not _makes_new(func):
        return func(*args, **kwargs)
    try:
        key = (func, *map(_described, args), *((name, _described(value)) for name, value in kwargs.items()))
        known = _KNOWN.get(key, ())
    except (_Odd, TypeError):
        return func(*args, **kwargs)
    if known is None:
        return func(*args, **kwargs)
    if known == ():
        out = func(*args, **kwargs)
        _KNOWN[key] = _outlines(out)
        return out
    made = [None if o is None else torch.empty_strided(o[0], o[1], dtype=o[2], device="meta") for o in known]
    returns = func._schema.returns
    return tuple(made) if len(returns) > 1 else made[0] if str(returns[0].type) == "Tensor" else made


@cache
def _on_lists(func: Any) -> bool:
    """Whether it changes lists of tensors in place."""
    name = str(func._schema.name)
    return name.startswith("aten::_foreach_") and name.endswith("_")


@cache
def _makes_new(func: Any) -> bool:
    """Whether its results are tensors with memory of their own."""
    schema = func._schema
    if not str(schema.name).startswith("aten::") or func is aten._unsafe_view.default:  # which lies about that
        return False
    shared = any(a.alias_info is not None for a in (*schema.arguments, *schema.returns))
    returned = [str(r.type) for r in schema.returns]
    return not shared and (returned == ["List[Tensor]"] or {*returned} == {"Tensor"})


def _described(value: Any) -> Any:
    """
    Raises:
        _Odd: more than its shape matters.
    """
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or not value.is_meta:
            raise _Odd
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_described, value))
    return type(value), value


def _outlines(out: Any) -> list[_Outline] | None:
    results = out if isinstance(out, tuple | list) else [out]
    if any(t is not None and (type(t) is not torch.Tensor or not t.is_meta) for t in results):
        return None
    return [None if t is None else (t.shape, t.stride(), t.dtype) for t in results]


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
    "aten.addmm_.default": lambda args: 2 * args[1].numel() * args[2].shape[1],
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
