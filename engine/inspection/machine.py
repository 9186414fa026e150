"""Facts about this machine: accelerators, processor, and what memory and disk are really left. No torch."""

import contextlib
import importlib.util
import time
from pathlib import Path

from engine.files import disk_free, expanded
from engine.inspection import accelerators as cards
from engine.inspection import kernels
from engine.inspection.hub_list import hub_cache
from engine.inspection.limits import container_memory, process_memory, promised_memory
from engine.inspection.processor import all_cores, own_threads, processor, share_of_core, usable_cores
from engine.installed import version
from recommender.facts import Device, Machine
from recommender.variants import has_8bit_adamw

CALIBRATION_SECONDS = 0.2
CALIBRATION_SIDE = 1024
"""Square matrices of this side: large enough to keep every core busy, 20 to 50 ms on two of them."""


def machine(runs: Path = Path()) -> Machine:
    """This machine now, with every accelerator that it lets this process use. `nf4` is what an earlier trial found.

    Never raises; what could not be found out is in `problems`.
    """
    import psutil

    found = cards.accelerators()
    cpu = processor()
    memory = psutil.virtual_memory()
    (limit, room), own = container_memory(), process_memory()
    total, available = min(memory.total, limit), max(min(memory.available, room, own, promised_memory()), 0)
    here = Machine(
        backend=found.backend,
        devices=tuple(_with_memory(device, total, available) for device in found.devices),
        usable_devices=1 if found.devices else None,
        cpu_name=cpu.name,
        cpu_cores=usable_cores(),
        cpu_share=share_of_core(),
        cpu_bf16=cpu.bf16,
        cpu_avx512=cpu.avx512,
        liger=liger(),
        ram_total=total,
        ram_available=available,
        disk_free=_disk_free(runs),
        hub_disk_free=_disk_free(hub_cache()),
        problems=found.problems if found.devices else (*found.problems, *_other_threads()),
    )
    return here.model_copy(update={"nf4": kernels.remembered(_nf4_name(here))})


def _other_threads() -> tuple[str, ...]:
    """That a run on the processor takes more or fewer threads than there are cores: some clusters and images set it for all."""
    threads, cores = own_threads(), all_cores()
    if threads in (None, cores):
        return ()
    here = f"OMP_NUM_THREADS is {threads} in the environment and the cores to be used here are {cores}"
    return (f"{here}; without it a run on the processor takes a thread a core.",)


def liger() -> str | None:
    """The version of liger-kernel, where it and the compiler that it needs are installed; nothing is imported."""
    return version("liger-kernel") if importlib.util.find_spec("triton") is not None else None


def _with_memory(device: Device, total: int, available: int) -> Device:
    """A device that shares the system's memory has no more of it than the system has left."""
    if not device.shares_memory:
        return device
    most = total if device.memory_total is None else min(device.memory_total, total)
    return device.model_copy(update={"memory_total": most, "memory_free": min(most, available)})


def nf4_works(here: Machine) -> bool | None:
    """Whether 4-bit kernels run on the device that would train; tried once per device and versions, up to a minute.

    `None` when it could not be told, because no answer came in time or memory was short.
    """
    return kernels.works(_nf4_name(here), here.backend, only_device(here))


def adamw_8bit_works(here: Machine) -> bool | None:
    """The same of AdamW with 8-bit moments. On NVIDIA's and AMD's cards, for which it was written, nothing is tried."""
    if has_8bit_adamw(here):
        return True
    return kernels.works(_nf4_name(here), here.backend, only_device(here), "adamw_8bit")


def only_device(here: Machine) -> dict[str, str]:
    """Environment variables that show a child the device that would train, and no other; without one the processor alone."""
    found = cards.Accelerators(here.backend, here.devices, ())
    return cards.only(found, here.device) if here.device else cards.NONE


def _nf4_name(here: Machine) -> str:
    return (here.device.name or "gpu") if here.device else f"cpu {here.cpu_name}"


def calibrate() -> dict[str, float]:
    """Matrix-multiply speed of the CPU in operations a second, by precision; takes under 0.3 s on all usable cores.

    By the processor time of the calling thread, which has its share of each, and the fastest of several counts: others who
    compute here add little. By the clock a program of low priority read a tenth of the speed at a load of seven, so half.
    """
    try:
        import numpy as np
    except ImportError:
        return {}
    side = CALIBRATION_SIDE
    left, right, out = (np.full((side, side), value, dtype=np.float32) for value in (0.5, 0.25, 0.0))
    np.matmul(left, right, out=out)  # the first one starts the threads
    fastest, end = float("inf"), time.perf_counter() + CALIBRATION_SECONDS
    while time.perf_counter() < end:
        start = time.thread_time()
        np.matmul(left, right, out=out)
        fastest = min(fastest, time.thread_time() - start or fastest)  # where that clock stands still for milliseconds
    return {"fp32": 2 * side**3 / fastest} if fastest < float("inf") else {}


def _disk_free(where: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return disk_free(expanded(where))
    return None
