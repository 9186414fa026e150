"""The loss that TRL's SFTTrainer took by itself from 1.7 to 1.14 (`loss_type="chunked_nll"`): the head's product for 256 learned
tokens at a time, and once more on the way back (trl/trainer/sft_trainer.py, `_chunked_cross_entropy_loss`)."""

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.worker.token_loss import Head

CHUNK = 256
"""Learned tokens whose logits exist at once."""
NARROW = (1, 13)
"""The first version of TRL that multiplies in the type of the hidden states, and makes only the logits fp32."""


def chunked_nll(
    hidden: torch.Tensor, head: Head, labels: torch.Tensor, *, learned: float = 1.0, wide: bool = False
) -> torch.Tensor:
    """Sum of the cross-entropies of the next tokens, a scalar in fp32. `hidden` (rows, tokens, size), `labels` (rows, tokens), of
    which the share `learned` carries loss; `wide` as before `NARROW`.

    Where they are one chunk, the gradient of a head that is the embedding too is a view, to which autograd cannot add the
    embedding's own in place.
    """
    flat, told = hidden[..., :-1, :].reshape(-1, hidden.shape[-1]), labels[..., 1:].reshape(-1)
    order = (told != -100).to(torch.int8).argsort(descending=True, stable=True)  # learned tokens come first
    chunks = max(-(-round(learned * told.numel()) // CHUNK), 1)
    flat, told = flat[order][: chunks * CHUNK], told[order][: chunks * CHUNK]
    total = flat.new_zeros((), dtype=torch.float32)
    for part, target in zip(flat.split(CHUNK), told.split(CHUNK), strict=True):
        given = (part, head.module.weight, target, head.scale, head.softcap, wide)
        total = total + checkpoint(_part, *given, use_reentrant=False)[0]
    return total


def _part(  # noqa: PLR0917 - checkpoint passes no keywords on to where they count
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, scale: float, softcap: float | None, wide: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, right answers and entropy, which are measured in the same pass."""
    logits = hidden.float() @ weight.float().t() if wide else (hidden @ weight.to(hidden.dtype).t()).float()
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    likely = functional.log_softmax(logits, dim=-1)
    loss, counts = functional.nll_loss(likely, labels, reduction="sum"), labels != -100
    right = ((logits.argmax(dim=-1) == labels) & counts).sum().float()
    return loss, right, (-(likely.exp() * likely).sum(dim=-1) * counts).sum()
