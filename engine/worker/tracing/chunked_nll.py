"""The loss that TRL's SFTTrainer takes by itself (`loss_type="chunked_nll"`): the head's product for 256 tokens at a time, made
fp32, and once more on the way back (trl/trainer/sft_trainer.py)."""

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.worker.token_loss import Head

CHUNK = 256
"""Learned tokens whose logits exist at once."""


def chunked_nll(hidden: torch.Tensor, head: Head, labels: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies of the next tokens, a scalar in fp32. `hidden` (rows, tokens, size), `labels` (rows, tokens).

    All tokens are taken to be learned: fewer are fewer chunks of the same size.
    """
    flat, told = hidden[..., :-1, :].reshape(-1, hidden.shape[-1]), labels[..., 1:].reshape(-1)
    order = (told != -100).to(torch.int8).argsort(descending=True, stable=True)  # learned tokens come first
    flat, told = flat[order], told[order]
    total = flat.new_zeros((), dtype=torch.float32)
    for part, target in zip(flat.split(CHUNK), told.split(CHUNK), strict=True):
        total = total + checkpoint(_part, part, head.module.weight, target, head.scale, head.softcap, use_reentrant=False)[0]
    return total


def _part(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, scale: float, softcap: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, right answers and entropy, which are measured in the same pass."""
    logits = hidden.float() @ weight.float().t()
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    likely = functional.log_softmax(logits, dim=-1)
    loss = functional.nll_loss(likely, labels, reduction="sum")
    right = (logits.argmax(dim=-1) == labels).sum()
    return loss, right, (-(likely.exp() * likely).sum(dim=-1)).sum()
