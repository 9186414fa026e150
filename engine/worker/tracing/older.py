"""Attention of OPT, GPT-NeoX (Pythia) and GPT-2 as transformers wrote it up to 4.47, which kept more than that of today.

What their modules of that time did, in the order of what it costs (modeling_gpt_neox.py, modeling_opt.py and modeling_gpt2.py of
4.42 to 4.46): GPT-NeoX rotated in fp32, and kept such keys beside the product that the values are a view of; OPT laid queries,
keys and values out by heads, so that what attention gave had to be copied; written out, it kept the scores once more to cut them
off at the least number; GPT-2 and GPT-NeoX had a causal mask of all positions in each layer; caches held what was there already.
"""

import contextlib
from collections.abc import Callable
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

Forward = Callable[..., tuple[torch.Tensor, None]]


def attention(model: Any) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, the model's modules attend as they did; what each layer held is put beside its weights at once."""
    config = model.config.get_text_config()
    name, forward = ATTENTION[config.model_type]
    made = getattr(import_module(f"transformers.models.{config.model_type}.modeling_{config.model_type}"), name)
    positions, device = int(config.max_position_embeddings), next(model.parameters()).device
    for module in model.modules() if config.model_type != "opt" else ():
        if isinstance(module, made):
            causal = torch.ones((1, 1, positions, positions), dtype=torch.bool, device=device).tril_()
            module.register_buffer("bias", causal, persistent=False)
            for held in ("cos_cached", "sin_cached") if config.model_type == "gpt_neox" else ():
                module.register_buffer(held, torch.ones((positions, module.rotary_ndims), device=device), persistent=False)
    return mock.patch.object(made, "forward", forward)


def _opt(
    self: Any, hidden_states: torch.Tensor, past_key_values: Any = None, attention_mask: torch.Tensor | None = None, **_: Any
) -> tuple[torch.Tensor, None]:
    rows, length, width = hidden_states.shape

    def by_heads(t: torch.Tensor) -> torch.Tensor:
        return t.view(rows, length, self.num_heads, self.head_dim).transpose(1, 2).contiguous()

    query = by_heads(self.q_proj(hidden_states) * self.scaling)
    key, value = by_heads(self.k_proj(hidden_states)), by_heads(self.v_proj(hidden_states))
    _keep(past_key_values, key, value)
    dropped = self.dropout if self.training else 0.0
    if self.config._attn_implementation == "eager":
        query, key, value = (t.view(-1, length, self.head_dim) for t in (query, key, value))
        scores = torch.bmm(query, key.transpose(1, 2))
        if attention_mask is not None:
            scores = scores.view(rows, self.num_heads, length, length) + attention_mask
        scores = torch.max(scores, torch.tensor(torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device))
        wide = torch.float32 if scores.dtype == torch.float16 else None
        shares = functional.softmax(scores, dim=-1, dtype=wide).to(scores.dtype).view(-1, length, length)
        found = torch.bmm(functional.dropout(shares, p=dropped, training=self.training), value)
        found = found.view(rows, self.num_heads, length, self.head_dim)
    else:
        found = _attended(query, key, value, attention_mask, dropped, scale=1.0)
    return self.out_proj(found.transpose(1, 2).reshape(rows, length, width)), None


def _gpt_neox(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    layer_past: Any = None,
    position_embeddings: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    rows, length, width = hidden_states.shape
    heads = self.config.num_attention_heads
    product = self.query_key_value(hidden_states).view(rows, length, heads, 3 * self.head_size)
    query, key, value = product.permute(0, 2, 1, 3).chunk(3, dim=-1)
    rotated = import_module(type(self).__module__).apply_rotary_pos_emb
    query, key = rotated(query, key, *(t.float() for t in position_embeddings))
    _keep(layer_past, key, value)
    if self.config._attn_implementation == "eager":
        flat = (rows * heads, length, self.head_size)
        scores = torch.zeros((rows * heads, length, length), dtype=query.dtype, device=query.device)
        scores = torch.baddbmm(scores, query.view(flat), key.view(flat).transpose(1, 2), alpha=self.scaling)
        scores = _masked(self, scores.view(rows, heads, length, length), attention_mask)  # which live on, as there
        shares = functional.softmax(scores, dim=-1).to(value.dtype)
        found = torch.matmul(functional.dropout(shares, p=self.attention_dropout, training=self.training), value)
    else:
        query, key = query.to(value.dtype), key.to(value.dtype)
        dropped = self.attention_dropout if self.training else 0.0
        found = _attended(query, key, value, attention_mask, dropped, scale=self.scaling)
    return self.dense(found.transpose(1, 2).contiguous().view(rows, length, width)), None


def _gpt2(
    self: Any, hidden_states: torch.Tensor, past_key_values: Any = None, attention_mask: torch.Tensor | None = None, **_: Any
) -> tuple[torch.Tensor, None]:
    rows, length, width = hidden_states.shape
    split = self.c_attn(hidden_states).split(self.split_size, dim=2)
    query, key, value = (t.view(rows, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3) for t in split)
    _keep(past_key_values, key, value)
    if self.config._attn_implementation == "eager":
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / torch.full([], self.head_dim**0.5, dtype=scores.dtype, device=scores.device)
        scores = _masked(self, scores, attention_mask)
        scores = functional.softmax(scores, dim=-1).type(value.dtype)
        found = torch.matmul(self.attn_dropout(scores), value)
    else:
        dropped = self.attn_dropout.p if self.training else 0.0
        found = _attended(query, key, value, attention_mask, dropped, scale=None)
    found = self.c_proj(found.permute(0, 2, 1, 3).contiguous().view(rows, length, width))
    return self.resid_dropout(found), None


def _masked(module: Any, scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Scores (rows, heads, length, length) of what came before, and the least number for all else."""
    length = scores.shape[-1]
    least = torch.full([], torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
    scores = torch.where(module.bias[:, :, :length, :length], scores, least)
    return scores if mask is None else scores + mask


def _attended(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, dropped: float, *, scale: float | None
) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropped, is_causal=mask is None, scale=scale
    )


def _keep(cache: Any, *states: torch.Tensor) -> None:
    """Let the cache hold these as they are."""
    if cache is not None:
        vars(cache).setdefault("as_they_are", []).append(states)


ATTENTION: dict[str, tuple[str, Forward]] = {
    "opt": ("OPTAttention", _opt),
    "gpt_neox": ("GPTNeoXAttention", _gpt_neox),
    "gpt2": ("GPT2Attention", _gpt2),
}
"""By type of model (`resolve.OLDER`): the class, and what its forward pass was."""
