"""The processor: its name, what it can do, and how much of it this process may use."""

import contextlib
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engine.files import text_in
from engine.inspection.limits import container_cores

if TYPE_CHECKING:
    from recommender.facts import Machine

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
    numbers: dict[str, str] = {}
    with contextlib.suppress(OSError), cpuinfo.open(errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            match key.strip():
                case "model name":
                    found = value.strip()
                case "cpu family" | "model" as number:
                    numbers[number.removeprefix("cpu ")] = value.strip()
                case "flags" | "Features":
                    flags = set(value.split())
            if found and flags:
                break
    # Virtual machines call several generations "AMD EPYC", and what was measured on one is remembered by its name.
    if found and numbers and not re.search(r"\d", found):
        found += ", " + " ".join(f"{name} {number}" for name, number in numbers.items())
    # ARM kernels name no model.
    return Processor(found or platform.processor() or platform.machine() or None, bool(BF16 & flags), "avx512f" in flags)


def is_here(machine: "Machine") -> bool:
    """Whether that trains on a CPU, and on this one."""
    return machine.device is None and (machine.cpu_name, machine.cpu_cores) == (processor().name, usable_cores())


def may_be_here(machine: "Machine") -> bool:
    """Whether that is this CPU, as far as it is told."""
    told = machine.cpu_name in (None, processor().name) and machine.cpu_cores in (None, usable_cores())
    return machine.device is None and told


def usable_cores() -> int:
    """Cores this process may use: by its affinity, the processor time of its container and `OMP_NUM_THREADS`; at least one."""
    most = own_threads()
    return min(all_cores(), most) if most else all_cores()


def all_cores() -> int:
    """The same where nobody has set `OMP_NUM_THREADS`."""
    if sys.platform == "darwin":
        # Threads wait for each other after every operation: beside fast cores the slow ones hold them up (as torch counts).
        counted = _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or ""
        cores = int(counted) if counted.isdigit() else os.cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = _cores(frozenset(os.sched_getaffinity(0)))
    else:
        cores = os.cpu_count() or 1
    quota = container_cores()
    # More threads than the quota pays for are stopped together in the middle of every period.
    return cores if quota is None else max(1, min(cores, round(quota)))


def share_of_core() -> float | None:
    """What a container's quota pays for of each of the usable cores, where that is not all: 0.75 for two threads of 1.5 cores."""
    quota = container_cores()
    share = 1.0 if quota is None else quota / usable_cores()
    return share if share < 1 else None


def own_threads() -> int | None:
    """What a person, or a cluster, says in `OMP_NUM_THREADS`; `None` where nothing is said, or nothing that can be read."""
    found = re.match(r"\s*([0-9]{1,6})\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return (int(found[1]) or None) if found else None


@cache
def _cores(processors: frozenset[int], system: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many cores those processors are: two threads of one (SMT) share what multiplies, and count once, as for torch."""
    return len({text_in(system / f"cpu{n}/topology/thread_siblings_list") or str(n) for n in processors})


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
