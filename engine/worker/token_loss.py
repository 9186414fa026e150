"""Cross-entropy over a large vocabulary without its logits: a chunk of tokens at a time, gradients with the first pass."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.worker.devices import kind_of
from engine.worker.inner import inner_of
from recommender.footprint import loss_chunk

TILE = 2**20
"""Logits that are worked on together on a CPU: 4 MB in fp32, which stay in its caches from one operation to the next."""


@dataclass(frozen=True, slots=True)
class Head:
    """What turns hidden states into logits: softcap(scale * module(hidden))."""

    module: torch.nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, hidden) to (N, vocabulary), fp32."""
        return _bent(self.module(hidden).float(), self.scale, self.softcap)


def head_of(model: Any) -> Head:
    """The language-model head with the factors that its family puts behind it."""
    inner = inner_of(model)
    module = inner.get_output_embeddings()
    if hasattr(module, "modules_to_save"):  # PEFT's copy that is trained whole
        module = module.modules_to_save[module.active_adapters[0]]
    config = inner.config.get_text_config()
    scale = getattr(config, "logit_scale", None)  # Cohere multiplies, Granite divides
    divisor = getattr(config, "logits_scaling", None)
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2 and 3
    return Head(module, float(scale or 1.0) / float(divisor or 1.0), softcap)


def token_loss(hidden: torch.Tensor, head: Head, targets: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
    """Sum of the cross-entropies, a scalar in fp32. `hidden` (N, hidden), `targets` (N,).

    The loss is meant to be scaled by a number and differentiated once: the gradients are computed here, where the logits are.
    """
    chunk = chunk or _chunk_of(hidden, head)
    module = head.module
    if type(module) is torch.nn.Linear and torch.is_grad_enabled():
        found: torch.Tensor = _Summed.apply(hidden, module.weight, module.bias, targets, chunk, head.scale, head.softcap)
        return found
    # Any other head (an adapter on it, 4-bit weights): the chunk's logits are computed again on the way back.
    once: Callable[..., torch.Tensor] = lambda h, t: functional.cross_entropy(head.logits(h), t, reduction="sum")  # noqa: E731
    total = torch.zeros((), device=hidden.device)
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        total = total + (checkpoint(once, h, t, use_reentrant=False) if torch.is_grad_enabled() else once(h, t))
    return total


def _chunk_of(hidden: torch.Tensor, head: Head) -> int:
    weight = getattr(head.module, "weight", None)
    words = head.module.out_features if hasattr(head.module, "out_features") else 0 if weight is None else weight.shape[0]
    return loss_chunk(int(words), cpu=kind_of(hidden.device) == "cpu")


def token_losses(hidden: torch.Tensor, head: Head, targets: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
    """Cross-entropy of each token, (N,): for scoring, and for losses that are no sum over tokens.

    With gradients a chunk's logits are computed again on the way back.
    """
    chunk = chunk or _chunk_of(hidden, head)
    each: Callable[..., torch.Tensor] = lambda h, t: functional.cross_entropy(head.logits(h), t, reduction="none")  # noqa: E731
    again = torch.is_grad_enabled()
    pieces = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([checkpoint(each, h, t, use_reentrant=False) if again else each(h, t) for h, t in pieces])


def before_head(model: Any, batch: Mapping[str, Any], places: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Hidden states as they come to the head, (N, hidden), at `places` of a padded batch; the head itself sees one of each row,
    and what it says of that is not used."""
    caught: list[torch.Tensor] = []

    def catch(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        caught.append(arguments[0])
        return (arguments[0][:, :1].contiguous(),)  # else torch multiplies row by row, with a copy of a frozen head for each

    hook = inner_of(model).get_output_embeddings().register_forward_pre_hook(catch)
    try:
        model(**batch)
    finally:
        hook.remove()
    return caught[0][places]


def head_apart(model: Any, batch: Mapping[str, Any], places: tuple[torch.Tensor, ...], targets: torch.Tensor) -> float:
    """By how many nats at most the loss of a token differs when the head is put on the tokens at `places` only; without end where
    the model has no such head. To be called in evaluation mode, without gradients."""
    expected = functional.cross_entropy(model(**batch).logits[places].float(), targets, reduction="none")
    try:
        found = token_losses(before_head(model, batch, places), head_of(model), targets)
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        return math.inf
    return float((found - expected).abs().max())


class _Summed(torch.autograd.Function):  # type: ignore[misc]  # mypy does not read torch here
    """Gradients of the sum, taken while a chunk's probabilities are at hand: one product fewer than computing them anew."""

    @staticmethod
    def forward(  # noqa: PLR0917  # torch hands on positions only
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        chunk: int,
        scale: float,
        softcap: float | None,
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        with torch.autocast(device, enabled=False):
            inner, matrix = hidden.to(dtype), weight.to(dtype)
            total = torch.zeros((), device=hidden.device)
            by_hidden = torch.empty_like(inner) if need_hidden else None
            by_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
            by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and need_bias else None
            # A sum over tokens in fp16 must not pass 65,504: the loss's scale, which comes later, could not help it.
            less = 16 if dtype == torch.float16 else 1
            rows = max(TILE // len(matrix), 1) if kind_of(hidden.device) == "cpu" else None
            for begin in range(0, len(targets), chunk):
                part, target = inner[begin : begin + chunk], targets[begin : begin + chunk, None]
                # What is given away here is freed inside, before its gradient takes as much again: on a GPU logits are the peak.
                if rows is None:
                    gradient, loss = _gradient(_linear(part, matrix, bias).float(), target, scale, softcap)
                    gradient, total = gradient.to(dtype), total + loss
                else:
                    gradient = _linear(part, matrix, bias)
                    total += _turned(gradient, target, rows, scale, softcap)
                if by_bias is not None:
                    by_bias += gradient.sum(0, dtype=torch.float32)
                if by_hidden is not None:
                    by_hidden[begin : begin + chunk] = gradient @ matrix
                if by_weight is not None:
                    if dtype == torch.float32:
                        by_weight.addmm_(gradient.t(), part)
                    else:
                        by_weight.add_(gradient.t() @ (part / less if less > 1 else part), alpha=less)
                del gradient  # before the next chunk's logits are made
        ctx.found = (by_hidden, by_weight, by_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        (factor,) = outer
        found = [None if g is None else g.mul_(factor).to(d) for g, d in zip(ctx.found, ctx.dtypes, strict=True)]
        ctx.found = None
        return (*found, None, None, None, None)


def _linear(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return functional.linear(rows, matrix, None if bias is None else bias.to(matrix.dtype))


def _turned(
    logits: torch.Tensor, targets: torch.Tensor, rows: int, scale: float, softcap: float | None
) -> torch.Tensor:
    """Put the gradient in the place of the logits, some rows at a time; the sum of the losses. No view of them is left."""
    total = torch.zeros((), device=logits.device)
    for some, wanted in zip(logits.split(rows), targets.split(rows), strict=True):
        found, loss = _gradient(some.float(), wanted, scale, softcap)
        some.copy_(found)
        total += loss
    return total


def _gradient(
    logits: torch.Tensor, targets: torch.Tensor, scale: float, softcap: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """That of the sum of the cross-entropies by the module's `logits` (N, vocabulary), and that sum; `targets` (N, 1)."""
    bent = _bent(logits, scale, softcap)
    del logits
    slope = None if softcap is None else (1 - (bent / softcap).square()).mul_(scale)
    gradient = torch.log_softmax(bent, -1)
    del bent
    loss = -gradient.gather(1, targets).sum()
    gradient.exp_().scatter_add_(1, targets, gradient.new_full(targets.shape, -1.0))
    if slope is not None:
        gradient.mul_(slope)
    elif scale != 1.0:
        gradient.mul_(scale)
    return gradient, loss


def _bent(logits: torch.Tensor, scale: float, softcap: float | None) -> torch.Tensor:
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap
