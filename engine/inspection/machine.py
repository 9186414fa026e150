"""Facts about this machine: GPUs through the driver's library, memory within the container's limits. No torch."""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import time
from pathlib import Path

from engine.inspection import nf4
from engine.launch import threads
from recommender.facts import Device, Machine

CALIBRATION_SECONDS = 0.2
CALIBRATION_SIDE = 1024
"""Square matrices of this side: large enough to keep every core busy, 20 to 50 ms on two of them."""
NO_LIMIT = 2**60
"""cgroup v1 writes about 2^63 where there is no limit."""


def nvidia_devices() -> tuple[Device, ...]:
    """NVIDIA GPUs this process may use, in the order of `CUDA_VISIBLE_DEVICES`; empty without a working driver."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except Exception:  # no driver, no library, or versions that do not match: all mean no GPU
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found = [_device(pynvml, handle) for handle in handles]
        return _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except Exception:  # a card that has fallen off the bus
        return ()
    finally:
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()


def _device(nvml: object, handle: object) -> Device:
    def asked(name: str) -> object:
        try:
            return getattr(nvml, name)(handle)
        except Exception:  # one answer that a driver does not give must not hide the card
            return None

    def text(value: object) -> str | None:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None

    memory = asked("nvmlDeviceGetMemoryInfo")
    capability = asked("nvmlDeviceGetCudaComputeCapability")
    pair = (int(capability[0]), int(capability[1])) if isinstance(capability, tuple | list) else None
    return Device(
        name=text(asked("nvmlDeviceGetName")),
        memory_total=getattr(memory, "total", None),
        memory_free=getattr(memory, "free", None),
        compute_capability=pair,
        bf16=pair >= (8, 0) if pair else None,
        uuid=text(asked("nvmlDeviceGetUUID")),
    )


def _visible(devices: list[Device], setting: str | None) -> tuple[Device, ...]:
    """What CUDA would show: indices, UUIDs or their prefixes, up to the first that is wrong.

    Indices are taken in the driver's order; CUDA's own default order differs only where unlike cards are mixed, and the
    worker is given a UUID, so card and prediction belong together in any case.
    """
    if setting is None:
        return tuple(devices)
    shown: list[Device] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdigit():
            matching = devices[int(entry) : int(entry) + 1]
        else:
            matching = [d for d in devices if entry and d.uuid and d.uuid.startswith(entry)]
        if len(matching) != 1:
            break
        if matching[0] not in shown:
            shown += matching
    return tuple(shown)


def machine(runs: Path | None = None) -> Machine:
    """This machine now; of several GPUs only the freest, the one the worker will see. `nf4` is what an earlier trial found."""
    import psutil

    devices = nvidia_devices() if _torch_knows_cuda() else ()
    freest = max(devices, key=lambda d: d.memory_free or 0, default=None)
    memory = psutil.virtual_memory()
    limit, room = container_memory()
    flags, name = _cpu()
    return Machine(
        backend="cuda" if freest else "cpu",
        devices=(freest,) if freest else (),
        cpu_name=name,
        cpu_cores=threads(),
        cpu_bf16=bool({"avx512_bf16", "amx_bf16"} & flags),
        ram_total=min(memory.total, limit),
        ram_available=max(min(memory.available, room), 0),
        disk_free=_disk_free(runs or Path()),
        nf4=nf4.remembered(_nf4_name(freest, name)),
    )


def nf4_works() -> bool | None:
    """Whether 4-bit kernels run on the device that would train; tried once per device and versions, up to a minute."""
    here = machine()
    device = here.devices[0] if here.devices else None
    return nf4.works(_nf4_name(device, here.cpu_name), device.uuid if device else None)


def _nf4_name(device: Device | None, cpu: str | None) -> str:
    return (device.name or "gpu") if device else f"cpu {cpu}"


def calibrate() -> dict[str, float]:
    """Matrix-multiply speed of the CPU in operations a second, by precision; takes under 0.3 s on all usable cores.

    The fastest of several multiplications counts: the others were disturbed by somebody else.
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
        start = time.perf_counter()
        np.matmul(left, right, out=out)
        fastest = min(fastest, time.perf_counter() - start)
    return {"fp32": 2 * side**3 / fastest}


def container_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """The container's memory limit and what it leaves, in bytes; both huge where there is no limit (cgroup v1 and v2)."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return NO_LIMIT, NO_LIMIT
    limit = room = NO_LIMIT
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.strip("/")
        # Every group above limits too; inside a container the path is often the host's, and only the base exists.
        for group in (folder, *(p for p in folder.parents if p.is_relative_to(base))):
            most, used = _number(group / names[0]), _number(group / names[1])
            if most is None or most >= NO_LIMIT:
                continue
            limit = min(limit, most)
            # File pages that nobody uses are given back before anything is killed.
            room = min(room, most - (used or 0) + _stat(group / "memory.stat", names[2]))
    return limit, min(room, limit)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no number and no limit
        return None


def _stat(path: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _torch_knows_cuda() -> bool:
    """Whether the installed torch could use an NVIDIA card, read from its version file without importing it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        spec = importlib.util.find_spec("torch")
        for place in (spec.submodule_search_locations or []) if spec else []:
            text = (Path(place) / "version.py").read_text(errors="replace")
            return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None
    return False


def _cpu() -> tuple[set[str], str | None]:
    """Instruction-set flags and the processor's name."""
    flags: set[str] = set()
    name: str | None = None
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            match key.strip():
                case "model name":
                    name = value.strip()
                case "flags" | "Features":
                    flags = set(value.split())
            if name and flags:
                break
    return flags, name or platform.processor() or None


def _disk_free(where: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        there = where.expanduser().absolute()
        return shutil.disk_usage(next(p for p in (there, *there.parents) if p.exists())).free
    return None
