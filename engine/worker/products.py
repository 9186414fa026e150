"""Matrix products in fp32 on a processor: by oneDNN where that is faster than MKL. torch brings both and always takes MKL.

MKL has its AVX-512 code for Intel's processors only; on a Zen 5 oneDNN multiplies 2.2 times as fast (470 against 215 Gflop/s on
two cores, `benchmarks/products.py`). The products are of the same precision, added up in another order.
"""

import platform
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch

from engine.inspection.processor import processor
from engine.userstate import keep, recall
from engine.worker.devices import kind_of

Library = Literal["mkl", "onednn"]
FILE = "products.json"
FASTER = 1.3
"""Times as fast as MKL that oneDNN has to be: below, neighbours' work could make one process choose otherwise than the next."""
TURNS = 5
SIDES = (512, 768, 768)
"""(rows, in, out) of the product that is timed: milliseconds."""
ROUNDING = 1e-5
"""How far the two may lie apart, as a share of the largest number."""
LEAST = 2**22
"""Multiplications from which on oneDNN pays: each call costs 10 microseconds more (`benchmarks/products.py`)."""

_taken: list[Any] = []
"""The registration, once it is made; it lasts as long as somebody holds it."""


def take_faster() -> Library:
    """Have this process multiply by the faster library from now on; which that is was measured once on this machine (20 ms)."""
    if not _taken and fastest() == "onednn":
        # Below autograd, for every caller: models, adapters, 4-bit layers and the way back.
        registered = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced, which is the point
            registered.impl("mm", _mm, "CPU")
            registered.impl("addmm", _addmm, "CPU")
        _taken.append(registered)
    return in_use()


def in_use() -> Library:
    """By what this process multiplies."""
    return "onednn" if _taken else "mkl"


def added(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`out` (M, N) plus `a` (M, K) times `b` (K, N), in `out` itself unless oneDNN is to do it, which makes a new tensor."""
    return torch.addmm(out, a, b) if _taken and kind_of(out.device) == "cpu" else out.addmm_(a, b)


def copies(a: torch.Tensor, b: torch.Tensor) -> list[int]:
    """Bytes of the blocks that `a @ b` asks for beside its result, were it run on this processor by oneDNN; some 200 KB for each
    thread's share of a factor are left out."""
    way = _way(a, b)
    if way is None or a.is_contiguous():
        return []
    return [4 * (a if way is _direct else b).numel(), *([4 * a.shape[0] * b.shape[1]] if way is _turned else [])]


@cache
def _kernel() -> Callable[..., torch.Tensor] | None:
    """torch's own operation of oneDNN's linear layer, made for torch.compile; `None` in builds without it."""
    try:
        found: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None
    return found if torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() else None


@cache
def fastest() -> Library:
    """The faster one, as was found on this machine or is now; kept, so that a resumed run adds up in the same order."""
    if _kernel() is None:
        return "mkl"
    key = f"{processor().name or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    known = recall(FILE).get(key)
    if known not in ("mkl", "onednn"):
        known = _measured()
        keep(FILE, recall(FILE) | {key: known})
    return "onednn" if known == "onednn" else "mkl"


def _measured() -> Library:
    """The fastest of a few turns counts, taken by turns: the others found their numbers in memory, not in a cache, say."""
    rows, width, out = SIDES
    a, b = torch.rand(rows, width) - 0.5, torch.rand(width, out) - 0.5
    try:
        wanted, found = torch.mm(a, b), _direct(a, b)
        turns = [(_seconds(torch.mm, a, b), _seconds(_direct, a, b)) for _ in range(TURNS)]
    except RuntimeError:  # no kernel for this processor
        return "mkl"
    apart = float((found - wanted).abs().max() / wanted.abs().max())
    usual, other = map(min, zip(*turns, strict=True))
    return "onednn" if 0 < FASTER * other < usual and apart < ROUNDING else "mkl"  # 0: that clock stood still


def _seconds(way: Callable[..., torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> float:
    """Of the thread that calls, which has its share of every product. The clock counts what it waits for others, too: beside busy
    processes it said 0.9 to 1.9 times where this said 1.04 to 1.31; and what all threads take comes in ticks of the other ones:
    on two threads 0.7 to 2.6 times."""
    begin = time.thread_time()
    way(a, b)
    return time.thread_time() - begin


def _mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    way = _way(a, b) if torch._C._get_mkldnn_enabled() else None
    if way is not None:
        return way(a, b)
    found: torch.Tensor = torch.ops.aten.mm.out(a, b, out=a.new_empty(0))
    return found


def _addmm(c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: Any = 1, alpha: Any = 1) -> torch.Tensor:
    usable = beta == alpha == 1 and c.dtype is torch.float32 and c.is_contiguous() and a.is_contiguous()
    if usable and torch._C._get_mkldnn_enabled() and _way(a, b) is not None:
        if c.shape == b.shape[1:]:
            return _direct(a, b, c)
        if c.shape == (a.shape[0], b.shape[1]):
            summed: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(a, c, b.t(), None, "add")
            return summed
    found: torch.Tensor = torch.ops.aten.addmm.out(c, a, b, beta=beta, alpha=alpha, out=a.new_empty(0))
    return found


def _way(a: torch.Tensor, b: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    """How oneDNN is to multiply them; `None` where MKL is as fast, or oneDNN has only its slow reference (a factor cut out of a
    larger tensor)."""
    if a.dtype is not torch.float32 or b.dtype is not torch.float32 or a.dim() != 2 or b.dim() != 2:
        return None
    (m, k), n = a.shape, b.shape[1]
    if m * k * n < LEAST or k != b.shape[0] or not (b.is_contiguous() or b.t().is_contiguous()):
        return None
    if a.is_contiguous():
        return _direct
    if not a.t().is_contiguous():
        return None
    # The gradient of a weight: what comes first is copied in rows. Turned about that is the other factor, and then the result.
    return _turned if b.is_contiguous() and k * n + m * n < m * k else _direct


def _direct(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    kernel = _kernel()
    assert kernel is not None
    return kernel(a, b.t(), bias, "none", [], "")


def _turned(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _direct(b.t(), a.t()).t().contiguous()
