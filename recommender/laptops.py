"""Cards of laptops: other chips than the desktop's cards of the same name, on a third to a half of their power."""

import re
from typing import NamedTuple


class Chip(NamedTuple):
    """Published figures of one."""

    cores: int
    """CUDA cores, of which a multiprocessor has 128."""
    slowest: float
    """Boost clock with the least power that a laptop's maker may give it, in MHz."""
    fastest: float
    """With the most."""
    bandwidth: float
    """Bytes a second."""


_CHIPS: tuple[tuple[str, Chip], ...] = (
    ("5090", Chip(10_496, 1590, 2160, 0.896e12)),
    ("5080", Chip(7_680, 1500, 2287, 0.896e12)),
    ("5070 Ti", Chip(5_888, 1447, 2220, 0.672e12)),
    ("5070", Chip(4_608, 1425, 2347, 0.384e12)),
    ("5060", Chip(3_328, 1455, 2497, 0.384e12)),
    ("5050", Chip(2_560, 1500, 2662, 0.32e12)),
    ("4090", Chip(9_728, 1455, 2040, 0.576e12)),
    ("4080", Chip(7_424, 1350, 2280, 0.432e12)),
    ("4070", Chip(4_608, 1230, 2175, 0.256e12)),
    ("4060", Chip(3_072, 1470, 2370, 0.256e12)),
    ("4050", Chip(2_560, 1605, 2370, 0.192e12)),
    ("3080 Ti", Chip(7_424, 1125, 1590, 0.512e12)),
    ("3080", Chip(6_144, 1245, 1710, 0.448e12)),
    ("3070 Ti", Chip(5_888, 1035, 1485, 0.448e12)),
    ("3070", Chip(5_120, 1290, 1620, 0.448e12)),
    ("3060", Chip(3_840, 1282, 1702, 0.336e12)),
    ("3050 Ti", Chip(2_560, 1035, 1695, 0.192e12)),
    ("3050", Chip(2_048, 1057, 1740, 0.192e12)),
)
"""Cores as NVIDIA announced them. Clocks of the 40 series from its comparison of laptops (nvidia.com, gaming-laptops/compare);
of the others that page could be read for a 5090's fastest only, and the rest is from lists of others, checked for the 50 series
against the AI TOPS that NVIDIA announced (5080 and 5070 Ti agree, 5090 and 5070 within 6%). Bandwidths are the width of the
memory's interface times its usual speed. Products in 16 bit that a 4090's chip here was measured at are 0.48 times the desktop's,
as cores and clock are."""
_LAPTOP = re.compile(r"laptop|with max-q", re.IGNORECASE)
WIDE, NARROW = 2, 4
"""Operations of a core in a clock, in fp32 and in 16 bit with sums in fp32, of GeForce cards since Ampere."""
OF_A_DESKTOP = 0.65
"""Of the speed and bandwidth of a desktop's card, where its chip is not in the table: as those in it have; no page says it."""
SLOWEST = 0.65
"""Of the clock with the most power, that with the least, there."""


def is_laptop(name: str) -> bool:
    """Whether a card of that name is a laptop's."""
    return _LAPTOP.search(name) is not None


def chip_of(name: str) -> Chip | None:
    """Figures of a laptop's card; `None` where it is in no table, or no laptop's."""
    if not is_laptop(name):
        return None
    return next((chip for key, chip in _CHIPS if re.search(rf"RTX ?{key}(?!\d)", name, re.IGNORECASE)), None)


def flops_of(name: str, *, narrow: bool) -> float | None:
    """Operations a second of that chip with the most power, in 16 bit or in fp32."""
    chip = chip_of(name)
    return None if chip is None else chip.cores * chip.fastest * 1e6 * (NARROW if narrow else WIDE)


def share_of(name: str) -> float:
    """Of a desktop's card of that name, what a laptop's has whose chip is in no table; 1 of all others."""
    return OF_A_DESKTOP if is_laptop(name) and chip_of(name) is None else 1.0


def with_least_power(name: str) -> float:
    """Times as long as with the most power a step may take, for nobody can see how much the maker gave it; 1 of a desktop's."""
    if not is_laptop(name):
        return 1.0
    chip = chip_of(name)
    return 1 / SLOWEST if chip is None else chip.fastest / chip.slowest
