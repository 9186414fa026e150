"""8-bit maps without weights (LLM.int8): what `load_in_8bit` puts in the place of linear ones, and what their products make.

Of outliers, columns that are multiplied in 16 bit, none are counted: there are a few in thousands, which no facts tell. Nor are
bitsandbytes' layouts before 0.45 (its pull request 1401). Reentrant checkpointing lets what a map was given go with its layer; it
goes with the map here.
"""

import contextlib
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from engine.worker.tracing.four_bit import put_maps

THRESHOLD = 6.0
"""From which on a number is an outlier (`llm_int8_threshold`)."""


def quantise(model: Any, *, spare: list[str], device: str) -> None:
    """Put 8-bit maps in the place of linear ones, as loading with bitsandbytes does: weight after weight.

    `model` is a skeleton that no memory was counted for; what stays as it is gets its memory here.
    """
    put_maps(model, _map, spare=spare, device=device)
    model.is_loaded_in_8bit = True
    model.quantization_method = "bitsandbytes"


def _map(module: nn.Module, whole: torch.Tensor) -> nn.Module:
    layers: Any = import_module("bitsandbytes.nn")
    out, wide = whole.shape
    with _disable_current_modes(), torch.device("meta"):
        made = layers.Linear8bitLt(wide, out, module.bias is not None, has_fp16_weights=False, threshold=THRESHOLD)
    whole = whole.to(torch.float16)
    packed = torch.empty(whole.shape, dtype=torch.int8, device=whole.device)
    del made.weight
    made.register_parameter("weight", torch.Tensor._make_subclass(layers.Int8Params, packed, False))
    made.weight.has_fp16_weights = False
    made.weight.CB, made.weight.SCB = packed, torch.empty(out, dtype=torch.float32, device=whole.device)
    return made


def multiplying(*, keeps: bool) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, 8-bit maps multiply as on a card. Where they `keep` what they are given, it lives as long as the graph:
    they hold it beside what autograd saves, which is all that hooks take away (autograd/_functions.py, `ctx.tensors`)."""

    def product(x: torch.Tensor, weight: torch.Tensor, *, bias: torch.Tensor | None, state: Any) -> torch.Tensor:
        found: torch.Tensor = _Product.apply(x, (state.CB, state.SCB, keeps), bias)
        return found

    return mock.patch.object(import_module("bitsandbytes"), "matmul", product)


class _Product(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """bitsandbytes 0.50, `MatMul8bitLt` with its kernels on a card (backends/cuda/ops.py)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor, bool], bias: Any) -> torch.Tensor:
        weight, scales, keeps = given
        rows = x.reshape(-1, x.shape[-1])
        ctx.map, ctx.as_given, ctx.kept = (weight, scales), (x.shape, x.dtype), None
        if ctx.needs_input_grad[0]:
            if keeps:
                ctx.kept = rows
            else:
                ctx.save_for_backward(rows)
        narrow, of_rows = _narrowed(rows)
        found = _scaled(narrow, weight, x.dtype)
        del narrow, of_rows
        return found.reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (grad,) = outer
        (weight, scales), (shape, dtype) = ctx.map, ctx.as_given
        _ = ctx.saved_tensors  # let go with them
        grad = grad.reshape(-1, grad.shape[-1]).contiguous()
        if not ctx.needs_input_grad[0]:
            return None, None, None
        whole = weight.to(dtype, copy=True).mul_(scales.unsqueeze(1).mul(1 / 127))
        return torch.matmul(grad.to(dtype), whole).view(shape), None, None


def _narrowed(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`int8_vectorwise_quant`: outliers are looked for in fp16."""
    half = rows.to(torch.float16)
    of_rows = torch.empty(rows.shape[0], dtype=torch.float32, device=rows.device)
    narrow = torch.empty(rows.shape, dtype=torch.int8, device=rows.device)
    outliers = half.abs() >= THRESHOLD
    outliers.any()
    narrow.mul_(1)  # what its kernel writes
    return narrow, of_rows


def _scaled(narrow: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`int8_scaled_mm`: the product in whole numbers of 4 bytes, which stays until what they stand for in fp16 is in the type of
    what was given."""
    whole = torch._int_mm(narrow, weight.t())
    return whole.to(torch.float16).to(dtype)
