"""How fast a device multiplies matrices, by its name: data sheets, where nothing was measured."""

import re

from recommender import laptops
from recommender.facts import Facts, Machine
from recommender.recommendation import Precision

CPU_CORE_FLOPS = 35e9
"""Of one core in fp32 where nothing was measured: what two shared cores of a cloud machine reached together, halved."""
MIG_SLICES = 7
"""Compute slices of a whole card: `MIG 2g.20gb` has two of them."""
_MIG = re.compile(r"MIG (\d)g", re.IGNORECASE)

PUBLISHED_FLOPS: tuple[tuple[str, float], ...] = (
    ("B[23]00", 2250e12),
    ("B100", 1750e12),
    ("GB10", 100e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H[18]00", 989e12),
    ("H20", 148e12),
    ("A[18]00", 312e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("A6000", 155e12),
    ("A5500", 136e12),
    ("A5000", 111e12),
    ("A4500", 95e12),
    ("A4000", 77e12),
    ("A2000", 32e12),
    ("A16", 18e12),
    ("A2", 18e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("A30", 165e12),
    ("A40", 150e12),
    ("L4", 121e12),
    ("V100", 112e12),
    ("TITAN V", 110e12),
    ("TITAN RTX", 130e12),
    ("Quadro RTX (6000|8000)", 130e12),
    ("Quadro RTX 5000", 89e12),
    ("T4", 30e12),
    ("P100", 19e12),
    ("MI355", 2500e12),
    ("MI350", 2300e12),
    ("MI325", 1307e12),
    ("MI300", 1307e12),
    ("MI250", 191e12),
    ("MI210", 181e12),
    ("7900", 123e12),
    ("9070 XT|R9700", 191e12),
    ("9070", 145e12),
    ("PRO 6000", 500e12),
    ("PRO 5000", 258e12),
    ("6000 Ada", 364e12),
    ("5000 Ada", 261e12),
    ("4500 Ada", 158e12),
    ("4000 SFF Ada", 77e12),
    ("4000 Ada", 107e12),
    ("2000 Ada", 48e12),
    ("5090", 210e12),
    ("5080", 113e12),
    ("5070 Ti", 88e12),
    ("5070", 62e12),
    ("5060", 38e12),
    ("5050", 26e12),
    ("4090", 165e12),
    ("4080", 98e12),
    ("4070 Ti", 80e12),
    ("4070", 58e12),
    ("4060", 30e12),
    ("4050", 20e12),
    ("3090", 71e12),
    ("3080", 60e12),
    ("3070", 41e12),
    ("3060", 25e12),
    ("3050", 18e12),
    ("2080 Ti", 54e12),
    ("2080", 43e12),
    ("2070", 30e12),
    ("2060", 26e12),
    ("1660", 10e12),
    ("1650", 6e12),
    ("A770", 137e12),
    ("A750", 117e12),
)
"""Dense 16-bit tensor throughput with fp32 accumulation, from the vendors' data sheets, operations per second; an A800
and an H800 compute as an A100 and an H100 do. Of an MI250 one die, which is what torch sees as a device. A T4's 65 last until its
70 W are used up: products of 4,096 go on at 24 (forums.developer.nvidia.com, 264462), as those of other cards at four fifths of
what is said here."""
FP32_FLOPS: tuple[tuple[str, float], ...] = (
    ("B[23]00", 75e12),
    ("B100", 60e12),
    ("GB10", 30e12),
    ("H100 PCIe", 51e12),
    ("H100 NVL", 60e12),
    ("H[12]00", 67e12),
    ("H800", 67e12),
    ("H20", 44e12),
    ("A[18]00", 19.5e12),
    ("A30", 10.3e12),
    ("A40", 37.4e12),
    ("A6000", 38.7e12),
    ("A5500", 34.1e12),
    ("A5000", 27.8e12),
    ("A4500", 23.7e12),
    ("A4000", 19.2e12),
    ("A2000", 8e12),
    ("A16", 4.5e12),
    ("A2", 4.5e12),
    ("A10G?", 31.2e12),
    ("L40S", 91.6e12),
    ("L40", 90.5e12),
    ("L4", 30.3e12),
    ("PRO 6000", 125e12),
    ("PRO 5000", 65e12),
    ("6000 Ada", 91.1e12),
    ("5000 Ada", 65.3e12),
    ("4500 Ada", 39.6e12),
    ("4000 SFF Ada", 19.2e12),
    ("4000 Ada", 26.7e12),
    ("2000 Ada", 12e12),
    ("5090", 104.8e12),
    ("5080", 56.3e12),
    ("5070 Ti", 43.9e12),
    ("5070", 30.9e12),
    ("5060", 19.2e12),
    ("5050", 13.2e12),
    ("4090", 82.6e12),
    ("4080", 48.7e12),
    ("4070 Ti", 40.1e12),
    ("4070", 29.1e12),
    ("4060", 15.1e12),
    ("4050", 9e12),
    ("3090", 35.6e12),
    ("3080", 29.8e12),
    ("3070", 20.3e12),
    ("3060", 12.7e12),
    ("3050", 9.1e12),
    ("V100", 14e12),
    ("TITAN V", 14.9e12),
    ("TITAN RTX", 16.3e12),
    ("Quadro RTX (6000|8000)", 16.3e12),
    ("Quadro RTX 5000", 11.2e12),
    ("T4", 8.1e12),
    ("2080 Ti", 13.4e12),
    ("2080", 10.1e12),
    ("2070", 7.5e12),
    ("2060", 6.5e12),
    ("1660", 5e12),
    ("1650", 3e12),
    ("P100", 9.3e12),
    ("P40", 11.8e12),
    ("P4", 5.5e12),
    ("TITAN X", 11e12),
    ("1080 Ti", 11.3e12),
    ("1080", 8.9e12),
    ("1070", 6.5e12),
    ("1060", 4.4e12),
    ("1050", 1.9e12),
    ("M60", 4.8e12),
    ("K80", 4.1e12),
    ("A770", 19.7e12),
    ("A750", 17.2e12),
)
"""In fp32, from the vendors' data sheets (of a K80 and an M60 one of the two chips). Not TF32, which torch leaves off unless it
is asked for. Pascal's and older ones have no tensor cores: where they are in no other table, products of 16 bit are taken to be
as fast."""
SLOWER_IN_FP32 = 4
"""Times, on devices whose fp32 speed is in no table."""
APPLE_FLOPS: tuple[tuple[str, float], ...] = (("Ultra", 27e12), ("Max", 14e12), ("Pro", 7e12), ("", 4e12))
"""Apple's chips by size, in fp32."""
UNKNOWN_FLOPS = 40e12
"""Taken for a device whose name says nothing."""


def device_flops(machine: Machine, facts: Facts, precision: Precision) -> tuple[float, bool]:
    """Matrix-multiply speed in operations a second, and whether it was measured on this device."""
    table = facts.measured.matmul_flops or {}
    measured = table.get(precision.removesuffix("-mixed"))
    if measured:
        return measured, True
    if machine.device is None:
        return CPU_CORE_FLOPS * (machine.cpu_cores or 4), False
    name = machine.device.name or ""
    if machine.backend == "mps":
        return next(flops for key, flops in APPLE_FLOPS if key in name), False
    # A name ends where its digits end: an RTX A1000 is no A100.
    wide = laptops.flops_of(name, narrow=False) or _published(FP32_FLOPS, name)
    published = laptops.flops_of(name, narrow=True) or _published(PUBLISHED_FLOPS, name) or wide or UNKNOWN_FLOPS
    if precision == "fp32":
        published = wide or published / SLOWER_IN_FP32
    return published * mig_share(name) * laptops.share_of(name), False


def with_least_power(machine: Machine) -> float:
    """Times as long as its name says a step may take on a device whose power is its maker's choice, a laptop's; 1 elsewhere."""
    return laptops.with_least_power((machine.device.name or "") if machine.device else "")


def mig_share(name: str) -> float:
    """Of a card's processors, and about of its bandwidth, what a slice of it has; 1 of a whole card."""
    slices = _MIG.search(name)
    return min(int(slices[1]), MIG_SLICES) / MIG_SLICES if slices else 1.0


def _published(table: tuple[tuple[str, float], ...], name: str) -> float | None:
    """The first that the name names."""
    return next((flops for key, flops in table if re.search(rf"(?<!\d){key}(?!\d)", name, re.IGNORECASE)), None)
