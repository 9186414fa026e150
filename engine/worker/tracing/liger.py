"""What Liger's kernels ask for and keep: norms, gated maps, rotations, the loss, and the head with it.

`use_liger_kernel` of transformers puts all of them into a model. Each function here asks for the memory that the file of
liger-kernel 0.8 named beside it asks for, and computes nothing. Liger itself puts them in for good: classes and functions of
transformers' module are replaced, and every later model of the process has them.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from engine.worker.inner import inner_of


def fused_loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A scalar. `hidden` (rows, length, width), `weight` (vocabulary, width)."""
    found: torch.Tensor = _Fused.apply(hidden.reshape(-1, hidden.shape[-1]), weight)
    return found


class _Fused(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """ops/fused_linear_cross_entropy.py: gradients with the first pass, logits of one piece of the tokens at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        tokens, width = hidden.shape
        pieces = max(-(-weight.shape[0] // width), 1)
        chunk = 1 << (max(-(-tokens // pieces), 1) - 1).bit_length()
        by_hidden = torch.zeros_like(hidden)
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        losses = torch.zeros(tokens, dtype=torch.float32, device=hidden.device)
        for begin in range(0, tokens, chunk):
            part = hidden[begin : begin + chunk]
            logits = functional.linear(part, weight).contiguous()
            by_hidden[begin : begin + chunk] = logits @ weight
            if by_weight is not None:
                by_weight.addmm_(logits.t(), part)
        ctx.found = (by_hidden, by_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        found, ctx.found = ctx.found, None
        return tuple(None if g is None else g.mul_(outer[0]) for g in found)


def in_place_loss(logits: torch.Tensor) -> torch.Tensor:
    """A scalar. `logits` (tokens, vocabulary), whose place their gradient takes."""
    found: torch.Tensor = _InPlace.apply(logits)
    return found


class _InPlace(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """ops/cross_entropy.py, and Unsloth's kernels/cross_entropy_loss.py: beside the logits two numbers a token in fp32."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        losses, sums = (torch.empty(len(logits), dtype=torch.float32, device=logits.device) for _ in range(2))
        ctx.save_for_backward(logits, sums)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        logits, _ = ctx.saved_tensors
        return logits.view_as(logits)


class _Norm(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """ops/rms_norm.py: the input is kept as it is, and a number a row; the gradient takes the outer one's place."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, processors: int) -> torch.Tensor:
        rows = x.contiguous().view(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight, torch.empty(len(rows), dtype=torch.float32, device=x.device))
        ctx.processors = processors
        return torch.empty_like(rows).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        rows, weight, _ = ctx.saved_tensors
        by_x = outer[0].contiguous()
        partial = torch.empty((ctx.processors, rows.shape[-1]), dtype=torch.float32, device=rows.device)
        return by_x.view_as(outer[0]), partial.sum(0).to(weight.dtype), None


class _Gated(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """ops/swiglu.py and ops/geglu.py: both factors are kept, their gradients take their places."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        outer[0].contiguous()
        gate, up = ctx.saved_tensors
        return gate.view_as(gate), up.view_as(up)


class _Rotated(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """ops/rope.py: queries and keys are turned where they are."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Any:
        ctx.save_for_backward(cos.contiguous(), sin.contiguous())
        return tuple(t.transpose(1, 2).contiguous().transpose(1, 2) for t in (query, key))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        return (*(t.transpose(1, 2).contiguous().transpose(1, 2) for t in outer), None, None)


@contextlib.contextmanager
def kernels_in(model: Any, processors: int) -> Iterator[None]:
    """Within it the model's norms, gated maps and rotations are Liger's."""
    inner = inner_of(model)
    changes: list[tuple[Any, str, Any]] = []
    for module in inner.modules():
        if type(module).__name__.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), nn.Parameter):
            changes.append((module, "forward", _norm_of(module, processors)))
        elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
            changes.append((module, "forward", _gated_of(module)))
    home = sys.modules[type(inner).__module__]
    if hasattr(home, "apply_rotary_pos_emb"):
        changes.append((home, "apply_rotary_pos_emb", _rotate))
    with contextlib.ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _norm_of(module: Any, processors: int) -> Any:
    return lambda x: _Norm.apply(x, module.weight, processors)


def _gated_of(module: Any) -> Any:
    return lambda x: module.down_proj(_Gated.apply(module.gate_proj(x), module.up_proj(x)))


def _rotate(query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_: Any, **__: Any) -> Any:
    return _Rotated.apply(query, key, cos, sin)
