"""AMD GPUs from what the kernel's driver writes under /sys; nothing is loaded or asked."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.files import number_in, text_in
from engine.text import one_line
from recommender.facts import Device

VENDOR = "0x1002"
SMALLEST = 2 * 1024**3
"""Bytes; graphics built into a processor get less of its memory, and ROCm trains nothing on them."""
_GFX908 = 90_008
_GFX11 = 110_000


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the driver's files are."""

    drm: Path = Path("/sys/class/drm")
    nodes: Path = Path("/sys/class/kfd/kfd/topology/nodes")
    compute: Path = Path("/dev/kfd")


def card_present(tree: Tree | None = None) -> bool:
    """Whether there is an AMD card with memory of its own."""
    return bool(_cards(tree or Tree()))


def look(tree: Tree | None = None) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """The cards that this process may use now, and what stands against using some. Never raises."""
    tree = tree or Tree()
    found = [_device(card, tree) for card in _cards(tree)]
    if not found:
        said = "The AMD GPU here has less than 2 GB of memory of its own and shares the processor's, so it is not used."
        return (), (said,) if _cards(tree, 0) else ()
    if not os.access(tree.compute, os.R_OK | os.W_OK):
        why = "may not be used by this account (its groups render and video may)" if tree.compute.exists() else "is missing"
        return (), (f"There is an AMD GPU, and ROCm's {tree.compute} {why}, so no GPU is used.",)
    shown = _visible(found, os.environ.get("ROCR_VISIBLE_DEVICES"))
    second = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))  # counted within the first
    shown = _visible(shown, second)
    if not shown:
        return (), ("ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES leaves no GPU to this process, so none is used.",)
    return tuple(shown), ()


def only(device: Device, place: int) -> dict[str, str]:
    """Environment variables that show a process that device, the `place`-th of those it may use, and no other."""
    if device.uuid:
        return {"ROCR_VISIBLE_DEVICES": device.uuid, "HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "0"}
    name = "CUDA_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" not in os.environ else "HIP_VISIBLE_DEVICES"
    return {"HIP_VISIBLE_DEVICES": entry(name, place)}


def entry(variable: str, place: int) -> str:
    """What the `place`-th device of those shown is called in that environment variable."""
    named = [part.strip() for part in os.environ.get(variable, "").split(",") if part.strip()]
    return named[place] if place < len(named) else str(place)


def _visible(devices: list[Device], setting: str | None) -> list[Device]:
    """Indices and UUIDs, up to the first that is wrong."""
    if setting is None:
        return devices
    shown: list[Device] = []
    for part in (part.strip() for part in setting.split(",")):
        named = [d for place, d in enumerate(devices) if part in (str(place), d.uuid)]
        if not named:
            break
        shown += [device for device in named if device not in shown]
    return shown


def _cards(tree: Tree, smallest: int = SMALLEST) -> list[Path]:
    """The device folders of the cards with so much memory, in the order of their places on the bus, which is ROCm's."""
    found = {
        path.resolve()
        for path in tree.drm.glob("card*/device")
        if text_in(path / "vendor") == VENDOR and (number_in(path / "mem_info_vram_total") or 0) >= smallest
    }
    return sorted(found, key=lambda path: path.name)


def _device(card: Path, tree: Tree) -> Device:
    total, used = (number_in(card / f"mem_info_vram_{name}") for name in ("total", "used"))
    degrees = next((n for p in sorted(card.glob("hwmon/hwmon*/temp1_input")) if (n := number_in(p)) is not None), None)
    unique = text_in(card / "unique_id")
    target = _target(card, tree)
    return Device(
        name=one_line(text_in(card / "product_name") or f"AMD GPU {text_in(card / 'device')}", 100),
        memory_total=total,
        memory_free=max(total - used, 0) if total is not None and used is not None else None,
        held_by_others=used,  # this process never holds any
        bf16=None if target is None else _GFX908 <= target < 100_000 or target >= _GFX11,
        uuid=f"GPU-{unique}" if unique and unique.strip("0") else None,
        temperature=degrees // 1000 if degrees is not None and degrees <= 1_000_000 else None,  # written in thousandths
    )


def _target(card: Path, tree: Tree) -> int | None:
    """The instruction set as the driver writes it, 90010 for gfx90a: multiplying bf16 needs gfx908 or gfx11."""
    minors = {path.name.removeprefix("renderD") for path in card.glob("drm/renderD*")}
    for node in tree.nodes.glob("*/properties"):
        lines = (line.split() for line in text_in(node).splitlines())
        properties = {line[0]: line[1] for line in lines if len(line) == 2}
        target = properties.get("gfx_target_version", "")
        if properties.get("drm_render_minor") in minors and re.fullmatch("[0-9]{1,9}", target):
            return int(target)
    return None
