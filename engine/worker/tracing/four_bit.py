"""4-bit maps without weights: what loading with bitsandbytes puts in the place of linear ones, and what a CPU makes of them."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from engine.worker.tracing.models import memory_like

LAID_OUT = 32
"""Rows of a 4-bit map that are laid out together; of another number it cannot be done."""


def quantise(
    model: Any, *, kind: str, double: bool, dtype: torch.dtype, spare: list[str], device: str = "meta", repacks: bool = False
) -> None:
    """Put 4-bit maps in the place of linear ones, as loading with bitsandbytes does: weight after weight.

    `model` is a skeleton that no memory was counted for; what stays as it is gets its memory here. With `repacks` the maps do
    what they do on a CPU with AVX512-BF16 (`Card.repacks`).
    """
    functional: Any = import_module("bitsandbytes.functional")
    tables = dict(functional.name2qmap)
    try:
        with _disable_current_modes():  # its tables are made at the first use in a process, on the device of that use
            functional.name2qmap["dynamic"] = functional.create_dynamic_map().to(device)
            functional.quantize_4bit(
                torch.empty((64, 64), dtype=dtype, device=device), compress_statistics=double, quant_type=kind
            )
        _put_maps(model, functional.quantize_4bit, kind=kind, double=double, dtype=dtype, spare=spare, device=device)
        for module in model.modules() if repacks else ():
            if hasattr(module, "support_avx512bf16_for_cpu"):
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


def _put_maps(
    model: Any, quantize_4bit: Any, *, kind: str, double: bool, dtype: torch.dtype, spare: list[str], device: str
) -> None:
    layers: Any = import_module("bitsandbytes.nn")
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
        with _disable_current_modes(), torch.device("meta"):
            wide, out = module.weight.shape if type(module) is Conv1D else reversed(module.weight.shape)
            made = layers.Linear4bit(wide, out, module.bias is not None, compute_dtype=dtype, quant_type=kind)
        whole = memory_like(module.weight, device)
        whole = whole.T if type(module) is Conv1D else whole
        packed, state = quantize_4bit(whole, compress_statistics=double, quant_type=kind)
        weight = torch.Tensor._make_subclass(layers.Params4bit, packed, False)
        weight.__dict__.update(
            blocksize=64, compress_statistics=double, quant_type=kind, quant_state=state, quant_storage=torch.uint8,
            bnb_quantized=True, module=made,
        )  # fmt: skip
        del made.weight
        made.register_parameter("weight", weight)
        made.quant_state = state
        made.bias = None if module.bias is None else nn.Parameter(memory_like(module.bias, device), requires_grad=False)
        del whole
        module.weight = None
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent) if parent else model, last, made)
