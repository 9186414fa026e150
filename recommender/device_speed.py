"""How fast a device multiplies matrices, by its name: data sheets, where nothing was measured."""

import re

from recommender import cards, laptops
from recommender.facts import Facts, Machine
from recommender.recommendation import Precision

CPU_CORE_FLOPS = 35e9
"""Of one core in fp32 where nothing was measured: what two shared cores of a cloud machine reached together, halved."""
MIG_SLICES = 7
"""Compute slices of a whole card: `MIG 2g.20gb` has two of them."""
_MIG = re.compile(r"MIG (\d)g", re.IGNORECASE)

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
    if machine.backend == "cpu":
        return CPU_CORE_FLOPS * (machine.cpu_cores or 4), False
    name = (machine.device.name or "") if machine.device else ""
    if machine.backend == "mps":
        return next(flops for key, flops in APPLE_FLOPS if key in name), False
    wide = laptops.flops_of(name, narrow=False) or cards.flops_of(name, narrow=False)
    published = laptops.flops_of(name, narrow=True) or cards.flops_of(name, narrow=True) or wide or UNKNOWN_FLOPS
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
