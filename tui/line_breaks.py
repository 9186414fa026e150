"""Where lines are broken: at spaces but those within numbers, long paths between their names, and Chinese between any two signs,
never before a full stop or behind an opening bracket.

Rich and Textual break at spaces alone. What stands between two of them would move to the next line as one word, or be cut where
the line ends, so that the next one begins with a comma.
"""

import re
from collections.abc import Iterator

_SIGN, _OPENS, _CLOSES = "\u3005-\u3007\u3400-\u9fff\uf900-\ufaff", "（《〈「『【〔“", "，。、；：！？）》〉」』】〕”…"
_THIN = r"(?<=\d) (?=(?:\d{3}|[kMGT]?B|[kM]|s|ms|min|h|°C)(?!\w))"
"""The space within 12 345, or 1.3 MB."""
_PIECE = re.compile(rf"\s*[{_OPENS}]*(?:[{_SIGN}]|(?:[^\s{_SIGN}{_OPENS}{_CLOSES}]|{_THIN})+)?[{_CLOSES}]*\s*")
_LONG, _SLASH = 24, re.compile(r"(?<=\w)/(?=\w)")
"""Characters from which on a path, or a hub's id, may be broken between its names."""


def pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Begin, end and text of each piece that a line is not broken in, with the white space behind it."""
    end = 0
    while end < len(text):
        begin, end = _PIECE.match(text, end).span()  # type: ignore[union-attr]  # all of it may be absent
        for slash in _SLASH.finditer(text, begin, end) if end - begin > _LONG else ():
            yield begin, slash.end(), text[begin : slash.end()]
            begin = slash.end()
        yield begin, end, text[begin:end]


def between_signs() -> None:
    """Let Rich and Textual break lines so from now on; both ask this function of Rich's, which has no setting for it."""
    from rich import _wrap

    _wrap.words = pieces
