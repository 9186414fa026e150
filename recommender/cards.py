"""What data sheets say of a card, by its name: one line a card, for all that is not measured or told by its driver."""

import re
from functools import lru_cache
from typing import NamedTuple


class Card(NamedTuple):
    """Published figures; `None` of what no rule here asks, or nobody has published."""

    name: str
    """A regular expression; digits end it on both sides: an RTX A1000 is no A100."""
    narrow: float | None
    """Operations a second in 16 bit with sums in fp32, dense, by tensor cores; in 10^12, as all speeds here."""
    wide: float | None
    """In fp32. Not TF32, which torch leaves off unless it is asked for."""
    memory: int | None
    """GB, the least of those sold under the name."""
    capability: tuple[int, int] | None = None
    processors: int = 0
    """Multiprocessors."""
    bandwidth: float = 0.0
    """Of its memory, in 10^12 bytes a second."""


CARDS = (
    Card("B300", 2250, 75, None, (10, 3), 148, 8),
    Card("B200", 2250, 75, 180, (10, 0), 148, 8),
    Card("B100", 1750, 60, None, (10, 0), 148, 8),
    Card("GB10", 100, 30, None, (12, 1), 48, 0.273),
    Card("GH200", 989, 67, None, (9, 0), 132, 4),
    Card("H200", 989, 67, 141, (9, 0), 132, 4.8),
    Card("H100.*PCIe", 756, 51, 80, (9, 0), 114, 2),
    Card("H100.*NVL", 835, 60, 94, (9, 0), 132, 3.9),
    Card("H100", 989, 67, 80, (9, 0), 132, 3.35),
    Card("H800", 989, 67, None, (9, 0), 132, 3.35),
    Card("H20", 148, 44, None, (9, 0), 78, 4),
    Card("A[18]00.*40GB", 312, 19.5, 40, (8, 0), 108, 1.55),
    Card("A100", 312, 19.5, 40, (8, 0), 108, 2),
    Card("A800", 312, 19.5, None, (8, 0), 108, 2),
    Card("A30", 165, 10.3, None, (8, 0), 56, 0.93),
    Card("A40", 150, 37.4, None, (8, 6), 84, 0.696),
    Card("A10G", 70, 31.2, 24, (8, 6), 80, 0.6),
    Card("A10", 125, 31.2, 24, (8, 6), 72, 0.6),
    Card("A16", 18, 4.5, None, (8, 6), 10, 0.2),
    Card("A2", 18, 4.5, None, (8, 6), 10, 0.2),
    Card("L40S", 362, 91.6, 48, (8, 9), 142, 0.864),
    Card("L40", 181, 90.5, 48, (8, 9), 142, 0.864),
    Card("L4", 121, 17, 24, (8, 9), 58, 0.3),
    Card("GV100", 118, 14.8, 32, (7, 0), 80, 0.87),
    Card("V100", 112, 14, 16, (7, 0), 80, 0.9),
    Card("T4", 30, 5.4, 16, (7, 5), 40, 0.32),
    Card("P100", 19, 9.3, 16, (6, 0), 56, 0.73),
    Card("P40", None, 11.8, None, (6, 1), 30, 0.346),
    Card("P4", None, 5.5, None, (6, 1), 20, 0.192),
    Card("M60", None, 4.8, None),
    Card("K80", None, 4.1, None),
    Card("PRO 6000", 500, 125, None, (12, 0), 188, 1.79),
    Card("PRO 5000", 258, 65, None, (12, 0), 110, 1.34),
    Card("6000 Ada", 364, 91.1, 48, (8, 9), 142, 0.96),
    Card("5000 Ada", 261, 65.3, None, (8, 9), 100, 0.576),
    Card("4500 Ada", 158, 39.6, None, (8, 9), 60, 0.432),
    Card("4000 SFF Ada", 77, 19.2, None, (8, 9), 48, 0.36),
    Card("4000 Ada", 107, 26.7, None, (8, 9), 48, 0.36),
    Card("2000 Ada", 48, 12, None, (8, 9), 22, 0.224),
    Card("A6000", 155, 38.7, 48, (8, 6), 84, 0.768),
    Card("A5500", 136, 34.1, None, (8, 6), 80, 0.768),
    Card("A5000", 111, 27.8, 24, (8, 6), 64, 0.768),
    Card("A4500", 95, 23.7, None, (8, 6), 56, 0.64),
    Card("A4000", 77, 19.2, 16, (8, 6), 48, 0.448),
    Card("A2000", 32, 8, None, (8, 6), 26, 0.288),
    Card("TITAN V", 110, 14.9, None, (7, 0), 80, 0.65),
    Card("(TITAN RTX|Quadro RTX [68]000)", 130, 16.3, None, (7, 5), 72, 0.67),
    Card("Quadro RTX 5000", 89, 11.2, None, (7, 5), 48, 0.448),
    Card("TITAN Xp?", None, 11, None, (6, 1), 30, 0.548),
    Card("5090", 210, 104.8, 32, (12, 0), 170, 1.79),
    Card("5080", 113, 56.3, None, (12, 0), 84, 0.96),
    Card("5070 Ti", 88, 43.9, None, (12, 0), 70, 0.896),
    Card("5070", 62, 30.9, None, (12, 0), 48, 0.672),
    Card("5060", 38, 19.2, None, (12, 0), 30, 0.448),
    Card("5050", 26, 13.2, None, (12, 0), 20, 0.32),
    Card("4090", 165, 82.6, 24, (8, 9), 128, 1),
    Card("4080", 98, 48.7, 16, (8, 9), 76, 0.72),
    Card("4070 Ti", 80, 40.1, 12, (8, 9), 60, 0.504),
    Card("4070", 58, 29.1, 12, (8, 9), 46, 0.504),
    Card("4060", 30, 15.1, None, (8, 9), 24, 0.272),
    Card("4050", 20, 9, None),
    Card("3090 Ti", 71, 35.6, 24, (8, 6), 84, 1.01),
    Card("3090", 71, 35.6, 24, (8, 6), 82, 0.936),
    Card("3080 Ti", 68, 34.1, 12, (8, 6), 80, 0.912),
    Card("3080", 60, 29.8, 10, (8, 6), 68, 0.76),
    Card("3070", 41, 20.3, None, (8, 6), 46, 0.448),
    Card("3060", 25, 12.7, 8, (8, 6), 28, 0.36),
    Card("3050", 18, 9.1, None, (8, 6), 20, 0.224),
    Card("2080 Ti", 54, 13.4, None, (7, 5), 68, 0.616),
    Card("2080", 43, 10.1, None, (7, 5), 46, 0.448),
    Card("2070", 30, 7.5, None, (7, 5), 36, 0.448),
    Card("2060", 26, 6.5, None, (7, 5), 30, 0.336),
    Card("1660", 10, 5, None, (7, 5), 22, 0.192),
    Card("1650", 6, 3, None, (7, 5), 14, 0.128),
    Card("1080 Ti", None, 11.3, 11, (6, 1), 28, 0.484),
    Card("1080", None, 8.9, None, (6, 1), 20, 0.32),
    Card("1070", None, 6.5, None, (6, 1), 15, 0.256),
    Card("1060", None, 4.4, None),
    Card("1050", None, 1.9, None),
    Card("MI355", 2500, None, None),
    Card("MI350", 2300, None, None),
    Card("MI325", 1307, None, None),
    Card("MI300X", 1307, None, 192),
    Card("MI300", 1307, None, None),
    Card("MI250", 191, None, 64),
    Card("MI210", 181, None, None),
    Card("7900", 123, None, None),
    Card("(9070 XT|R9700)", 191, None, None),
    Card("9070", 145, None, None),
    Card("A770", 137, 19.7, None),
    Card("A750", 117, 17.2, None),
)
"""The first that fits counts. An A800 and an H800 compute as an A100 and an H100 do. Of an MI250, a K80 and an M60 it is one of
the two chips, which is what torch sees as a device. A T4's 65 last until its 70 W are used up: products of 4,096 go on at 24
(forums.developer.nvidia.com, 264462), as those of other cards at four fifths of what is said here. In fp32 they reach 4.2 and 4.4
of 8.1, the same chip's without that limit 7.9, and an L4's 10.7 to 12.5 of 30.3 with its 72 W, where those of its kind reach two
thirds (zzc0721/torch-performance-test-data, database.md, issues 90 and 120). Pascal's and older ones have no tensor cores, and
products of 16 bit are taken to be as fast as those of fp32."""


@lru_cache
def card_of(name: str) -> Card | None:
    """The card that a device's name names; `None` where it is not in the table."""
    return next((card for card in CARDS if re.search(rf"(?<!\d){card.name}(?!\d)", name, re.IGNORECASE)), None)


def flops_of(name: str, *, narrow: bool) -> float | None:
    """Operations a second of the card that a device's name names, in 16 bit or in fp32; `None` where they are in no table."""
    card = card_of(name)
    said = None if card is None else card.narrow if narrow else card.wide
    return None if said is None else said * 1e12
