"""Kernels that only CUDA has, by the CPU's arithmetic in fp32: torch's CUDA branches call them by name."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

FLASH, EFFICIENT = "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"


def register() -> set[str]:
    """The operations that are registered here, by their full names."""
    library = torch.library.Library("aten", "IMPL", "CUDA")
    _kept.append(library)
    own: dict[str, Callable[..., Any]] = {
        FLASH: flash,
        f"{FLASH}_backward": flash_backward,
        EFFICIENT: efficient,
        f"{EFFICIENT}_backward": efficient_backward,
        "_flash_attention_forward": varlen,
        "_flash_attention_backward": varlen_backward,
        "_softmax": _softmax(torch.ops.aten._softmax.default),
        "_log_softmax": _softmax(torch.ops.aten._log_softmax.default),
    }
    for name, product in (("mm", torch.mm), ("bmm", torch.bmm), ("addmm", torch.addmm), ("baddbmm", torch.baddbmm)):
        own |= {f"{name}.dtype": _wide(product), f"{name}.dtype_out": _wide(product)}
    for name, kernel in own.items():
        library.impl(name, kernel)
    return {f"aten::{name}" for name in own}


_kept: list[Any] = []
"""A library that is collected takes its kernels away."""


def _softmax(operation: Any) -> Callable[..., Any]:
    def kernel(x: Any, dim: int, half_to_float: bool) -> Any:
        return operation(x.cpu().float() if half_to_float else x.cpu(), dim, False).to(x.device)

    return kernel


def _wide(product: Any) -> Callable[..., Any]:
    """A product whose result is of another type than its factors."""

    def kernel(*args: Any, out: Any = None, **options: Any) -> Any:
        *factors, dtype = args
        found = product(*(t.cpu().to(dtype) for t in factors), **options).to(factors[0].device)
        return found if out is None else out.copy_(found)

    return kernel


def _scores(q: Any, k: Any, bias: Any, causal: bool, scale: float) -> Any:
    scores = (q @ k.transpose(-1, -2)) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1), -math.inf)
    return scores if bias is None else scores + bias.float()


def _keep(shape: Any, p: float, seed: int) -> Any:
    """What dropout keeps, scaled; the same again in the backward pass."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) >= p) / (1 - p) if p else 1.0


def _forward(tensors: list[Any], p: float, causal: bool, scale: float | None, seed: int) -> tuple[Any, Any]:
    """Output and log-sum-exp of queries, keys, values (batch, heads, length, size) and a bias on the CPU."""
    q, k, v, bias = tensors
    groups = q.shape[1] // k.shape[1]
    keys, values = (t.float().repeat_interleave(groups, 1) for t in (k, v))
    scores = _scores(q.float(), keys, bias, causal, q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores, -1) * _keep(scores.shape, p, seed)
    return (weights @ values).to(q.dtype), torch.logsumexp(scores, -1)


def _backward(tensors: list[Any], p: float, causal: bool, scale: float | None, seed: int) -> tuple[Any, Any, Any, Any]:
    """By hand, because below autograd no graph is kept: of queries, keys, values and scores."""
    grad, q, k, v, bias = tensors
    groups = q.shape[1] // k.shape[1]
    by = q.shape[-1] ** -0.5 if scale is None else scale
    queries, outwards = q.float(), grad.float()
    keys, values = (t.float().repeat_interleave(groups, 1) for t in (k, v))
    weights = torch.softmax(_scores(queries, keys, bias, causal, by), -1)
    keep = _keep(weights.shape, p, seed)
    of_weights = (outwards @ values.transpose(-1, -2)) * keep
    of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True))
    of_keys, of_values = of_scores.transpose(-1, -2) @ queries * by, (weights * keep).transpose(-1, -2) @ outwards
    of_keys, of_values = (t.unflatten(1, (-1, groups)).sum(2) for t in (of_keys, of_values))
    return (of_scores @ keys * by).to(q.dtype), of_keys.to(k.dtype), of_values.to(v.dtype), of_scores


def _refused_by_flash(*tensors: Any) -> None:
    if not all(t.is_cuda for t in tensors):
        raise RuntimeError("Expected all tensors to be on the same device")
    if tensors[0].dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")


def _host(*tensors: Any) -> list[Any]:
    return [None if t is None else t.cpu() for t in tensors]


def _seed() -> int:
    return int(torch.randint(2**31, ()))


def _as_kernels_lay_it(out: Any) -> Any:
    """A head's values beside the next head's."""
    return out.transpose(1, 2).contiguous().transpose(1, 2)


def flash(
    q: Any, k: Any, v: Any, p: float = 0.0, causal: bool = False, debug: bool = False, *, scale: float | None = None
) -> Any:
    _refused_by_flash(q, k, v)
    seed, at = _seed(), q.device
    out, lse = _forward(_host(q, k, v, None), p, causal, scale, seed)
    state = torch.tensor([seed, 0], device=at), torch.zeros((), dtype=torch.int64, device=at), torch.empty(0, device=at)
    return _as_kernels_lay_it(out).to(at), lse.to(at), None, None, q.shape[2], k.shape[2], *state


def flash_backward(grad: Any, q: Any, k: Any, v: Any, *rest: Any, scale: float | None = None) -> Any:
    _out, _lse, _cum_q, _cum_k, _max_q, _max_k, p, causal, seed, _offset = rest
    found = _backward(_host(grad, q, k, v, None), p, causal, scale, int(seed[0]))
    return tuple(t.to(q.device) for t in found[:3])


def efficient(
    q: Any, k: Any, v: Any, bias: Any, with_lse: bool, p: float = 0.0, causal: bool = False, *, scale: float | None = None
) -> Any:
    seed, at = _seed(), q.device
    out, lse = _forward(_host(q, k, v, bias), p, causal, scale, seed)
    return _as_kernels_lay_it(out).to(at), lse.to(at), torch.tensor(seed, device=at), torch.tensor(0, device=at)


def efficient_backward(grad: Any, q: Any, k: Any, v: Any, bias: Any, *rest: Any, scale: float | None = None) -> Any:
    _out, _lse, seed, _offset, p, wanted, *causal = rest
    *found, of_bias = _backward(_host(grad, q, k, v, bias), p, bool(causal and causal[0]), scale, int(seed))
    if wanted[3]:
        found.append(of_bias.sum_to_size(bias.shape).to(bias.dtype))
    return (*(t.to(q.device) for t in found), *([] if wanted[3] else [None]))


def _sequences(tensors: list[Any], starts: list[int]) -> list[list[Any]]:
    """Of tensors with sequences end to end, each sequence as a batch of one."""
    return [[t[a:b].transpose(0, 1)[None] for t in tensors] for a, b in pairwise(starts)]


def _whole(window_size_left: int | None = None, window_size_right: int | None = None, **_rest: Any) -> None:
    if {window_size_left, window_size_right} - {None, -1, 0}:
        raise RuntimeError("the pretended card has no attention within a window")


def varlen(q: Any, k: Any, v: Any, cum_q: Any, cum_k: Any, max_q: int, max_k: int, p: float, causal: bool, *debug: bool,
           scale: float | None = None, **rest: Any) -> Any:  # fmt: skip
    _refused_by_flash(q, k, v, cum_q, cum_k)
    _whole(**rest)
    assert cum_q.dtype == torch.int32
    assert q.dim() == 3
    assert q.stride(-1) == 1
    assert int(cum_q[-1]) == len(q)
    assert int((cum_q[1:] - cum_q[:-1]).max()) <= max_q
    found = [_forward([*one, None], 0.0, causal, scale, 0) for one in _sequences(_host(q, k, v), cum_q.tolist())]
    out, lse = torch.cat([out[0].transpose(0, 1) for out, _ in found]), torch.cat([lse[0] for _, lse in found], -1)
    state = torch.zeros(2, dtype=torch.uint64), torch.zeros((), dtype=torch.int64), torch.empty(0)
    return tuple(t.to(q.device) for t in (out, lse, *state))


def varlen_backward(grad: Any, q: Any, k: Any, v: Any, _out: Any, _lse: Any, cum_q: Any, _cum_k: Any, *rest: Any,
                    scale: float | None = None, **more: Any) -> Any:  # fmt: skip
    _max_q, _max_k, _p, causal, *_chance = rest
    _whole(**more)
    each = [_backward([*one, None], 0.0, causal, scale, 0) for one in _sequences(_host(grad, q, k, v), cum_q.tolist())]
    return tuple(torch.cat([found[i][0].transpose(0, 1) for found in each]).to(q.device) for i in range(3))
