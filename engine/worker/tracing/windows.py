"""What attention multiplies of all scores: no token sees those after it, or those outside of a window."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention.default
_FLASH_BACK = torch.ops.aten._scaled_dot_product_flash_attention_backward.default
_WINDOW: list[int | None] = [None]
_SHARES: dict[int, float] = {}
"""Of calls through a window: by the memory of their sums of exponentials, which the way back is given too."""


@contextlib.contextmanager
def looking_through(window: int | None) -> Iterator[None]:
    """Within it calls of flash attention see so many tokens back, and ahead where they are not causal."""
    before, _WINDOW[0] = _WINDOW[0], window
    try:
        yield
    finally:
        _WINDOW[0] = before


def share_of(func: Any, args: Any, out: Any, *, causal: bool) -> float:
    """Of a kernel's scores, how many it multiplies: blocks that nobody sees are passed over."""
    if func is _FLASH_BACK:
        return _SHARES.get(args[5].untyped_storage()._cdata, 0.5 if causal else 1.0)
    if func is _FLASH:
        length, window, at = int(args[1].shape[2]), _WINDOW[0], out[1].untyped_storage()._cdata
        _SHARES.pop(at, None)
        if window is not None and length > window:
            _SHARES[at] = seen(length, [(window - 1, 0 if causal else window - 1)]) / length
            return _SHARES[at]
    return 0.5 if causal else 1.0


def seen(length: int, window: Any) -> float:
    """Tokens that one sees on average, which reaches so many back and ahead (-1: all) if anything is said about it."""
    hidden = (max(length - 1 - reach, 0) for given in window for reach in given or () if reach >= 0)
    return float(length - sum(n * (n + 1) for n in hidden) / (2 * length))
