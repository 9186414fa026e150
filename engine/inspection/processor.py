"""The processor: its name, what it can do, and how much of it this process may use."""

import contextlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.inspection.limits import container_cores

BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""Flags of processors that multiply bf16 in hardware: x86 and, without a prefix, ARM."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What the system says of the processor."""

    name: str | None
    bf16: bool
    avx512: bool


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """This machine's processor."""
    if sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string") or platform.machine()
        return Processor(name, bf16=_sysctl("hw.optional.arm.FEAT_BF16") == "1", avx512=_sysctl("hw.optional.avx512f") == "1")
    flags: set[str] = set()
    found: str | None = None
    with contextlib.suppress(OSError), cpuinfo.open(errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            match key.strip():
                case "model name":
                    found = value.strip()
                case "flags" | "Features":
                    flags = set(value.split())
            if found and flags:
                break
    # ARM kernels name no model.
    return Processor(found or platform.processor() or platform.machine() or None, bool(BF16 & flags), "avx512f" in flags)


def usable_cores() -> int:
    """Cores this process may use: by its affinity and by the processor time of its container, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = container_cores()
    # More threads than the quota pays for are stopped together in the middle of every period.
    return cores if quota is None else max(1, min(cores, round(quota)))


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
