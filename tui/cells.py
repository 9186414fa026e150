"""Text in so many cells of the terminal: filled up or cut. Imports nothing heavy at module level."""

import re

from tui.words import short_name, sign

_JOINTS = re.compile("(?<=[\u2600-\u27bf\U0001f000-\U0001faff])[\u200d\ufe0f\U0001f3fb-\U0001f3ff]+")


def one_line(text: object, limit: int = 200) -> str:
    """As `engine.text` makes it, of so many cells in every terminal."""
    from engine import text as texts

    return _apart(texts.one_line(text, limit))


def padded(text: str, cells: int) -> str:
    """`text` with blanks up to that many cells: a Chinese character takes two."""
    from rich.cells import cell_len

    text = _apart(text)
    return text + " " * max(cells - cell_len(text), 0)


def _apart(text: str) -> str:
    """Without what joins emoji or changes their look: of how many cells these take, terminals have different opinions, and what
    stands behind them would be shifted."""
    return text if text.isascii() else _JOINTS.sub("", text)


def fitted(text: str, cells: int) -> str:
    """`text`, cut where it takes more cells than that: a Chinese character takes two."""
    from rich.cells import cell_len, set_cell_size

    text = _apart(text)
    if cell_len(text) <= cells:
        return text
    missing = sign("…")
    return set_cell_size(text, max(cells - cell_len(missing), 0)).rstrip() + missing


def fitted_name(name: str, cells: int) -> str:
    """A run's name in so many cells; where it is one of a group the group's is cut: its own tells it from the others."""
    from rich.cells import cell_len

    from engine.text import one_line

    group, slash, own = one_line(short_name(name)).rpartition("/")
    left = cells - cell_len(slash + own)
    return fitted(group, left) + slash + own if slash and left > 1 else fitted(own, cells)


def flush_right(text: str, cells: int) -> str:
    """`text` behind blanks, so that both take that many cells."""
    from rich.cells import cell_len

    return " " * max(cells - cell_len(text), 0) + text
