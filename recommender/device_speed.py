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

LAUNCH = 2.4e-5
"""Seconds that a server needs for an operation of a forward pass of eager torch through transformers; small models wait for it.
Llama-3-8B wrote 500 tokens in 15 s (huggingface/transformers, pull request 34247): a token is 1,170 such operations and as many
looks at tensors, and each took 1.35 times as long here with a graph for the backward pass; a tenth is around the model."""
OWN_HOST = ((r"RTX ?[345]0[5-9]0", 0.4), (r"(RTX|GTX) ?(10|16|20)[5-9]0", 2 / 3))
"""By a card of somebody's own computer, of the time that a server needs for something on one thread, what such a computer does.
The same program writes text of Llama-3.1-8B in 0.42 to 0.55 of the time that the host of an H100 takes, itself 0.8 of a usual
one's, beside an RTX 4090 (bitsandbytes, benchmarking/README.md: NF4, INT8), OPT-125m in 0.29 on a Core i9-13900K or i7-13700K of
that on an EPYC 7352 (AutoGPTQ, issue 49). Of older ones PassMark tells: 3,495 of a Ryzen 5 5600X, 2,893 of an EPYC 9654."""


def launch_of(machine: Machine, facts: Facts) -> float:
    """Seconds that the host of the freest device needs for an operation of a forward pass."""
    name = (machine.device.name or "") if machine.device else ""
    return facts.measured.launch or LAUNCH * next((p for key, p in OWN_HOST if re.search(key, name, re.IGNORECASE)), 1.0)


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
