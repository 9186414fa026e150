"""Attention for sequences laid end to end in one row, entered in transformers' registry under the name `loracle`.

One function serves both kinds of pass. Called with the lengths of the sequences (the keywords that transformers hands to
variable-length flash attention, and `lengths` beside them) every sequence sees itself only; called without them it is
transformers' own SDPA with its masks, so that generation and padded passes of the same model need no switching.
"""

from collections.abc import Sequence
from functools import lru_cache
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from engine.worker.devices import kind_of
from engine.worker.first_token import keys_and_values
from engine.worker.grouped import attend, attend_from

NAME = "loracle"


def register() -> None:
    """Make `NAME` known to transformers; may be called again."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def keywords(lengths: Sequence[int], device: torch.device, shared: tuple[int, ...] | None = None) -> dict[str, Any]:
    """What a packed pass gives its model beside ids and positions; what is `shared` between sequences only where there is some.

    The mask of four dimensions is never read: transformers passes such a mask on untouched, where it would otherwise build
    one of T x T from the positions.
    """
    cumulative = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return {
        "attention_mask": torch.zeros((1, 1, 1, 1), device=device),
        "lengths": tuple(lengths),
        "cu_seq_lens_q": cumulative,
        "cu_seq_lens_k": cumulative,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        **({} if shared is None else {"shared": shared}),
    }


def refusal(model: Any) -> str | None:
    """Why a model cannot be packed, or None where it seems to be able; only a comparison of both passes proves it.

    A family that supports variable-length flash attention needs nothing from a mask but what its layers say in keywords.
    """
    if not (getattr(model, "_supports_attention_backend", False) and getattr(model, "_supports_flash_attn", False)):
        return f"{model.config.model_type} does not call attention through transformers' registry"
    kinds = set(getattr(model.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"{model.config.model_type} has layers of the kind {', '.join(sorted(kinds))}"
    return None


def attention(  # noqa: PLR0917  # the order is transformers'
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    lengths: tuple[int, ...] | None = None,
    shared: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    read: torch.Tensor | None = None,
    whole: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Query (1, heads, T, width), key and value (1, key heads, T, width); returns (1, T, heads, width).

    `lengths` and what is `shared` are those of `packing.Packed`. Given the `whole` of what a layer reads, (1, T, hidden), query,
    key and value are of the tokens `read`, (R,), one of each sequence, and so is what returns.

    Raises:
        ValueError: the model wants something of its attention that is not done here.
    """
    if lengths is None:
        if attention_mask is not None and attention_mask.numel() == 1 and query.shape[2] > 1:
            raise ValueError(f"{type(module).__name__} does not pass the lengths of packed sequences on to its attention")
        rest["sliding_window"] = sliding_window
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, is_causal, **rest)
        return out, None
    unknown = [name for name in ("position_bias", "softcap", "s_aux", "cache") if rest.get(name) is not None]
    if unknown or rest.get("output_attentions"):
        raise ValueError(f"{type(module).__name__} wants {', '.join(unknown) or 'output_attentions'} of its attention")
    if whole is not None:
        key, value = keys_and_values(module, whole, key.shape[-1])
    if torch.is_autocast_enabled(query.device.type):  # an fp32 stream, as k-bit preparation makes it, is no reason against flash
        computed_in = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(computed_in), key.to(computed_in), value.to(computed_in)
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if read is not None and whole is not None:
        if causal or sliding_window is not None:
            raise ValueError(f"{type(module).__name__} does not let first tokens see all others")
        return attend_from(read, query, key, value, lengths=lengths, p=dropout, scaling=scaling), None
    options: dict[str, Any] = {"scaling": scaling, "causal": causal, "window": sliding_window}
    half = query.dtype in (torch.float16, torch.bfloat16)
    flash = kind_of(query.device) == "cuda" and half and key.shape[-1] == value.shape[-1] <= 256
    if flash and not dropout and shared is None and _flash_agrees(query.device, query.dtype, query.shape[-1]):
        return _variable_length(query, key, value, cumulative=rest["cu_seq_lens_q"], longest=max(lengths), **options), None
    return attend(query, key, value, lengths=lengths, shared=shared, p=dropout, **options), None


def _variable_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    cumulative: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """torch's own variable-length flash attention (CUDA, 16 bit)."""
    from torch.nn.attention.varlen import varlen_attn

    back = -1 if window is None else window - 1  # flash attention counts the neighbours, transformers counts the token too
    shared = query.shape[1] // key.shape[1]
    grouped = {}
    if shared > 1:
        if "enable_gqa" in signature(varlen_attn).parameters:
            grouped["enable_gqa"] = True
        else:  # torch before 2.12
            key, value = (t.repeat_interleave(shared, 1) for t in (key, value))
    out = varlen_attn(
        *(t[0].transpose(0, 1).contiguous() for t in (query, key, value)),  # (T, heads, width)
        cumulative,
        cumulative,
        longest,
        longest,
        scale=scaling,
        window_size=(back, 0 if causal else back),
        **grouped,
    )
    return out.unsqueeze(0)


@lru_cache(maxsize=8)
def _flash_agrees(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether variable-length flash attention runs on this device, there and back, and says what plain attention says."""
    found: list[tuple[torch.Tensor, ...]] = []
    lengths = (5, 3)
    options: dict[str, Any] = {"scaling": None, "causal": True, "window": None}
    cumulative = torch.tensor([0, 5, 8], dtype=torch.int32, device=device)
    draw = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        inputs = [torch.randn(1, heads, 8, width, generator=draw).to(device, dtype) for heads in (4, 2, 2)]
        try:
            for fast in (True, False):
                q, k, v = (t.clone().requires_grad_() for t in inputs)
                if fast:
                    out = _variable_length(q, k, v, cumulative=cumulative, longest=5, **options)
                else:
                    out = attend(q, k, v, lengths=lengths, p=0.0, **options)
                found.append((out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))))
        except (RuntimeError, TypeError, ValueError, ImportError, AttributeError, NotImplementedError):
            return False
    return all(torch.allclose(a.float(), b.float(), atol=5e-2, rtol=5e-2) for a, b in zip(*found, strict=True))
