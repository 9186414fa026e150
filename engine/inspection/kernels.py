"""Whether 4-bit training and 8-bit optimizers really work here: one small step of each, in a child, remembered."""

import json
from importlib import import_module
from typing import Any, Literal

from engine.installed import version
from engine.userstate import keep, recall
from recommender.errors import LoracleError

FILE = "nf4.json"
TRIAL_SECONDS = 60.0
Kernels = Literal["nf4", "adamw_8bit"]
"""What of bitsandbytes' is tried: a 4-bit layer, or a step of the optimizer with 8-bit moments."""


DEVICES = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps"}
"""torch's word for a backend's device."""


def remembered(device: str, kernels: Kernels = "nf4") -> bool | None:
    """What the last trial on that device with these versions found; `None` when there was none."""
    found = recall(FILE).get(_key(device, kernels))
    return found if isinstance(found, bool) else None


def works(device: str, backend: str, only: dict[str, str], kernels: Kernels = "nf4") -> bool | None:
    """Try it now, up to `TRIAL_SECONDS`, and remember the answer; `None` when it could not be told.

    `device` is a name for the memory; `only` are the environment variables that show the child the one to try.
    """
    from engine.inspection.child import ask

    known = remembered(device, kernels)
    if known is not None:
        return known
    try:
        answer = ask(kernels, {"backend": backend}, about="trial of kernels", timeout=TRIAL_SECONDS, extra=only)
    except LoracleError as error:
        # A machine or a card that is busy now says nothing about the kernels.
        if "took longer" in error.message or "out of memory" in error.message:
            return None
        answer = {"works": False}
    result = answer["works"]
    if result is not None:
        keep(FILE, recall(FILE) | {_key(device, kernels): result})
    return result if result is None else bool(result)


def trial(kernels: Kernels, backend: str) -> bool | None:
    """What the child does: one step on that backend's device; `None` when its memory is full. It imports torch."""
    device = DEVICES.get(backend, "cpu")
    return passes_in_4_bit(device) if kernels == "nf4" else steps_in_8_bit(device)


def passes_in_4_bit(device: str) -> bool | None:
    """One forward and backward pass through a 4-bit layer on that device; `None` when that cannot be told now.

    Only for the child: it imports torch.
    """
    try:
        import bitsandbytes as bnb
        import torch

        if not _answers(device):
            return None
        layer: Any = bnb.nn.modules.Linear4bit(  # type: ignore[no-untyped-call]
            64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=True
        ).to(device)
        rows = torch.randn(4, 64, device=device, requires_grad=True)
        layer(rows).sum().backward()
        return rows.grad is not None and bool(torch.isfinite(rows.grad).all()) and bool(rows.grad.abs().sum() > 0)
    except (ImportError, RuntimeError, OSError, AttributeError, NotImplementedError, ValueError, AssertionError) as error:
        return None if _is_short(error) else False


def steps_in_8_bit(device: str, *, paged: bool = False) -> bool | None:
    """Whether one step of AdamW with 8-bit moments moves weights on that device as it should; `None` when that
    cannot be told now.

    For the worker and the child: it imports torch. Of the smallest tensor that is not kept in 32 bit.
    """
    try:
        import torch

        optim: Any = import_module("bitsandbytes.optim")
        if not _answers(device):
            return None
        weights = torch.nn.Parameter(torch.ones(4096, device=device))
        weights.grad = torch.ones_like(weights)
        kind: Any = optim.PagedAdamW8bit if paged else optim.AdamW8bit
        kind([weights], lr=0.1, weight_decay=0.0).step()
        return bool(torch.allclose(weights.detach().cpu(), torch.full((4096,), 0.9), atol=0.01))
    except Exception as error:  # whatever a missing or broken kernel raises
        return None if _is_short(error) else False


def _answers(device: str) -> bool:
    """Whether that device can be used now: where it is busy, full or has to be woken, nothing can be said of kernels on it."""
    import torch

    try:
        torch.ones(1, device=device)
    except RuntimeError:  # a torch that is not built for it asserts
        return False
    return True


def _is_short(error: Exception) -> bool:
    """Whether memory was the matter, in torch's words or cuBLAS's."""
    said = str(error).lower()
    return any(words in said for words in ("out of memory", "status_alloc_failed", "cublas_status_not_initialized"))


def _key(device: str, kernels: Kernels) -> str:
    what = [] if kernels == "nf4" else [kernels]
    return json.dumps([device, *what, *(f"{name} {version(name)}" for name in ("torch", "bitsandbytes"))])
