"""The app where a terminal shows ASCII only: whatever draws it, Textual's frames and scroll bars too."""

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui.words import ASCII_SIGNS

_FRAMES = {**dict.fromkeys("─━═╌┄╴╶╸╺", "-"), **dict.fromkeys("│┃║┆▏▎▍▌▋▊▉▐▕", "|"), **dict.fromkeys("┌┐└┘┏┓┗┛╭╮╰╯├┤┬┴┼╋", "+")}
_BARS = {**dict.fromkeys("▁▂▃▄▅▆▇▀▔", " "), "█": "#", "▓": "#", "▒": "+", "░": "."}
_OF_ONE_CELL = {"…": ".", "→": ">", "←": "<", "±": "~", "≤": "<", "≥": ">"}
TABLE = str.maketrans({**ASCII_SIGNS, **_FRAMES, **_BARS, **_OF_ONE_CELL})
"""Every sign by one of a cell, so that nothing moves. Letters of other scripts stay: they are somebody's text."""


class AsciiOnly(LineFilter):
    """Writes signs beyond ASCII as what stands for them."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells."""
        return [Segment(text.translate(TABLE), style, control) for text, style, control in segments]
