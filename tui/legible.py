"""Colours of text that a theme makes hard to read on its own background: nearer to black or white, as far as it takes."""

from functools import cache

from textual.color import Color

LEAST = 4.5
"""Contrast of text, as WCAG 2 asks for it."""
LEAST_OF_LINES = 2.0
"""Of the curve of raw losses, which lies behind the smoothed one."""
TEXTS = ("text-accent", "text-success", "text-warning", "text-error", "text-primary")
KEYS = ("footer-key-foreground", "footer-description-foreground")
RAW_SHARE = 0.4
"""Of the accent colour in the curve of raw losses, the rest of it background."""


def legible(colours: dict[str, str]) -> dict[str, str]:
    """Those of a theme's variables that have to be other ones, and `raw-curve`. A terminal's own colours are not known, and
    stay."""
    if colours["background"].startswith("ansi"):
        return {"raw-curve": "ansi_bright_black"}
    grounds = tuple(colours[name] for name in ("background", "surface"))
    keys = (colours["footer-background"],)
    found = {name: _apart(colours[name], grounds, LEAST) for name in TEXTS}
    found |= {name: _apart(colours[name], keys, LEAST) for name in KEYS}
    raw = Color.parse(colours["background"]).blend(Color.parse(colours["accent"]), RAW_SHARE, alpha=1.0)
    return found | {"raw-curve": _apart(raw.hex, grounds[:1], LEAST_OF_LINES)}


@cache
def _apart(text: str, grounds: tuple[str, ...], least: float) -> str:
    """`text`, or the nearest colour to it that differs enough from all of `grounds`."""
    colour, behind = Color.parse(text), [Color.parse(ground) for ground in grounds]
    end = max(Color(0, 0, 0), Color(255, 255, 255), key=lambda one: contrast(one, behind[0]))
    for tenths in range(10):
        nearer = colour.blend(end, tenths / 10, alpha=1.0)
        if all(contrast(nearer, ground) >= least for ground in behind):
            return nearer.hex
    return end.hex


def contrast(one: Color, other: Color) -> float:
    """From 1 (the same) to 21 (black on white)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Color) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
