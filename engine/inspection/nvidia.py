"""NVIDIA GPUs through the driver's own library (NVML): asked in a child, because a call that hangs cannot be interrupted."""

import contextlib
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.files import text_in
from engine.inspection.child import ask
from engine.text import one_line
from recommender.errors import LoracleError
from recommender.facts import Device

DRIVER_SECONDS = 20.0
"""Without the persistence daemon a driver wakes every card first, which takes a second or two each."""
VENDOR, DISPLAY = "0x10de", "0x03"
"""NVIDIA, and cards that draw or compute, in the words of the PCI bus; its bridges and sound are of other classes."""
JETSON = Path("/etc/nv_tegra_release")
"""A file of NVIDIA's small boards, whose driver comes without that library before JetPack 7."""
_NOT_SUPPORTED = 3
"""NVML's code for what a card does not offer."""


def card_present() -> bool:
    """Whether the system shows an NVIDIA card, without asking the driver."""
    with contextlib.suppress(OSError):
        if any(Path("/proc/driver/nvidia/gpus").iterdir()):
            return True
    return Path("/dev/nvidia0").exists() or Path("/usr/lib/wsl/lib/libnvidia-ml.so.1").exists()


def under_windows() -> bool:
    """Whether this is Linux below Windows (WSL), whose driver the card is reached through."""
    return Path("/dev/dxg").exists() or "microsoft" in platform.release().lower()


def driver_present() -> bool:
    """Whether it is worth asking: a card, or the driver's library where the system's loader looks."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
    folders += ["/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64"]
    windows = Path(os.environ.get("SYSTEMROOT", "/none"), "System32", "nvml.dll")
    return card_present() or windows.exists() or any(Path(f, "libnvidia-ml.so.1").exists() for f in folders if f)


def _unreachable(pci: Path = Path("/sys/bus/pci/devices")) -> tuple[str, ...]:
    """That there is a card which nothing here can talk to: containers see all cards of the machine and only the drivers given."""
    if JETSON.exists():
        return ("The NVIDIA driver of this Jetson does not say what memory its GPU has, so no GPU is used.",)
    for device in pci.glob("*"):
        if text_in(device / "vendor") == VENDOR and text_in(device / "class").startswith(DISPLAY):
            cure = "install it, or start the container with its GPUs (`docker run --gpus all`)"
            return (f"There is an NVIDIA GPU whose driver cannot be reached from here, so it is not used: {cure}.",)
    return ()


def look(torch_cuda: str, *, wheel: str = "") -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """The cards and slices that this process may use now, and what could not be found out.

    `torch_cuda` is the version of CUDA that the installed torch needs; `wheel` is torch's own, where PyTorch itself has built it.
    Never raises.
    """
    if not driver_present():
        return (), _unreachable()
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is not None and setting.partition(",")[0].strip() in ("", "-1", "NoDevFiles"):
        return (), (f"CUDA_VISIBLE_DEVICES is {one_line(setting, 40) or 'empty'}, so no GPU is used.",)
    try:
        answer = ask("nvidia", {"pid": os.getpid()}, about="NVIDIA driver", timeout=DRIVER_SECONDS)
    except LoracleError as error:
        how = f"did not answer within {DRIVER_SECONDS:.0f} seconds" if "took longer" in error.message else "cannot be asked"
        return (), (f"The NVIDIA driver {how}, so no GPU is used; see what `nvidia-smi` says, a restart often helps.",)
    problems = [one_line(text, 300) for text in answer["problems"]]
    try:
        units = [(Device.model_validate(unit), unit["card"], unit["names"]) for unit in answer["units"]]
    except ValidationError:
        return (), (*problems, "The NVIDIA driver answers with numbers that cannot be, so no GPU is used; restart the machine.")
    shown = visible(units, answer["cards"], setting)
    if units and not shown:
        problems.append(f"CUDA_VISIBLE_DEVICES is {one_line(setting, 80)}, which names no GPU of this machine.")
    if len(units) > 1 and (setting is None or "," in setting):  # torch would see others beside it, and spread over all
        problems += [_nameless(device, card) for device, card, _ in units if device in shown and not device.uuid]
        shown = [device for device in shown if device.uuid]
    too_old = _too_old(torch_cuda, answer["cuda"])
    if too_old and shown:
        return (), (*problems, too_old)
    oldest, newest = _between(torch_cuda, wheel)
    for device in [d for d in shown if d.compute_capability and not oldest <= d.compute_capability < newest]:
        shown.remove(device)
        old = bool(device.compute_capability and device.compute_capability < oldest)
        how = "is too old for the installed torch" if old else "is too new for the installed torch"
        cure = "torch for CUDA 12.6 can use it" if old else "torch for CUDA 12.8 or later can use it"
        problems.append(f"{device.name} {how} (CUDA {torch_cuda}), so it is not used; {cure}.")
    return tuple(shown), tuple(problems)


def _nameless(device: Device, card: int) -> str:
    cure = f"CUDA_DEVICE_ORDER=PCI_BUS_ID and CUDA_VISIBLE_DEVICES={card} in the environment show it alone"
    return f"{device.name} tells no UUID, by which one of several GPUs is chosen, so it is not used; {cure}."


def _between(torch_cuda: str, wheel: str) -> tuple[tuple[int, int], tuple[float, int]]:
    """The compute capability that a card must have at least, and the first that is too much.

    CUDA 13 compiles for Turing and later. PyTorch's own builds for CUDA 12.8 and 12.9 hold nothing for cards before Volta since
    2.8, and before Turing since 2.11 (its support matrix; pytorch issues 157517 and 172352). Those for an earlier CUDA hold
    nothing for Blackwell (167244).
    """
    cuda, torch = (tuple([*(int(n) for n in re.findall("[0-9]+", version)), 0, 0][:2]) for version in (torch_cuda, wheel))
    late = cuda >= (12, 8)
    turing = cuda >= (13, 0) or (late and torch >= (2, 11))
    oldest = (7, 5) if turing else (7, 0) if wheel and late else (0, 0)
    return oldest, (10, 0) if wheel and not late else (math.inf, 0)


def _too_old(torch_cuda: str, driver: int | None) -> str | None:
    """Whether the driver is a generation older than torch's CUDA; within one generation they work together."""
    needed = torch_cuda.partition(".")[0]
    if driver is None or not needed.isdigit() or driver // 1000 >= int(needed):
        return None
    has = f"{driver // 1000}.{driver % 1000 // 10}"
    return (
        f"The NVIDIA driver knows CUDA {has} and the installed torch needs {torch_cuda}, so no GPU is used;"
        f" update the driver, or install torch for CUDA {driver // 1000}."
    )


def visible(units: list[tuple[Device, int, list[str]]], cards: int, setting: str | None) -> list[Device]:
    """What `CUDA_VISIBLE_DEVICES` leaves: indices, UUIDs or their prefixes, up to the first that is wrong.

    `units` are devices, each with its card's number and the names it answers to. A card named as a whole stands for all
    its slices: the worker is given one by UUID. Indices are the driver's; CUDA's own order differs only where unlike
    cards are mixed, and the worker is given a UUID, so card and prediction belong together in any case.
    """
    if setting is None:
        return [device for device, _, _ in units]
    shown: list[Device] = []
    for entry in (part.strip() for part in setting.split(",")):
        if re.fullmatch("[0-9]{1,4}", entry):
            named = [unit for unit in units if unit[1] == int(entry)]
            clear = int(entry) < cards
        else:
            named = [unit for unit in units if entry and any(name.startswith(entry) for name in unit[2])]
            clear = len(named) == 1 or (entry.startswith("GPU-") and len({card for _, card, _ in named}) == 1)
        if not clear:
            break
        shown += [device for device, _, _ in named if device not in shown]
    return shown


def report(own: int) -> dict[str, Any]:
    """All cards and slices, and what the driver could not say. Only for the child: any call may hang.

    `own` is the process that asks; its memory is not held by others. A unit is the JSON of a device with `card`, its
    number in the driver's order, and `names`, what it answers to in `CUDA_VISIBLE_DEVICES`.
    """
    answer: dict[str, Any] = {"units": [], "cards": 0, "cuda": None, "problems": []}
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        answer["cards"] = nvml.nvmlDeviceGetCount()
    except Exception as error:  # no library, no driver, versions that do not match: a fact, not an error
        answer["problems"].append(f"The NVIDIA driver does not work ({one_line(error, 120)}), so no GPU is used.")
        return answer
    with contextlib.suppress(Exception):
        answer["cuda"] = nvml.nvmlSystemGetCudaDriverVersion_v2()
    for card in range(answer["cards"]):
        try:
            units, problem = _card(nvml, card, own)
            answer["units"] += units
        except Exception as error:  # a card that has fallen off the bus must not hide the others
            problem = f"NVIDIA GPU {card} does not answer ({one_line(error, 120)}), so it is not used."
        if problem:
            answer["problems"].append(problem)
    with contextlib.suppress(Exception):
        nvml.nvmlShutdown()
    return answer


def _card(nvml: Any, card: int, own: int) -> tuple[list[dict[str, Any]], str | None]:
    """The card itself, or its slices when it is cut into some; and what is wrong with it."""
    handle = nvml.nvmlDeviceGetHandleByIndex(card)
    whole = _unit(nvml, handle, own)
    uuid = whole["uuid"]
    pair = whole["compute_capability"] = _capability(nvml, handle)
    whole |= {"card": card, "names": [uuid] if uuid else [], "bf16": tuple(pair) >= (8, 0) if pair else None}
    if (_asked(nvml, "nvmlDeviceGetMigMode", handle) or [0])[0] != 1:
        return [whole | {"mig": False, "shares_memory": _shares_memory(nvml, handle)}], None
    slices = []
    for place in range(_asked(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        part = _asked(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
        if part is None:  # numbers may have gaps
            continue
        found = whole | {"mig": True} | {k: v for k, v in _unit(nvml, part, own).items() if v is not None or "memory" in k}
        ids = [_asked(nvml, f"nvmlDeviceGet{kind}InstanceId", part) for kind in ("Gpu", "Compute")]
        # Drivers before 470 name a slice by its card.
        found["names"] = [found["uuid"] or "", *whole["names"], f"MIG-{uuid}/{ids[0]}/{ids[1]}"]
        slices.append(found)
    if not slices:
        return (
            [],
            f"{whole['name']} is set to be cut into slices (MIG) and has none, so it is not used; make one, or turn MIG off.",
        )
    return slices, None


def _unit(nvml: Any, handle: Any, own: int) -> dict[str, Any]:
    memory = _memory(nvml, handle)
    total, free, used = (getattr(memory, name, None) for name in ("total", "free", "used"))
    return {
        "name": _text(_asked(nvml, "nvmlDeviceGetName", handle)),
        "memory_total": total,
        "memory_free": free,
        "held_by_others": _held_by_others(nvml, handle, used, own),
        "temperature": _asked(nvml, "nvmlDeviceGetTemperature", handle, 0),
        "uuid": _text(_asked(nvml, "nvmlDeviceGetUUID", handle)),
    }


def _memory(nvml: Any, handle: Any) -> Any:
    """Total, free and used; the second version does not count what the driver keeps for itself as used."""
    with contextlib.suppress(Exception):
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    return _asked(nvml, "nvmlDeviceGetMemoryInfo", handle)


def _shares_memory(nvml: Any, handle: Any) -> bool:
    """Whether the card has no memory of its own to tell about, as those that are one chip with the processor."""
    try:
        nvml.nvmlDeviceGetMemoryInfo(handle)
    except Exception as error:
        return getattr(error, "value", None) == _NOT_SUPPORTED
    return False


def _held_by_others(nvml: Any, handle: Any, used: int | None, own: int) -> int | None:
    """Bytes in other processes' hands. A container hides those outside it, but not what they use."""
    mine = others = 0
    seen: set[int] = set()
    for kind in ("Compute", "Graphics"):
        for process in _asked(nvml, f"nvmlDeviceGet{kind}RunningProcesses", handle) or []:
            if process.pid in seen:  # drawing and computing: in both lists
                continue
            seen.add(process.pid)
            if process.pid == own:
                mine += process.usedGpuMemory or 0
            else:
                others += process.usedGpuMemory or 0
    return others or None if used is None else max(others, used - mine, 0)


def _capability(nvml: Any, handle: Any) -> list[int] | None:
    pair = _asked(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    return [int(pair[0]), int(pair[1])] if pair else None


def _asked(nvml: Any, name: str, *about: Any) -> Any:
    try:
        return getattr(nvml, name)(*about)
    except Exception:  # one answer that a driver does not give must not hide the card
        return None


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
