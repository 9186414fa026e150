"""`scaled_dot_product_attention` by the kernel that a device takes: what each keeps, torch knows by itself."""

import math
from typing import Any

import torch
from torch.nn import functional

from engine.worker.tracing.kernels import Card

aten = torch.ops.aten
HALVES = (torch.float16, torch.bfloat16)
Inputs = tuple[Any, Any, Any]
"""Query, key and value, each (rows, heads, length, width)."""


def attend(  # noqa: PLR0917 - torch's order
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    card: Card,
    wanted: str | None,
) -> torch.Tensor:
    """`scaled_dot_product_attention` by the kernel that the device takes (sdp_utils.cpp)."""
    if card.kind == "cpu":
        return _on_cpu((query, key, value), attn_mask, dropout_p, wanted, causal=is_causal, scale=scale, grouped=enable_gqa)
    kernel = kernel_for(query, key, attn_mask, enable_gqa, wanted, card)
    grouped = enable_gqa and key.shape[1] != query.shape[1]
    width = value.shape[-1]
    if kernel in ("cudnn", "flash") and width != query.shape[-1]:
        if wanted == "flash 2":  # models whose values are narrower than their queries fill them up for it, and cut the result
            value = functional.pad(value, (0, query.shape[-1] - width))
        else:  # sdp_utils.cpp, `check_head_dim_size_flash`
            kernel = "math" if grouped else "efficient"
    if kernel == "efficient" and grouped:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    if kernel != "flash":
        attn_mask = _bias(attn_mask, query.dtype)
    if kernel == "cudnn":  # keeps and needs what flash attention does, and reads a bias as the memory-efficient kernel does
        kernel = "flash" if attn_mask is None else "efficient"
    if kernel == "flash":
        if query.dtype == torch.float32:
            query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
        found = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        return found[..., :width] if width != query.shape[-1] else found
    if kernel == "efficient":
        if attn_mask is not None:
            attn_mask = _aligned(attn_mask).expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        keeps = any(t.requires_grad for t in (query, key, value)) and torch.is_grad_enabled()
        efficient = aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale)[0]
    return _math((query, key, value), attn_mask, dropout_p, causal=is_causal, scale=scale, grouped=grouped)


def kernel_for(  # noqa: PLR0917 - torch's order
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, enable_gqa: bool, wanted: str | None, card: Card
) -> str:
    """cudnn, flash, efficient or math: the one wanted, or the first that can; what cannot is replaced as torch does.

    Cards before Ampere have no flash attention, and their efficient kernels take no bf16 (sdp_utils.cpp).
    """
    grouped = enable_gqa and key.shape[1] != query.shape[1]
    half = query.dtype in HALVES
    if wanted == "math" or (query.dtype == torch.bfloat16 and not card.has_flash):
        return "math"
    if wanted == "efficient":
        return "efficient"
    if wanted == "flash 2" and query.shape[-1] <= 256:  # it has windows of its own, and no bias
        return "flash" if mask is None or mask.dtype == torch.bool else "efficient"
    if wanted is None and half and card.capability[0] in (9, 10) and query.shape[-1] <= 128:
        return "cudnn"  # sdp_utils.cpp, `check_prefer_cudnn_attention`
    if mask is None and half and card.has_flash and query.shape[-1] <= 256:
        return "flash"
    return "math" if grouped else "efficient"


def takes_groups(card: Card, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, *_: Any) -> bool:
    """`grouped.takes_groups` of a card that is not here; on a CPU the question does not arise."""
    kernel = kernel_for(query, key, mask, True, None, card)
    return card.kind == "cpu" or kernel == "flash" or (kernel == "cudnn" and mask is None)


def _bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """What is added to scores where a mask says what is seen (attention.cpp, `convert_boolean_attn_mask_`)."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(-math.inf, dtype=dtype, device=mask.device))


def _aligned(mask: torch.Tensor) -> torch.Tensor:
    """The bias laid out so that rows begin at multiples of 16 bytes (attention.cpp, `pad_bias`)."""
    last = mask.shape[-1]
    step = 16 // mask.element_size() * 2
    return mask if last % step == 0 else functional.pad(mask, (0, step - last % step))[..., :last]


def _math(
    inputs: Inputs, mask: torch.Tensor | None, dropout: float, *, causal: bool, scale: float | None, grouped: bool
) -> torch.Tensor:
    """attention.cpp, `_scaled_dot_product_attention_math`: in fp32 for 16-bit inputs, scores kept."""
    query, key, value = inputs
    origin = query.dtype
    if origin in HALVES:
        query, key, value = (t.float() for t in (query, key, value))
    factor = math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    if causal:
        shape = (query.shape[-2], key.shape[-2])
        seen = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
        mask = torch.zeros(shape, dtype=query.dtype, device=query.device).masked_fill_(seen.logical_not(), -math.inf)
    if grouped:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    found = (query * factor).matmul((key * factor).transpose(-2, -1))
    if mask is not None:
        found = found.add_(mask) if found.dtype == mask.dtype else found + mask
    # One name, as there: what it stood for goes as soon as the next step has it.
    found = torch._safe_softmax(found, -1) if mask is not None else torch.softmax(found, -1)
    if dropout > 0:
        found = aten.native_dropout(found, dropout, True)[0]
    _dropped = found.detach().to(origin)  # made first, returned beside the result, and dropped by whoever called
    return found.matmul(value).to(origin)


def _on_cpu(
    inputs: Inputs,
    mask: torch.Tensor | None,
    dropout: float,
    wanted: str | None,
    *,
    causal: bool,
    scale: float | None,
    grouped: bool,
) -> torch.Tensor:
    """The math path where that is wanted. Else torch chooses, asked with small tensors of the same types: CPU and meta tensors
    differ in nothing that it looks at."""
    small = [torch.empty((1, t.shape[1], min(t.shape[2], 8), t.shape[3]), dtype=t.dtype) for t in inputs]
    seen = None
    if mask is not None:  # a bias that is learned, as T5's positions are, keeps torch from its kernel
        shape = (1, 1, small[0].shape[2], small[1].shape[2])
        seen = torch.ones(shape, dtype=mask.dtype, requires_grad=mask.requires_grad)
    choice = torch._fused_sdp_choice(*small, seen, dropout, causal, scale=scale, enable_gqa=grouped)
    mask = _bias(mask, inputs[0].dtype)  # which lives here as long as the kernel runs, as there
    if choice == 1 and wanted != "math":  # SDPBackend.FLASH_ATTENTION
        return aten._scaled_dot_product_flash_attention_for_cpu(*inputs, dropout, causal, attn_mask=mask, scale=scale)[0]
    return aten._scaled_dot_product_attention_math(*inputs, mask, dropout, causal, None, scale=scale, enable_gqa=grouped)[0]
