"""Spans in a row of tags, as the CoNLL evaluation script finds them.

Its rules (Tjong Kim Sang & Buchholz 2000) read IOB1, IOB2 and IOBES alike, and take a span that begins with I for one.
"""

from collections.abc import Sequence
from typing import NamedTuple

OUTSIDE = "O"


class Span(NamedTuple):
    """Words that belong together."""

    type: str
    start: int
    end: int
    """Behind the last word."""


def has_spans(labels: Sequence[str]) -> bool:
    """Whether the tags mark beginnings and insides; tags of other kinds (parts of speech) each stand for one word."""
    tags = [label for label in labels if label != OUTSIDE]
    return bool(tags) and all(label[:2] in ("B-", "I-", "E-", "S-", "L-", "U-") and len(label) > 2 for label in tags)


def spans(tags: Sequence[str | None], *, joined: bool = True) -> list[Span]:
    """The spans of one row; `None` is a word without an answer. Not `joined`, every tagged word is one."""
    if not joined:
        return [Span(tag, i, i + 1) for i, tag in enumerate(tags) if tag is not None and tag != OUTSIDE]
    found: list[Span] = []
    start, before, kind = 0, OUTSIDE, ""
    for i, tag in enumerate([*tags, OUTSIDE]):
        mark, _, type_ = (tag or OUTSIDE).partition("-")
        open_ = before != OUTSIDE
        if open_ and (mark in ("O", "B", "S", "U") or before in ("E", "L", "S", "U") or type_ != kind):
            found.append(Span(kind, start, i))
            open_ = False
        if mark != OUTSIDE and not open_:
            start = i
        before, kind = mark, type_
    return found
