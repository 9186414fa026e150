"""Where lines are broken: at spaces but those within numbers, a path that fits into no line between its names, and Chinese
between any two signs, never before a full stop or behind an opening bracket.

Rich and Textual break at spaces alone. What stands between two of them would move to the next line as one word, or be cut where
the line ends, so that the next one begins with a comma.
"""

import re
from collections.abc import Iterator

_SIGN, _OPENS, _CLOSES = "\u3005-\u3007\u3400-\u9fff\uf900-\ufaff", "（《〈「『【〔“", "，。、；：！？）》〉」』】〕”…"
_THIN = r"(?<=\d) (?=(?:\d{3}|[kMGT]?B|[kM]|s|ms|min|h|°C)(?!\w))"
"""The space within 12 345, or 1.3 MB."""
_PIECE = re.compile(rf"\s*[{_OPENS}]*(?:[{_SIGN}]|(?:[^\s{_SIGN}{_OPENS}{_CLOSES}]|{_THIN})+)?[{_CLOSES}]*\s*")


def pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Begin, end and text of each piece that a line is not broken in, with the white space behind it."""
    end = 0
    while end < len(text):
        begin, end = _PIECE.match(text, end).span()  # type: ignore[union-attr]  # all of it may be absent
        yield begin, end, text[begin:end]


def folded(text: str, width: int) -> list[str]:
    """A word that is longer than a line; of a path no name is broken that fits."""
    from rich.cells import cell_len, chop_cells

    lines = []
    while cell_len(text) > width and (line := chop_cells(text, width)[0]):  # not even a Chinese sign fits into one cell
        line = line[: line.rfind("/", 1) + 1] or line
        lines.append(line)
        text = text[len(line) :]
    return [*lines, text]


def between_signs() -> None:
    """Let Rich and Textual break lines so from now on; both ask these functions of Rich's, which have no setting for it."""
    from rich import _wrap

    _wrap.words = pieces
    _wrap.chop_cells = folded  # type: ignore[assignment, attr-defined]
