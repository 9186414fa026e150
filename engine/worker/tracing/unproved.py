"""What prepares a model for the padding-free step where no proof can be had: on the meta device there is nothing to compare."""

from typing import Any

import torch

from engine.worker import attention, first_token, unpadded
from engine.worker.devices import kind_of
from engine.worker.inner import body_of, inner_of


def switched(model: Any) -> str | None:
    """`unpadded.prepare` without its proof."""
    inner = inner_of(model)
    reason = attention.refusal(inner) or _wants_more(inner)
    if inner.config.is_encoder_decoder or reason is not None:
        return reason or "reads with one half and writes with the other"
    attention.register()
    _try_flash(inner)
    body = body_of(model)
    unpadded.switch(inner, body, body.forward, 0)
    if first_token.possible(inner, body):
        first_token.put_in(inner, body, 0.0)
    return None


def packed(model: Any) -> str | None:
    """`causal.prepare` without its proof."""
    inner = inner_of(model)
    reason = attention.refusal(inner) or _wants_more(inner)
    if reason is None:
        attention.register()
        inner.set_attn_implementation(attention.NAME)
        _try_flash(inner)
    return reason


def _wants_more(inner: Any) -> str | None:
    """Why the proof would fail: the model wants of its attention what ours does not do."""
    config = inner.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) or any(n.endswith("sinks") for n, _ in inner.named_parameters()):
        return f"{config.model_type} wants softcap or sinks of its attention"
    return None


def _try_flash(inner: Any) -> None:
    """The proof asks the card whether flash attention runs; asked first in a layer that is computed again, that would differ."""
    config = inner.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    device = next(inner.parameters()).device
    if kind_of(device) == "cuda":
        for dtype in (torch.float16, torch.bfloat16):
            attention._flash_agrees(device, dtype, width)


def rows_of(mask: torch.Tensor, lengths: list[int]) -> tuple[tuple[int, ...], torch.Tensor]:
    """`unpadded.real_tokens` for rows that are known."""
    places = [row * mask.shape[1] + i for row, n in enumerate(lengths) for i in range(n)]
    return tuple(lengths), torch.tensor(places).to(mask.device)
