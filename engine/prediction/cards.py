"""What is known of accelerators by name: compute capability, multiprocessors, memory bandwidth, what a process takes."""

import re
from typing import NamedTuple

from recommender import laptops
from recommender.device_speed import mig_share
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


_CARDS: tuple[tuple[str, Known], ...] = (
    ("B300", Known((10, 3), 148, 8.0e12)),
    ("B[12]00", Known((10, 0), 148, 8.0e12)),
    ("GB10", Known((12, 1), 48, 0.273e12)),
    ("GH200", Known((9, 0), 132, 4.0e12)),
    ("H200", Known((9, 0), 132, 4.8e12)),
    ("H100 PCIe", Known((9, 0), 114, 2.0e12)),
    ("H100 NVL", Known((9, 0), 132, 3.9e12)),
    ("H[18]00", Known((9, 0), 132, 3.35e12)),
    ("H20", Known((9, 0), 78, 4.0e12)),
    ("A[18]00.*40GB", Known((8, 0), 108, 1.55e12)),
    ("A[18]00", Known((8, 0), 108, 2.0e12)),
    ("A30", Known((8, 0), 56, 0.93e12)),
    ("L40S", Known((8, 9), 142, 0.864e12)),
    ("L40", Known((8, 9), 142, 0.864e12)),
    ("L4", Known((8, 9), 58, 0.30e12)),
    ("PRO 6000", Known((12, 0), 188, 1.79e12)),
    ("PRO 5000", Known((12, 0), 110, 1.34e12)),
    ("6000 Ada", Known((8, 9), 142, 0.96e12)),
    ("5000 Ada", Known((8, 9), 100, 0.576e12)),
    ("4500 Ada", Known((8, 9), 60, 0.432e12)),
    ("4000( SFF)? Ada", Known((8, 9), 48, 0.36e12)),
    ("2000 Ada", Known((8, 9), 22, 0.224e12)),
    ("A6000", Known((8, 6), 84, 0.768e12)),
    ("A5500", Known((8, 6), 80, 0.768e12)),
    ("A5000", Known((8, 6), 64, 0.768e12)),
    ("A4500", Known((8, 6), 56, 0.64e12)),
    ("A4000", Known((8, 6), 48, 0.448e12)),
    ("A2000", Known((8, 6), 26, 0.288e12)),
    ("A16", Known((8, 6), 10, 0.20e12)),
    ("A2", Known((8, 6), 10, 0.20e12)),
    ("A10G", Known((8, 6), 80, 0.60e12)),
    ("A10", Known((8, 6), 72, 0.60e12)),
    ("A40", Known((8, 6), 84, 0.696e12)),
    ("V100", Known((7, 0), 80, 0.90e12)),
    ("TITAN V", Known((7, 0), 80, 0.65e12)),
    ("Quadro RTX 5000", Known((7, 5), 48, 0.448e12)),
    ("TITAN RTX|Quadro RTX [68]000", Known((7, 5), 72, 0.67e12)),
    ("T4", Known((7, 5), 40, 0.32e12)),
    ("P100", Known((6, 0), 56, 0.73e12)),
    ("P40", Known((6, 1), 30, 0.346e12)),
    ("P4", Known((6, 1), 20, 0.192e12)),
    ("5090", Known((12, 0), 170, 1.79e12)),
    ("5080", Known((12, 0), 84, 0.96e12)),
    ("5070 Ti", Known((12, 0), 70, 0.896e12)),
    ("5050", Known((12, 0), 20, 0.32e12)),
    ("5060", Known((12, 0), 30, 0.448e12)),
    ("5070", Known((12, 0), 48, 0.672e12)),
    ("4090", Known((8, 9), 128, 1.0e12)),
    ("4080", Known((8, 9), 76, 0.72e12)),
    ("4070 Ti", Known((8, 9), 60, 0.504e12)),
    ("4070", Known((8, 9), 46, 0.504e12)),
    ("4060", Known((8, 9), 24, 0.272e12)),
    ("3090 Ti", Known((8, 6), 84, 1.01e12)),
    ("3090", Known((8, 6), 82, 0.936e12)),
    ("3080 Ti", Known((8, 6), 80, 0.912e12)),
    ("3080", Known((8, 6), 68, 0.76e12)),
    ("3070", Known((8, 6), 46, 0.448e12)),
    ("3060", Known((8, 6), 28, 0.36e12)),
    ("3050", Known((8, 6), 20, 0.224e12)),
    ("2080 Ti", Known((7, 5), 68, 0.616e12)),
    ("2080", Known((7, 5), 46, 0.448e12)),
    ("2070", Known((7, 5), 36, 0.448e12)),
    ("2060", Known((7, 5), 30, 0.336e12)),
    ("1660", Known((7, 5), 22, 0.192e12)),
    ("1650", Known((7, 5), 14, 0.128e12)),
    ("1080 Ti", Known((6, 1), 28, 0.484e12)),
    ("1080", Known((6, 1), 20, 0.32e12)),
    ("1070", Known((6, 1), 15, 0.256e12)),
    ("TITAN Xp?", Known((6, 1), 30, 0.548e12)),
)
"""From the vendors' data sheets."""
_USUAL = Known((8, 0), 108, 1.0e12)
REACHED = (
    (r"\bA[18]00\b.*SXM", 0.859),
    (r"\bA[18]00\b", 0.822),
    (r"\bH20\b", 0.96),
    (r"RTX ?20[6-8]0(?!.*Laptop)", 0.91),
    (r"RTX ?[345]0[5-9]0(?!.*Laptop)", 1.0),
)
"""Of the data sheet's arithmetic in 16 bit, what large products reach where that is not the four fifths of an H100 (0.801) and of
others: measured (stas00/ml-engineering, compute/accelerator, table of maximum achievable matmul FLOPS, bf16; the last three:
zzc0721/torch-performance-test-data, database.md, fp16 of an H20, an RTX 2080 and of RTX 3060 to 5090. A GeForce adds up in fp32
at half its rate, and keeps that up, but for a large one in a laptop)."""
USUALLY_REACHED = 0.8


def context_of(machine: Machine) -> tuple[int, int, int]:
    """Bytes that a process holds on the machine's freest device beside the allocator: usual, least, most."""
    name = (machine.device.name or "") if machine.device else ""
    known = next((size for key, size in CONTEXT_OF.items() if re.search(rf"(?<!\d){key}(?!\d)", name, re.IGNORECASE)), None)
    return CONTEXT if known is None else (known, int(0.8 * known), int(1.2 * known))


def reached_of(machine: Machine) -> float:
    """What large products in 16 bit reach on the machine's freest device, beside what they reach on most."""
    name = (machine.device.name or "") if machine.device else ""
    return next((part for key, part in REACHED if re.search(key, name, re.IGNORECASE)), USUALLY_REACHED) / USUALLY_REACHED


def known_of(machine: Machine) -> tuple[Known, bool]:
    """Figures of the machine's freest device, and whether its name was known."""
    device = machine.device
    name = (device.name or "") if device else ""
    found = next((k for key, k in _CARDS if re.search(rf"(?<!\d){key}(?!\d)", name, re.IGNORECASE)), None)
    known = found or _USUAL
    chip = laptops.chip_of(name)
    if chip is not None:
        known = known._replace(processors=chip.cores // 128, bandwidth=chip.bandwidth)
    part = mig_share(name) * laptops.share_of(name)
    known = known._replace(processors=max(int(part * known.processors), 1), bandwidth=part * known.bandwidth)
    if device is not None and device.compute_capability is not None:
        known = known._replace(capability=device.compute_capability)
    return known, found is not None
