"""Results of operations that torch cannot tell without contents, and arithmetic that it does not count."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import flop_registry

from engine.prediction.configured import overflows
from engine.worker.tracing.operations import once
from engine.worker.tracing.windows import seen, share_of
from recommender.errors import InputError

aten = torch.ops.aten
_UPDATING = {aten._fused_adamw_.default, aten._fused_adam_.default, aten._fused_adamw_.tensor_lr}
"""Kernels without a meta version that return nothing."""
_FILLING = {aten.normal_.default, aten.uniform_.default, aten.zero_.default, aten.fill_.Scalar}
"""Without contents nothing happens, and asking for nothing takes half a millisecond."""
_GROUPED = aten._grouped_mm.default
"""Products of experts with their tokens. The meta version knows bf16 alone; CPUs and cards from compute capability 8.0 on have
fp32 and fp16 too, a group after the other in the result's memory (GroupedBlas.cpp, `_grouped_mm_cuda`)."""
_Way = Callable[[Any, Any, Any], Any]
"""From operation, arguments and keywords to the result."""


def result_of(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation returns on the meta device.

    Raises:
        InputError: it would fail on every device.
    """
    if _updates(func):
        return None
    first = args[0] if args else None
    if isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(first, torch.Tensor) and first.is_meta:
        return _way(func)(func, args, kwargs)
    return func(*args, **kwargs)


@once
def _updates(func: Any) -> bool:
    return func in _UPDATING


@once
def _way(func: Any) -> _Way:
    """How its results are found, where its first tensor has no contents."""
    if func in _FILLING:
        return lambda func, args, kwargs: args[0]
    name = str(func._schema.name)
    if name.startswith("aten::_foreach_") and name.endswith("_"):  # changes lists of tensors in place
        return lambda func, args, kwargs: None
    if func in _OWN:
        return _OWN[func]
    if _makes_new(func):
        return _remembered
    place = _changed(func)
    return _asked if place is None else partial(_changing, place)


def _asked(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _changing(place: int | str, func: Any, args: Any, kwargs: Any) -> Any:
    """Of what writes into one of its arguments, at that place or of that name: it comes back as it was, which takes torch's
    versions in Python longest to say. They are asked the first time."""
    try:
        key = _key(func, args, kwargs)
        known = _KNOWN.get(key, _NEW)
    except (_Odd, TypeError):
        return func(*args, **kwargs)
    given = args[place] if isinstance(place, int) else kwargs[place]
    if known is _UNCHANGED:
        return given
    before = _state_of(given)
    out = func(*args, **kwargs)
    if known is _NEW:
        _KNOWN[key] = _UNCHANGED if out is given and _state_of(given) == before else None
    return out


def _changed(func: Any) -> int | str | None:
    """Where the argument stands that it writes into and returns, if it is one."""
    schema = func._schema
    written = [(i, a) for i, a in enumerate(schema.arguments) if a.alias_info is not None]
    if len(written) != 1 or len(schema.returns) != 1 or schema.returns[0].alias_info is None:
        return None
    place, argument = written[0]
    if not argument.alias_info.is_write or str(argument.type) != "Tensor":
        return None
    return argument.name if argument.kwarg_only else place


def _state_of(tensor: torch.Tensor) -> Any:
    storage = tensor.untyped_storage()
    return _described(tensor), storage._cdata, storage.nbytes()


def _every_place(func: Any, args: Any, kwargs: Any) -> Any:
    """Of `nonzero`, at most."""
    return torch.empty((args[0].numel(), args[0].dim()), dtype=torch.int64, device="meta")


def _chosen(func: Any, args: Any, kwargs: Any) -> Any:
    """Of `index`: what a mask chooses is every place, at most."""
    if any(i is not None and i.dtype == torch.bool for i in args[1]):
        return func(args[0], [place for i in args[1] for place in _places(i)])
    return _remembered(func, args, kwargs)


def _places(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Numbers of what a mask chooses, at most: every place."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [torch.empty(index.numel(), dtype=torch.int64, device="meta") for _ in range(index.dim())]


def _all_alike(func: Any, args: Any, kwargs: Any) -> Any:
    """Of `unique_consecutive`: how often a text ends, by which BART sees that all do equally often."""
    none = torch.empty(0, dtype=torch.int64, device="meta")
    return torch.empty(1, dtype=args[0].dtype, device="meta"), none, none


def _filled(func: Any, args: Any, kwargs: Any) -> Any:
    """Of `masked_fill`, which is told whether its number fits where there are contents."""
    values, number = args[0], args[2]
    if values.is_floating_point() and torch.finfo(values.dtype).max < abs(number) < math.inf:
        raise InputError(overflows(str(values.dtype).removeprefix("torch.")))
    if func is aten.masked_fill_.Scalar:
        return _changing(0, func, args, kwargs)
    return _remembered(func, args, kwargs)


_OWN: dict[Any, _Way] = {
    aten.masked_fill.Scalar: _filled,
    aten.masked_fill_.Scalar: _filled,
    aten.nonzero.default: _every_place,
    aten.index.Tensor: _chosen,
    aten.unique_consecutive.default: _all_alike,
    _GROUPED: lambda func, args, kwargs: _grouped(*args[:3]),
}


class _Outlines(NamedTuple):
    """What an operation made."""

    tensors: tuple[tuple[Any, Any, torch.dtype] | None, ...]
    """Sizes, strides and type of each."""
    form: type
    """`torch.Tensor` of a single one, else what holds them."""


_NEW, _UNCHANGED = _Outlines((), tuple), _Outlines((), list)
_KNOWN: dict[Any, _Outlines | None] = {}
"""By operation and what it was given; `None` where it has to be asked every time. Meta versions in Python take up to a
millisecond, and a step calls them with the same shapes in every layer."""


class _Odd(Exception):
    """An argument of which more than its shape matters."""


def _remembered(func: Any, args: Any, kwargs: Any) -> Any:
    try:
        key = _key(func, args, kwargs)
        known = _KNOWN.get(key, _NEW)
    except (_Odd, TypeError):
        return func(*args, **kwargs)
    if known is _NEW:
        out = func(*args, **kwargs)
        _KNOWN[key] = _outlines(out)
        return out
    if known is None:
        return func(*args, **kwargs)
    made = [None if t is None else torch.empty_strided(t[0], t[1], dtype=t[2], device="meta") for t in known.tensors]
    return made[0] if known.form is torch.Tensor else known.form(made)


def _makes_new(func: Any) -> bool:
    """Whether its results are tensors with memory of their own."""
    schema = func._schema
    if not str(schema.name).startswith("aten::") or func is aten._unsafe_view.default:  # which lies about that
        return False
    shared = any(a.alias_info is not None for a in (*schema.arguments, *schema.returns))
    returned = [str(r.type) for r in schema.returns]
    return not shared and (returned == ["List[Tensor]"] or {*returned} == {"Tensor"})


def _key(func: Any, args: Any, kwargs: Any) -> Any:
    """
    Raises:
        _Odd, TypeError: there is none.
    """
    return (id(func), *map(_described, args), *((name, _described(value)) for name, value in kwargs.items()))


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


def _outlines(out: Any) -> _Outlines | None:
    results = out if isinstance(out, tuple | list) else [out]
    if any(t is not None and (type(t) is not torch.Tensor or not t.is_meta) for t in results):
        return None
    made = tuple(None if t is None else (t.shape, t.stride(), t.dtype) for t in results)
    return _Outlines(made, torch.Tensor if results is not out else list if isinstance(out, list) else tuple)


def _grouped(a: torch.Tensor, b: torch.Tensor, ends: torch.Tensor | None = None) -> torch.Tensor:
    """`ends` are where the groups end, in the dimension that only one side has, or that both are summed over."""
    rows, columns = a.shape[-2], b.shape[-1]
    alike = a.dim() == b.dim()
    groups = (a if a.dim() == 3 else b if b.dim() == 3 or ends is None else ends).shape[0]
    return torch.empty((groups, rows, columns) if alike else (rows, columns), dtype=a.dtype, device="meta")


def _grouped_flops(a: torch.Tensor, b: torch.Tensor) -> int:
    return 2 * int(a.numel()) * int(b.shape[-1]) // (int(a.shape[0]) if a.dim() > b.dim() else 1)


def _four_bit(args: Any) -> int:
    """Rows (..., in) with a packed weight of shape (out, in), the third argument."""
    return 2 * int(args[0].numel()) * int(args[2][0])


_ARITHMETIC: dict[str, Callable[[Any], int]] = {
    "bitsandbytes.gemm_4bit.default": _four_bit,
    "bitsandbytes.gemv_4bit.default": _four_bit,
    str(_GROUPED): lambda args: _grouped_flops(*args[:2]),
    # torch's table has the next four, and takes a tenth of a trace to describe what it is given.
    "aten.mm.default": lambda args: 2 * args[0].numel() * args[1].shape[1],
    "aten.addmm.default": lambda args: 2 * args[1].numel() * args[2].shape[1],
    "aten.bmm.default": lambda args: 2 * args[0].numel() * args[1].shape[2],
    "aten.baddbmm.default": lambda args: 2 * args[1].numel() * args[2].shape[2],
    "aten._int_mm.default": lambda args: 2 * args[0].numel() * args[1].shape[1],
    "aten.addmm_.default": lambda args: 2 * args[1].numel() * args[2].shape[1],
    # Query and key, (rows, heads, length, width): two products there, five back; causal ones as if all were seen, as in torch.
    "aten._scaled_dot_product_flash_attention_for_cpu.default": lambda args: 4 * args[0].numel() * args[1].shape[2],
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": lambda args: 10 * args[1].numel() * args[2].shape[2],
    # Of sequences end to end, (tokens, heads, width), every token sees as many as if it were of the longest sequence.
    "torch_attn._varlen_attn.default": lambda args: 4 * args[0].numel() * seen(args[6], args[9:10]),
    "torch_attn._varlen_attn_backward.default": lambda args: 10 * args[1].numel() * seen(args[9], args[13:14]),
}
"""What torch's table of arithmetic (flop_counter.py) lacks, by the operation's name: libraries register theirs when they like."""
_CAUSAL = {
    "aten._scaled_dot_product_flash_attention.default": 4,
    "aten._scaled_dot_product_flash_attention_backward.default": 11,
    "aten._scaled_dot_product_efficient_attention.default": 6,
    "aten._scaled_dot_product_efficient_attention_backward.default": 11,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": 4,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": 7,
}
"""Where kernels are told that no token sees those after it: blocks of scores that nobody sees are passed over."""


def flops_of(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Additions and multiplications."""
    own, counted, causal = _arithmetic(func)
    if own is None and counted is None:
        return 0
    found = int(own(args)) if own is not None else int(counted(*args, **kwargs, out_val=out))
    if causal is None:
        return found
    return int(found * share_of(func, args, out, causal=len(args) > causal and bool(args[causal])))


@once
def _arithmetic(func: Any) -> tuple[Callable[[Any], int] | None, Any, int | None]:
    """Of an operation: by this table, and by torch's; which argument says that it is causal."""
    return _ARITHMETIC.get(str(func)), flop_registry.get(getattr(func, "_overloadpacket", None)), _CAUSAL.get(str(func))
