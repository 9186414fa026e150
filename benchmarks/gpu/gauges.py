"""Memory and time of the GPU; without one, time alone."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def tidy() -> None:
    """Give back what nobody holds, to the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait() -> None:
    """Until the GPU has done all that was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def allocated() -> int:
    """Bytes that tensors hold."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0


def used() -> int:
    """Bytes of the device that are not free: this process's context and reserved memory, where nobody else is on it."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


class Peaks:
    """The most bytes in each phase. `mark(phase)` ends one."""

    def __init__(self) -> None:
        self.allocated: dict[str, int] = {}
        self.reserved = 0
        self.begin()

    def begin(self) -> None:
        """A phase begins now."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def mark(self, phase: str) -> None:
        """The phase is over, the next begins."""
        if torch.cuda.is_available():
            self.allocated[phase] = max(self.allocated.get(phase, 0), int(torch.cuda.max_memory_allocated()))
            self.reserved = max(self.reserved, int(torch.cuda.max_memory_reserved()))
        self.begin()


def seconds(act: Callable[[], Any], times: int) -> list[float]:
    """Of each of `times` calls, to the end of what the GPU does for it."""
    found = []
    for _ in range(times):
        wait()
        started = time.perf_counter()
        act()
        wait()
        found.append(time.perf_counter() - started)
    return found


class Kernels(TorchDispatchMode):  # type: ignore[misc]  # mypy does not read torch here
    """Which attention operations were called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "attention" in name or "attn" in name:
            self.names.add(name.removesuffix(".default").removeprefix("aten."))
        return func(*args, **(kwargs or {}))


def attention_of(kernels: set[str]) -> str | None:
    """The kind of attention that ran, in the words of a step's facts; None where none of torch's did.

    cuDNN's keeps what flash attention keeps: queries, keys, values, the output and a sum for each row.
    """
    for word, kind in (("flash", "flash"), ("varlen", "flash"), ("cudnn", "flash"), ("efficient", "efficient")):
        if any(word in name for name in kernels):
            return kind
    return "math" if any("attention" in name for name in kernels) else None


def is_full(error: BaseException) -> bool:
    """Whether memory was the matter, in torch's words or in the engine's."""
    texts = [str(e) for e in (error, error.__cause__) if e is not None]
    return isinstance(error, torch.OutOfMemoryError) or any("not enough memory" in t or "out of memory" in t for t in texts)
