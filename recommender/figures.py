"""Numbers as people read them, the same in every sentence."""

from recommender.language import said


def plain(value: float) -> str:
    """A short number: `0.05`, `2.6`, `2e-5`, `1.5e-4`, `1 000`."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace(",", " ")
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


ALMOST = 0.9995
"""Of a unit: what would be rounded to a thousand of the smaller one is said in the larger."""


def size(value: float) -> str:
    """Bytes for people, in powers of ten: `8.1 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= ALMOST * factor:
            scaled = value / factor
            return f"{scaled:.1f} {unit}" if scaled < 100 and unit != "kB" else f"{scaled:.0f} {unit}"
    return f"{value:.0f} B"


def short_count(value: float) -> str:
    """A count for people: `110M`, `8.0B`, `950`."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= ALMOST * factor:
            scaled = value / factor
            return f"{scaled:.1f}{unit}".replace(".0k", "k") if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def share(value: float) -> str:
    """A share as percent: `12%`, `0.4%`."""
    percent = 100 * value
    if 99 < percent < 100:  # never all of them where a few are not
        return f"{min(percent, 99.9):.1f}%"
    if 0 < percent < 0.05:  # nor none where a few are
        return "<0.1%"
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.1f}".removesuffix(".0") + "%"


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return said("{count} days").format(count=f"{seconds / 86_400:.1f}")
