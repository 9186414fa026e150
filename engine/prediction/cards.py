"""What a step depends on of an accelerator, by its name: its processors and bandwidth, what a process takes, what it reaches."""

import re
from typing import NamedTuple

from recommender import laptops
from recommender.cards import CARDS, card_of
from recommender.device_speed import UNKNOWN_FLOPS, mig_share
from recommender.facts import Machine

CONTEXT = (560_000_000, 300_000_000, 1_000_000_000)
"""Bytes that CUDA and its libraries hold beside the allocator, where the device was not measured: usual, least, most (0.14 to
1.4 GB were seen, by card and version)."""


CONTEXT_OF = {"H100": 800_000_000}
"""Measured: used by the process beside torch's reserve once its kernels are loaded (CUDA 13, torch 2.11)."""


class Known(NamedTuple):
    """Published figures of a card."""

    capability: tuple[int, int]
    processors: int
    bandwidth: float
    """Bytes a second."""


_USUAL = Known((8, 0), 108, 1.0e12)
REACHED = (
    (r"\bA[18]00\b.*SXM", 0.859),
    (r"\bA[18]00\b", 0.822),
    (r"\bH20\b", 0.96),
    (r"\bH200\b", 0.763),
    (r"\bB200\b", 0.635),
    (r"\bL40S\b|\b6000 Ada\b", 0.742),
    (r"\bL4\b", 0.46),
    (r"RTX ?20[6-8]0(?!.*Laptop)", 0.91),
    (r"RTX ?[345]0[5-9]0(?!.*Laptop)", 1.0),
)
"""Of the data sheet's arithmetic in 16 bit, what large products reach where that is not the four fifths of an H100 (0.801) and of
others: measured (stas00/ml-engineering, compute/accelerator, table of maximum achievable matmul FLOPS, bf16; of H200 and B200
what they hold once their power is used up, 755 and 1,429; the others: zzc0721/torch-performance-test-data, database.md, fp16 of
an H20, an L40S, an RTX 2080 and of RTX 3060 to 5090, and issue 120, an L4 whose 72 W large products use up. A GeForce adds up in
fp32 at half its rate, and keeps that up, but for a large one in a laptop)."""
USUALLY_REACHED = 0.8
SHARED = ((8, 6), (8, 9), (12, 0))
"""Capabilities of cards half of whose fp32 lanes do integers as well. Of the data sheet's fp32 their large products reach 0.51 to
0.71 (the same table: A40, A6000, L40S, RTX 3080 Ti, 3090, 4090, 5090), others 0.78 to 0.96 (V100, RTX 2080, A100, H100)."""
SHARED_REACH = 0.66


CACHE, CACHES = 70_000, dict.fromkeys(((8, 0), (9, 0)), 260_000) | dict.fromkeys(((8, 9), (10, 0), (10, 3), (12, 0)), 550_000)
"""Bytes for each multiprocessor that its cache keeps, by compute capability. Kernels that stream the same data again and again
lost it beyond 28 MB on an A100, 34 on an H200, 80 on an L40, 5.5 on an A40 (te42kyfo/gpu-benches, gpu-small-kernels): two thirds
of what data sheets say of the large chips, whose halves keep copies, and most of it elsewhere."""
CACHED = 30e9
"""Bytes a second for each multiprocessor that come from there (the same: A100 29, L40 and H200 32, A40 20)."""


def cache_of(known: Known) -> int:
    """Bytes that the card's cache keeps."""
    return known.processors * CACHES.get(known.capability, CACHE)


def context_of(machine: Machine) -> tuple[int, int, int]:
    """Bytes that a process holds on the machine's freest device beside the allocator: usual, least, most."""
    name = (machine.device.name or "") if machine.device else ""
    known = next((size for key, size in CONTEXT_OF.items() if re.search(rf"(?<!\d){key}(?!\d)", name, re.IGNORECASE)), None)
    return CONTEXT if known is None else (known, int(0.8 * known), int(1.2 * known))


def reached_of(machine: Machine) -> float:
    """What large products in 16 bit reach on the machine's freest device, beside what they reach on most."""
    name = (machine.device.name or "") if machine.device else ""
    return next((part for key, part in REACHED if re.search(key, name, re.IGNORECASE)), USUALLY_REACHED) / USUALLY_REACHED


def wide_reached_of(machine: Machine) -> float:
    """The same in fp32."""
    return SHARED_REACH / USUALLY_REACHED if known_of(machine)[0].capability in SHARED else 1.0


def beside_usual(machine: Machine) -> tuple[float, float]:
    """Of the arithmetic in 16 bit that is taken for a card whose name says nothing, what the slowest and the fastest have that it
    may be: of its compute capability, or of all with tensor cores. Nothing else of a card whose name is known."""
    name, told = (machine.device.name or "", machine.device.compute_capability) if machine.device else ("", None)
    if card_of(name) is not None or laptops.chip_of(name) is not None:
        return 1.0, 1.0
    known = {(card.capability, card.narrow) for card in CARDS if card.capability and card.narrow and card.capability >= (7, 0)}
    speeds = [narrow for capability, narrow in known if capability == told] or [narrow for _, narrow in known]
    return min(speeds) * 1e12 / UNKNOWN_FLOPS, max(speeds) * 1e12 / UNKNOWN_FLOPS


def known_of(machine: Machine) -> tuple[Known, bool]:
    """Figures of the machine's freest device, and whether its name was known."""
    device = machine.device
    name = (device.name or "") if device else ""
    card = card_of(name)
    named = Known(card.capability, card.processors, 1e12 * card.bandwidth) if card and card.capability else None
    known = named or _USUAL
    chip = laptops.chip_of(name)
    if chip is not None:
        known = known._replace(processors=chip.cores // 128, bandwidth=chip.bandwidth)
    part = mig_share(name) * laptops.share_of(name)
    known = known._replace(processors=max(int(part * known.processors), 1), bandwidth=part * known.bandwidth)
    if device is not None and device.compute_capability is not None:
        known = known._replace(capability=device.compute_capability)
    return known, named is not None
