"""The meta device made to behave like a CUDA card or a CPU: its attention, dropout and softmax, its autocast, its optimizers.

On the meta device composite functions take the CPU's ways. Here they are caught before they are taken apart, and the kernel is
called that the device would call; torch knows the shapes of its results and what its gradient keeps.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from engine.worker import attention as own_attention
from engine.worker import devices, grouped
from engine.worker.tracing.attending import attend, takes_groups
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.windows import looking_through

aten = torch.ops.aten
T = torch.Tensor

_DOWN: set[Any] = {
    functional.linear, torch.matmul, T.matmul, T.__matmul__, T.__rmatmul__, torch.bmm, T.bmm, torch.mm, T.mm,
    torch.addmm, T.addmm, torch.baddbmm, T.baddbmm, torch.addbmm, T.addbmm,
    functional.conv1d, functional.conv2d, torch.conv1d, torch.conv2d, functional.scaled_dot_product_attention,
}  # fmt: skip
"""Computed in 16 bit under autocast, on every device."""
_DOWN_CUDA: set[Any] = {torch.einsum, torch.mv, T.mv, torch.addmv, T.addmv}
"""On CUDA as well."""
_UP_CUDA: set[Any] = {
    functional.layer_norm, torch.layer_norm, functional.rms_norm, torch.rms_norm, functional.group_norm,
    torch.softmax, T.softmax, functional.softmax, torch.log_softmax, T.log_softmax, functional.log_softmax,
    functional.nll_loss, functional.mse_loss, functional.l1_loss, functional.binary_cross_entropy_with_logits,
    functional.softplus, torch.pow, T.pow, T.__pow__, torch.rsqrt, T.rsqrt, torch.exp, T.exp, torch.log, T.log,
    torch.sum, T.sum, torch.prod, T.prod, torch.cumsum, T.cumsum, torch.reciprocal, T.reciprocal,
    torch.norm, T.norm, torch.logsumexp, T.logsumexp,
}  # fmt: skip
"""Computed in fp32 under CUDA's autocast (autocast_mode.h, AT_FORALL_FP32)."""
_UP_CPU: set[Any] = {
    functional.cross_entropy, functional.mse_loss, functional.nll_loss, functional.binary_cross_entropy_with_logits,
}  # fmt: skip
"""On a CPU."""


_BACKWARD = (torch.autograd.backward, T.backward)


class Autocast:
    """What `torch.autocast` is while the meta device pretends."""

    def __init__(
        self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        self._foreign = device_type not in ("meta", _state.card.kind)
        self._wanted = (enabled, dtype or torch.bfloat16)

    def __enter__(self) -> "Autocast":
        if not self._foreign:
            _state.stack.append(_state.autocast)
            _state.autocast = self._wanted
            _tell_flags()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._foreign:
            return
        _state.autocast = _state.stack.pop()
        _tell_flags()
        if not _state.stack:
            _state.casts.clear()


class _State:
    """Of the one pretence that a process has at a time."""

    card: Card = Card()
    attention: str | None = None
    autocast: tuple[bool, torch.dtype] = (False, torch.bfloat16)
    stack: list[tuple[bool, torch.dtype]] = []  # noqa: RUF012 - one process, one pretence
    casts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # noqa: RUF012


_state = _State()


def _tell_flags() -> None:
    """peft asks the flags of a device by name, or of CUDA by none; on a machine without one they change nothing else."""
    torch.set_autocast_enabled("cuda", _state.autocast[0] and _state.card.kind == "cuda")


class Device(TorchFunctionMode):  # type: ignore[misc]  # mypy does not read torch here
    """Calls the device's kernels where composite functions would take other ways on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        cuda = _state.card.kind == "cuda"
        self._up, self._down = (_UP_CUDA, _DOWN | _DOWN_CUDA) if cuda else (_UP_CPU, _DOWN)
        self._ways: dict[Any, Callable[..., Any]] = {functional.scaled_dot_product_attention: _attention}
        if cuda:
            self._ways |= {functional.cross_entropy: _cross_entropy, functional.dropout: _dropout, torch.dropout: _dropout}
            self._ways |= dict.fromkeys((torch.softmax, torch.Tensor.softmax, functional.softmax), _softmax)
        else:
            self._ways[torch.einsum] = _einsum
        self._ours = {*_BACKWARD, *self._down, *self._up, *self._ways}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self._ours:  # most, and there are 30,000 a second
            return func(*args, **kwargs)
        if func in _BACKWARD:
            return self._backward(args[0])
        enabled, dtype = _state.autocast
        if enabled:
            if func in self._down:
                args, kwargs = _cast(args, kwargs, dtype)
            elif func in self._up:
                args, kwargs = _cast(args, kwargs, torch.float32)
        way = self._ways.get(func)
        if way is not None and any(isinstance(a, torch.Tensor) and a.is_meta for a in args):
            return way(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _backward(self, loss: Any) -> None:
        """Of a scalar. torch would leave this mode for the whole backward pass, and layers that are computed again with it."""
        (loss,) = loss if isinstance(loss, list | tuple) else (loss,)
        begin = torch.ones_like(loss)
        with self:
            _engine_run_backward((loss,), (begin,), False, False, (), allow_unreachable=True, accumulate_grad=True)


def _cast(args: Any, kwargs: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    return tuple(_cast_one(a, dtype) for a in args), {k: _cast_one(v, dtype) for k, v in kwargs.items()}


def _cast_one(value: Any, dtype: torch.dtype) -> Any:
    """As `cached_cast` does: a copy of an fp32 leaf that is trained is kept until autocast ends, others are made anew."""
    if isinstance(value, list | tuple):
        return type(value)(_cast_one(v, dtype) for v in value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype in (dtype, torch.float64):
        return value
    keeps = dtype != torch.float32 and value.dtype == torch.float32 and value.is_leaf and value.requires_grad
    if not keeps:
        return value.to(dtype)
    known = _state.casts.get(id(value))
    if known is None:
        known = _state.casts[id(value)] = (value, value.to(dtype))
    return known[1]


def _dropout(func: Any, values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Dropout.cpp: CUDA's fused kernel keeps a mask of one byte."""
    if not training or p == 0:
        return values
    return aten.native_dropout(values, p, True)[0]


def _softmax(func: Any, values: torch.Tensor, dim: int | None = None, *rest: Any, **kwargs: Any) -> torch.Tensor:
    """SoftMax.cpp: on CUDA fp16 goes to fp32 within the kernel; other types are copied first."""
    dtype = kwargs.get("dtype") or next((r for r in rest if isinstance(r, torch.dtype)), None)
    if values.dtype == torch.float16 and dtype == torch.float32:
        return aten._softmax(values, dim, True)
    return func(values, dim, *rest, **kwargs)


def _cross_entropy(func: Any, values: torch.Tensor, target: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
    """LossNLL.cpp: it asks for log_softmax in the logits' type, which autocast leaves so; only nll_loss is made fp32, and keeps
    its input."""
    smoothed = kwargs.pop("label_smoothing", 0.0)
    usual = not rest and not smoothed and values.dim() > 1 and not target.is_floating_point()
    if not usual or not _state.autocast[0] or values.dtype == torch.float32:
        return func(values, target, *rest, label_smoothing=smoothed, **kwargs)
    return functional.nll_loss(functional.log_softmax(values, 1).float(), target, **kwargs)


def _einsum(func: Any, equation: str, *operands: torch.Tensor) -> torch.Tensor:
    """Linear.cpp, `sumproduct_pair`: a CPU's autocast finds the product within it, whose factors are views, so that no copy is
    kept for others; a single tensor is only laid out anew."""
    enabled, dtype = _state.autocast
    if enabled and len(operands) > 1:
        operands = tuple(t.to(dtype) if t.dtype == torch.float32 else t for t in operands)
    return func(equation, *operands)


def _attention(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    return attend(*args, **kwargs, card=_state.card, wanted=_state.attention)


def _without_flash(*_: Any, **__: Any) -> torch.Tensor:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")  # as torch says on such a card


def _windowed(usual: Callable[..., Any], *given: Any, sliding_window: int | None = None, **more: Any) -> Any:
    """transformers' SDPA, which is given no window in FlashAttention 2's place: that has its own."""
    with looking_through(sliding_window):
        return usual(*given, sliding_window=sliding_window, **more)


@contextlib.contextmanager
def pretending(card: Card, attention: str | None = None, *, windows: bool = True) -> Iterator[None]:
    """Within it the meta device is that card; `attention` pins a kernel of `scaled_dot_product_attention`. With `windows` what a
    layer's window hides is not computed."""
    _state.card, _state.attention = card, attention
    _state.autocast, _state.stack, _state.casts = (False, torch.bfloat16), [], {}
    base = import_module("torch.optim.optimizer")
    lists = import_module("torch.utils._foreach_utils")
    supported, listed = base._get_fused_kernels_supported_devices(), lists._get_foreach_kernels_supported_devices()
    kinds = {"meta", card.kind}
    really = torch.is_autocast_enabled
    which, available = torch.get_autocast_dtype, torch.amp.is_autocast_available

    def enabled(kind: str | None = None) -> bool:
        asked = kind or "cuda"
        return _state.autocast[0] if asked in kinds else bool(really(asked))

    changes: list[tuple[Any, str, Any]] = [
        (torch, "autocast", Autocast),
        (torch.amp, "autocast", Autocast),
        (torch, "is_autocast_enabled", enabled),
        (torch, "get_autocast_dtype", lambda kind: _state.autocast[1] if kind in kinds else which(kind)),
        (torch.amp, "is_autocast_available", lambda kind: kind in kinds or available(kind)),
        (base, "_get_fused_kernels_supported_devices", lambda: [*supported, "meta"]),
        (grouped, "takes_groups", partial(takes_groups, card)),
    ]
    if card.kind == "cuda":  # where gradients are clipped all at once
        changes.append((lists, "_get_foreach_kernels_supported_devices", lambda: [*listed, "meta"]))
    masks = import_module("transformers.masking_utils")
    unmasked = {"sdpa": masks.flash_attention_mask} if attention == "flash 2" else {}  # windows too are its kernel's own
    if not card.has_flash:
        changes.append((own_attention, "_variable_length", _without_flash))
    with contextlib.ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mock.patch.dict(masks.AttentionMaskInterface._global_mapping, unmasked))
        calls = import_module("transformers.modeling_utils").AttentionInterface._global_mapping
        windowed = {"sdpa": partial(_windowed, calls["sdpa"])} if attention == "flash 2" and windows else {}
        stack.enter_context(mock.patch.dict(calls, windowed))
        stack.enter_context(devices.meta_is(card.kind))
        stack.enter_context(Device())
        try:
            yield
        finally:
            _state.autocast, _state.stack, _state.casts = (False, torch.bfloat16), [], {}
            _tell_flags()
