"""One line on standard error that says how far something has come, and goes away when it is done."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len

from recommender.figures import size
from tui.cells import padded
from tui.i18n import _
from tui.words import number, sign

PATIENCE = 0.8
"""Seconds before anything is said: what is quick needs no words."""
EVERY = 0.1


class ProgressLine:
    """Call it with what was done, of how much (0 for unknown), and the unit. Silent where nobody looks at a terminal."""

    def __init__(self, what: str, stream: TextIO | None = None, *, begun: Callable[[], None] | None = None) -> None:
        """`begun` is called at the first call, whether anybody looks or not."""
        self._what, self._stream, self._begun = what, stream or sys.stderr, begun
        self._began = self._said = time.monotonic()
        self._width = 0
        self._seen = self._stream.isatty()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *problem: object) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def __call__(self, done: int, total: int, unit: str) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()
        now = time.monotonic()
        if not self._seen or now - self._began < PATIENCE or now - self._said < EVERY:
            return
        self._said = now
        line = f"{self._what}: {amount(done, total, unit)} {sign('…')}"
        self._stream.write("\r" + padded(line, self._width))
        self._stream.flush()
        self._width = cell_len(line)


def amount(done: int, total: int, unit: str) -> str:
    """`12 000 of 600 000 rows`, `34%` of bytes, `comparing 5 000 texts`, `2 of 4 steps`."""
    if unit == "texts to compare":
        return _("comparing {n} texts with each other").format(n=number(done))
    if unit == "bytes to download":
        return _("downloaded {percent} of {size}").format(percent=f"{100 * done // max(total, 1)}%", size=size(total))
    if unit == "bytes":
        return f"{100 * done // total}%" if total else f"{done / 1e6:,.0f} MB"
    if unit == "steps":
        return _("{done} of {total} steps").format(done=number(done), total=number(total))
    words = _("{done} of {total} rows") if total else _("{done} rows")
    return words.format(done=number(done), total=number(total))
