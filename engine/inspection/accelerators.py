"""The accelerators that the installed torch can use, and what kind of torch that is. No torch in this process."""

import contextlib
import importlib.util
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.files import text_in
from engine.inspection import amd, nvidia
from engine.inspection.child import ask
from engine.text import one_line
from recommender.errors import LoracleError
from recommender.facts import Backend, Device

TORCH_SECONDS = 90.0
"""To import torch from a cold disk and ask it for its devices."""


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What this process may use."""

    backend: Backend
    """`cpu` where there is no device."""
    devices: tuple[Device, ...]
    problems: tuple[str, ...]


def accelerators() -> Accelerators:
    """The devices of the one backend that the installed torch is built for. Never raises."""
    build = torch_build()
    devices: tuple[Device, ...]
    problems: tuple[str, ...]
    backend: Backend = "cpu"
    if "cuda" in build:
        backend, (devices, problems) = "cuda", nvidia.look(build["cuda"], wheel=build.get("wheel", ""))
    elif "hip" in build:
        backend, (devices, problems) = "rocm", amd.look()
    elif "xpu" in build:
        backend, (devices, problems) = "xpu", _told_by_torch("xpu") if _intel_present() else ((), ())
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        backend, (devices, problems) = "mps", _told_by_torch("mps")
    else:
        devices, problems = (), _unused()
    return Accelerators(backend if devices else "cpu", devices, problems)


def torch_build(places: Sequence[str] | None = None) -> dict[str, str]:
    """What torch was built for, `cuda`, `hip` or `xpu` with its version, from its version file; nothing is imported.

    `wheel` is the version of PyTorch's own builds for CUDA (2.13.0+cu130).
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        if places is None:
            spec = importlib.util.find_spec("torch")
            places = list(spec.submodule_search_locations or []) if spec else []
        for place in places:
            text = (Path(place) / "version.py").read_text(errors="replace")
            built = dict(re.findall(r"^(cuda|hip|xpu)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE))
            own = re.search(r"^__version__\s*=\s*['\"]([^'\"]*\+cu[0-9]+)['\"]", text, re.MULTILINE)
            return built | {"wheel": own.group(1)} if own else built
    return {}


def _unused() -> tuple[str, ...]:
    """Cards that lie idle because torch cannot use them."""
    cure = "install a build of torch for it to use it"
    return tuple(
        f"There is an {maker} GPU, and the installed torch is built for the CPU only; {cure}."
        for maker, present in (("NVIDIA", nvidia.card_present()), ("AMD", amd.card_present()))
        if present
    )


def _intel_present(drm: Path = Path("/sys/class/drm")) -> bool:
    if sys.platform == "win32":
        return True  # only torch can tell
    return any(text_in(path) == "0x8086" for path in drm.glob("card*/device/vendor"))


def _told_by_torch(backend: Backend) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Devices that only torch can describe, asked in a child each time: what is free changes."""
    try:
        answer = ask("torch_devices", {"backend": backend}, about="torch", timeout=TORCH_SECONDS)
        return tuple(Device.model_validate(device) for device in answer["devices"]), ()
    except (LoracleError, ValidationError) as error:
        return (), (f"torch could not be asked for its {backend} devices ({one_line(error, 150)}), so none is used.",)


def torch_devices(backend: str) -> list[dict[str, Any]]:
    """Intel's and Apple's devices as torch sees them. Only for the child: it imports torch, and a driver may hang."""
    import torch

    if backend == "mps":
        if not torch.backends.mps.is_available():
            return []
        # What Metal would give one process before the system starts to swap; how much is free, the system says.
        most = int(torch.mps.recommended_max_memory())
        return [{"name": "Apple GPU", "memory_total": most, "bf16": _multiplies_bf16("mps"), "shares_memory": True}]
    if not torch.xpu.is_available():
        return []
    found = []
    for place in range(torch.xpu.device_count()):
        properties = torch.xpu.get_device_properties(place)
        free = None
        with contextlib.suppress(RuntimeError):  # older drivers do not tell
            free = int(torch.xpu.mem_get_info(place)[0])
        total = int(properties.total_memory)
        others = total - free if free is not None else None
        bf16 = _multiplies_bf16(f"xpu:{place}")
        found.append(
            {"name": str(properties.name), "memory_total": total, "memory_free": free, "held_by_others": others, "bf16": bf16}
        )
    return found


def _multiplies_bf16(device: str) -> bool:
    import torch

    try:
        ones = torch.ones(8, 8, dtype=torch.bfloat16, device=device)
        return bool((ones @ ones)[0, 0].item() == 8)
    except (RuntimeError, TypeError):
        return False


NONE = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
"""Environment variables that hide every GPU from a process, NVIDIA's and AMD's."""


def only(found: Accelerators, device: Device) -> dict[str, str]:
    """Environment variables that show a process that device and no other; empty where there is one at most."""
    match found.backend:
        case "cuda":
            return {"CUDA_VISIBLE_DEVICES": device.uuid} if device.uuid else {}
        case "rocm":
            return amd.only(device, found.devices.index(device))
        case "xpu":
            return {"ZE_AFFINITY_MASK": amd.entry("ZE_AFFINITY_MASK", found.devices.index(device))}
    return {}
