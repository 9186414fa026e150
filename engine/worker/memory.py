"""How much memory this process holds, has held and may still take; and a fence that turns a kill into an exception."""

import contextlib
import math
import resource
import sys
import time
from types import TracebackType
from typing import Any, Literal

import psutil

from engine.inspection.limits import container_memory, promised_memory

RENEW_SECONDS = 0.5
LEAST_ROOM = 64 * 1024**2
"""What the fence leaves for small things however full the machine is: they come without warning and are not worth an end. As much
is left below a limit of the process's own (`ulimit -d`): at the very limit Python crashes, and OpenBLAS asks for ever."""
KERNEL_SHARE = 0.03
"""Of what is touched, what the kernel takes beside it: page tables, and file pages that are in use."""

_highest = 0
"""Peak in bytes before the count was last begun anew."""


def _cuda() -> Any:
    """torch.cuda where this process computes on a GPU. Threads beat while torch is still being imported by another."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(getattr(torch, "__spec__", None), "_initializing", False):
        return None
    return torch.cuda if torch.cuda.is_available() and torch.cuda.is_initialized() else None


def memory_now() -> int:
    """Bytes held now: by the allocator of the GPU in use, else by this process."""
    cuda = _cuda()
    return int(cuda.memory_reserved()) if cuda else int(psutil.Process().memory_info().rss)


def counted_by() -> Literal["allocator", "process"]:
    """Whose bytes these functions count: a GPU's allocator, beside which a context lies, or all of this process."""
    return "allocator" if _cuda() else "process"


def memory_available() -> int:
    """Bytes this run may hold: what it holds now, and what is free beside it."""
    cuda = _cuda()
    return (int(cuda.mem_get_info()[0]) if cuda else host_room()) + memory_now()


def host_room() -> int:
    """Bytes of main memory this process may still take: what is free, within a container's limit, the system's and its own
    (`ulimit`)."""
    return int(min(psutil.virtual_memory().available, container_memory()[1], promised_memory(), _own_room()))


def _own_room() -> float:
    """Bytes left below the limits that were set for this process from outside; the fence moves the soft one, not these."""
    left = math.inf
    for limit, name in ((resource.RLIMIT_DATA, "VmData:"), (resource.RLIMIT_AS, "VmSize:")):
        hard, held = resource.getrlimit(limit)[1], _held(name)
        if hard != resource.RLIM_INFINITY and held is not None:
            left = min(left, max(hard - held, 0))
    return left


def memory_peak() -> int:
    """The most bytes held so far, by the same measure as `memory_now`."""
    return max(_highest, _peak_since())


def _peak_since() -> int:
    cuda = _cuda()
    if cuda:
        return int(cuda.max_memory_reserved())
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kibibytes * (1 if sys.platform == "darwin" else 1024))


class Peak:
    """The most bytes held since this was made."""

    def __init__(self) -> None:
        global _highest
        _highest = memory_peak()
        cuda = _cuda()
        if cuda:
            cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # Linux: the high-water mark of resident memory begins anew (proc(5))

    def bytes(self) -> int:
        """Up to now. Where the system cannot begin its count anew, the peak of the process's whole life."""
        return _peak_since()


class Fence:
    """While inside, the process cannot take more memory than the machine has: allocations fail instead.

    Linux hands out memory that it does not have and kills whoever uses it, without a word. A limit on the process's own data,
    renewed as other processes come and go, makes the allocator say no, which the training knows how to answer: with a smaller
    micro-batch. For runs on the CPU; a GPU's allocator says no by itself.
    """

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_DATA) if sys.platform == "linux" else None
        self._renewed = 0.0
        self._untouched = math.inf
        """Bytes that were asked for and never used: the least that there ever were of them."""

    def __enter__(self) -> "Fence":
        self.renew()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None) -> None:
        self.lift()

    def lift(self) -> None:
        """Until it is drawn anew: what is mapped beside the heap finds no room behind what the heap keeps of freed memory."""
        if self._before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._before)
            self._renewed = 0.0

    def renew(self) -> None:
        """Draw it where the memory that is free now ends; at most twice a second."""
        now = time.monotonic()
        if self._before is None or now - self._renewed < RENEW_SECONDS or _cuda():
            return
        self._renewed = now
        held, touched = _held("VmData:"), _held("RssAnon:")
        if held is None or touched is None:
            return
        # What was freed and given back still counts as held, and would be used again: after a micro-batch that did not fit, a
        # limit drawn behind it would lie behind the end of the memory (killed in a container of 1.5 GB).
        self._untouched = min(self._untouched, held - touched)
        room = host_room()
        most = int(touched + self._untouched + max(room - KERNEL_SHARE * (touched + room), LEAST_ROOM))
        soft, hard = self._before
        own = [n - LEAST_ROOM for n in (soft, hard) if n != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min([most, *own]), hard))


def _held(name: str) -> int | None:
    """Bytes of this process by the kernel's name for them. `VmData:` is what counts against RLIMIT_DATA, private memory that can
    be written; nothing where the system does not tell."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None
