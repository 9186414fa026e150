"""The loss of a causal language model over a packed micro-batch, and the proof that the model can be read so."""

from typing import Any

import torch
from torch.nn import functional

from engine.text import first_line
from engine.worker import attention
from engine.worker.devices import kind_of
from engine.worker.inner import body_of, evaluating, inner_of
from engine.worker.packing import Packed, pack
from engine.worker.token_loss import head_of, token_loss, token_losses

AGREEMENT = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Nats by which rounding may change the loss of one token."""
NOISE, MOST_ROUNDING = 4.0, 0.5
"""How many times the rounding that the model's own passes show, and how many nats at most, are allowed beyond that: 8 billion
parameters in bf16 came out above 0.05 on an H100."""


def tolerance(inner: Any) -> float:
    """How far two passes over the same rows may lie apart in the precision in which the model computes here."""
    device = next(inner.parameters()).device
    kind = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else inner.dtype
    return AGREEMENT.get(kind, 5e-2)


def is_packed(model: Any) -> bool:
    """Whether `prepare` has switched it."""
    return bool(inner_of(model).config._attn_implementation == attention.NAME)


def packed_loss(model: Any, batch: Packed) -> torch.Tensor:
    """Sum of the cross-entropies of the tokens that carry loss, a scalar; the head sees only those."""
    return token_loss(_predicting(model, batch), head_of(model), batch.targets)


def packed_losses(model: Any, batch: Packed) -> torch.Tensor:
    """Those cross-entropies, one by one."""
    return token_losses(_predicting(model, batch), head_of(model), batch.targets)


def _predicting(model: Any, batch: Packed) -> torch.Tensor:
    """Hidden states of the tokens whose next one is learned."""
    hidden: torch.Tensor = body_of(model)(**batch.inputs).last_hidden_state[0]
    return hidden.index_select(0, batch.predicting)


def reads_once(model: Any) -> bool:
    """Whether what sequences begin with alike may lie in a packed row once; to be called under the autocast of the run.

    Not where something is dropped: every sequence draws for itself. Nor on a GPU, where the kernels read every sequence whole
    and nothing was measured. Two rows that begin alike prove it of the model, which `prepare` has switched.
    """
    inner = inner_of(model)
    device = next(model.parameters()).device
    if not is_packed(model) or kind_of(device) != "cpu" or _drops(model):
        return False
    first, second = made_up(inner, 11, 7)
    rows = [first, [*first[:4], *second], second]
    try:
        with evaluating(model), torch.no_grad():
            apart, once = (packed_losses(model, pack(rows, rows, device, once=way)) for way in (False, True))
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        return False
    return float((once - apart).abs().max()) <= tolerance(inner)


def _drops(model: Any) -> bool:
    told = inner_of(model).config.to_dict()
    named = any("drop" in name and isinstance(value, int | float) and value > 0 for name, value in told.items())
    return named or any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())


def prepare(model: Any) -> str | None:
    """Switch a loaded causal model to packed attention; why it cannot be, in words, with the model left as it was.

    To be called under the autocast of the run: precision decides which attention is computed. Families are not listed: two
    short made-up rows go through the model both ways, and every token's loss must agree.
    """
    inner = inner_of(model)
    reason = attention.refusal(inner)
    if reason is not None:
        return reason
    before = inner.config._attn_implementation
    try:
        with evaluating(model):
            found = _both_ways(model, inner)
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        found = first_line(error)
    if found is not None:
        inner.set_attn_implementation(before)
    return found


def _both_ways(model: Any, inner: Any) -> str | None:
    device = next(model.parameters()).device
    rows = made_up(inner, 11, 7)
    batch = pack(rows, rows, device)
    with torch.no_grad():
        expected, other = (torch.cat([_alone(model, row, padding, device) for row in rows]) for padding in (0, 3))
        noise = float((other - expected).abs().max())
        if kind_of(device) == "cpu" and tolerance(inner) > AGREEMENT[torch.float32]:
            inner.set_attn_implementation("eager")
            other = torch.cat([_alone(model, row, 0, device) for row in rows])
            noise = max(noise, float((other - expected).abs().max()))
        attention.register()
        inner.set_attn_implementation(attention.NAME)
        got = packed_losses(model, batch)
    apart = float((got - expected).abs().max())
    # Many layers in 16 bit round more than a few: what another kernel of the model's own changes is no disagreement. On a GPU
    # padding asks for one; on a CPU the eager attention is one.
    rounding = min(NOISE * noise, MOST_ROUNDING)
    if not apart <= max(tolerance(inner), rounding):
        return f"{inner.config.model_type} read packed gives other losses (up to {apart:.3g} nats a token)"
    return None


def made_up(inner: Any, *lengths: int) -> list[list[int]]:
    """Rows of these lengths, to read both ways."""
    generator = torch.Generator().manual_seed(0)
    words = min(inner.config.get_text_config().vocab_size, 1000)
    return [torch.randint(5, words, (n,), generator=generator).tolist() for n in lengths]


def _alone(model: Any, row: list[int], padding: int, device: torch.device) -> torch.Tensor:
    """Loss of each token but the first of a row read the usual way, with so many tokens of padding behind it."""
    ids = torch.tensor([row + row[:1] * padding], device=device)
    mask = torch.ones_like(ids)
    mask[:, len(row) :] = 0
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, : len(row) - 1].float()
    return functional.cross_entropy(logits, ids[0, 1 : len(row)], reduction="none")
