"""4-bit maps without weights: what loading with bitsandbytes puts in the place of linear ones, and what a CPU makes of them."""

import contextlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as torch_functional
from torch.utils._python_dispatch import _disable_current_modes
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from engine.worker.tracing.kernels import Card, multiplies_packed
from engine.worker.tracing.models import memory_like

BY_INPUT = (0, 47)
"""The first version of bitsandbytes whose maps compute in the type they are told to. Before, the first thing a map was given
decided, unless that was fp16 (nn/modules.py, `compute_type_is_set`)."""
AT_ONCE = (0, 50)
"""The first version that unpacks a weight in the type it is multiplied in. Before, it was unpacked in that of the base and then
copied (autograd/_functions.py, `MatMul4Bit.forward`), as it still is on the way back."""
LETS_GO = (0, 43, 2)
"""The first version whose product lets what was multiplied go: before, it was kept with the weight as long as the graph stood,
beside what autograd saves (autograd/_functions.py, `ctx.tensors`). Blocks that are checkpointed kept no graph then: transformers
ran them reentrant. (AnswerDotAI/fsdp_qlora, train.py: `reentrant_checkpointing` "can use less GPU memory with BNB QLoRA".)"""
LAID_OUT = 32
"""Rows of a 4-bit map that are laid out together; of another number it cannot be done."""


def quantise(
    model: Any,
    *,
    kind: str,
    double: bool,
    dtype: torch.dtype,
    spare: list[str],
    device: str = "meta",
    repacks: bool = False,
    compute: torch.dtype | None = None,
    version: tuple[int, ...] = AT_ONCE,
) -> None:
    """Put 4-bit maps in the place of linear ones, as loading with bitsandbytes does: weight after weight.

    `model` is a skeleton that no memory was counted for; what stays as it is gets its memory here. With `repacks` the maps do
    what they do on a CPU with AVX512-BF16 (`Card.repacks`). They compute in `compute`, or what that `version` of bitsandbytes
    makes of it, and else in `dtype`.
    """
    functional: Any = import_module("bitsandbytes.functional")
    tables = dict(functional.name2qmap)
    try:
        with _disable_current_modes():  # its tables are made at the first use in a process, on the device of that use
            functional.name2qmap["dynamic"] = functional.create_dynamic_map().to(device)
            functional.quantize_4bit(
                torch.empty((64, 64), dtype=dtype, device=device), compress_statistics=double, quant_type=kind
            )
        put_maps(model, partial(_map, kind=kind, double=double, dtype=compute or dtype), spare=spare, device=device)
        for module in model.modules():
            if not hasattr(module, "compute_type_is_set"):
                continue
            module.compute_type_is_set = version >= BY_INPUT
            if repacks:
                module.forward = partial(_repacking, module, functional, module.forward)
    finally:  # or the next model of this process would look into a table without contents
        functional.name2qmap.clear()
        functional.name2qmap.update(tables)
    model.is_loaded_in_4bit = True
    model.quantization_method = "bitsandbytes"


def _repacking(module: Any, functional: Any, usual: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """bitsandbytes 0.50, `Linear4bit.forward` on such a CPU: in evaluation the weight is laid out anew, for good."""
    state = module.weight.quant_state
    if module.training or x.requires_grad or state.shape[0] % LAID_OUT:
        return usual(x)
    if not getattr(state, "packing_format_for_cpu", False):
        module.weight.data, module.weight.quant_state = functional._convert_weight_packed_for_cpu(module.weight.data, state)
    given, x = x.dtype, x.to(module.compute_dtype)
    out: torch.Tensor = functional.gemv_4bit(x, module.weight, state=module.weight.quant_state)
    if module.bias is not None:
        out += module.bias.to(x.dtype)
    return out.to(given)


def multiplying(card: Card, version: tuple[int, ...], *, checkpointed: bool) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, 4-bit maps multiply as that version of bitsandbytes does on the card."""
    library = import_module("bitsandbytes")
    keeps = version < LETS_GO and not checkpointed
    known = {"card": card, "older": version < AT_ONCE, "keeps": keeps, "usual": library.matmul_4bit}
    return mock.patch.object(library, "matmul_4bit", partial(_multiplied, **known))


def _multiplied(
    x: torch.Tensor,
    packed: torch.Tensor,
    quant_state: Any,
    bias: torch.Tensor | None = None,
    *,
    card: Card,
    older: bool,
    keeps: bool,
    usual: Callable[..., torch.Tensor],
) -> torch.Tensor:
    """A product of today's is one operation (`kernels.temporaries_on`), unless autocast, which is on within it too, casts both
    factors once more."""
    rows, (n, k) = x.numel() // x.shape[-1], quant_state.shape
    cast = torch.is_autocast_enabled(card.kind) and torch.get_autocast_dtype(card.kind) != x.dtype
    whole = cast and not (card.kind == "cuda" and multiplies_packed(card, x.dtype, rows, n, k))
    if not (rows > 1 or x.requires_grad if older else whole):
        return usual(x, packed, quant_state=quant_state, bias=bias)
    found: torch.Tensor = _Unpacked.apply(x, (packed, quant_state), bias, (older, keeps))
    return found


class _Unpacked(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """A product whose weight is unpacked first."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, given: tuple[torch.Tensor, Any], bias: torch.Tensor | None, how: tuple[bool, bool]
    ) -> torch.Tensor:
        older, keeps = how
        ctx.given, ctx.kept, state = given, x if keeps else None, given[1]
        if older:
            return torch_functional.linear(x, _unpacked(*given).to(x.dtype), bias)
        scales = [torch.empty(state.absmax.shape, dtype=torch.float32, device=x.device) for _ in range(2 * state.nested)]
        found = torch_functional.linear(x, torch.empty(state.shape, dtype=x.dtype, device=x.device), bias)
        del scales
        return found

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (grad,) = outer
        return torch.matmul(grad, _unpacked(*ctx.given).to(grad.dtype)), None, None, None


def _unpacked(packed: torch.Tensor, state: Any) -> torch.Tensor:
    found: torch.Tensor = import_module("bitsandbytes.functional").dequantize_4bit(packed.view(-1, 1), state)
    return found


def put_maps(
    model: Any, made_of: Callable[[nn.Module, torch.Tensor], nn.Module], *, spare: list[str], device: str
) -> None:
    """Put another map in the place of each linear one that loading replaces, made of it and its weight as it is loaded: (out,
    in). What stays as it is gets its memory."""
    kept = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ()), *spare]
    seen: set[int] = set()

    def give(parameter: torch.Tensor | None) -> None:
        if parameter is not None and id(parameter) not in seen:  # a head may be the embeddings' own
            seen.add(id(parameter))
            parameter.data = memory_like(parameter, device)

    for name, module in list(model.named_modules()):
        if type(module) not in (nn.Linear, Conv1D):
            for own in module._parameters.values():
                give(own)
            continue
        if not should_convert_module(name, kept):
            for own in module.parameters():
                give(own)
            continue
        whole = memory_like(module.weight, device)
        made = made_of(module, whole.T if type(module) is Conv1D else whole)
        made.bias = None if module.bias is None else nn.Parameter(memory_like(module.bias, device), requires_grad=False)
        del whole
        module.weight = None
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent) if parent else model, last, made)


def _map(module: nn.Module, whole: torch.Tensor, *, kind: str, double: bool, dtype: torch.dtype) -> nn.Module:
    """A 4-bit one."""
    layers: Any = import_module("bitsandbytes.nn")
    functional: Any = import_module("bitsandbytes.functional")
    out, wide = whole.shape
    with _disable_current_modes(), torch.device("meta"):
        made = layers.Linear4bit(wide, out, module.bias is not None, compute_dtype=dtype, quant_type=kind)
    packed, state = functional.quantize_4bit(whole, compress_statistics=double, quant_type=kind)
    weight = torch.Tensor._make_subclass(layers.Params4bit, packed, False)
    weight.__dict__.update(
        blocksize=64, compress_statistics=double, quant_type=kind, quant_state=state, quant_storage=torch.uint8,
        bnb_quantized=True, module=made,
    )  # fmt: skip
    del made.weight
    made.register_parameter("weight", weight)
    made.quant_state = state
    return made
