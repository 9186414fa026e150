"""Text of the app on the backgrounds of every theme."""

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from tui.legible import KEYS, LEAST, LEAST_OF_LINES, TEXTS, contrast, legible

THEMES = {name: theme.to_color_system().generate() for name, theme in BUILTIN_THEMES.items()}


@pytest.mark.parametrize("name", [name for name in THEMES if not name.startswith("ansi")])
def test_every_theme_can_be_read(name: str) -> None:
    colours = THEMES[name] | legible(THEMES[name])

    def between(text: str, ground: str) -> float:
        return contrast(Color.parse(colours[text]), Color.parse(colours[ground]))

    assert min(between(text, ground) for text in TEXTS for ground in ("background", "surface")) >= LEAST
    assert min(between(text, "footer-background") for text in KEYS) >= LEAST
    assert between("raw-curve", "background") >= LEAST_OF_LINES


def test_what_can_be_read_stays_as_the_theme_has_it() -> None:
    dark = THEMES["textual-dark"]
    assert {name: Color.parse(dark[name]) for name in (*TEXTS, *KEYS)} == {
        name: Color.parse(colour) for name, colour in legible(dark).items() if name != "raw-curve"
    }
    assert legible(THEMES["ansi-light"]) == {"raw-curve": "ansi_bright_black"}
