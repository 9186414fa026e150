"""Spans in a row of tags, found by seqeval.

Its usual mode follows the CoNLL evaluation script (Tjong Kim Sang & Buchholz 2000), reads IOB1, IOB2 and IOBES alike, and takes
a span that begins with I for one. BILOU says L for E and U for S, BMES M for I.
"""

from collections.abc import Sequence
from typing import NamedTuple

OUTSIDE = "O"
_MARKS = {"L": "E", "U": "S", "M": "I"}


class Span(NamedTuple):
    """Words that belong together."""

    type: str
    start: int
    end: int
    """Behind the last word."""


def has_spans(labels: Sequence[str]) -> bool:
    """Whether the tags mark beginnings and insides; tags of other kinds (parts of speech) each stand for one word."""
    tags = [label for label in labels if label != OUTSIDE]
    return bool(tags) and all(label[:2] in ("B-", "I-", "E-", "S-", "L-", "U-", "M-") and len(label) > 2 for label in tags)


def spans(tags: Sequence[str | None], *, joined: bool = True) -> list[Span]:
    """The spans of one row; `None` is a word without an answer. Not `joined`, every tagged word is one."""
    if not joined:
        return [Span(tag, i, i + 1) for i, tag in enumerate(tags) if tag is not None and tag != OUTSIDE]
    from seqeval.metrics.sequence_labeling import get_entities  # brings scikit-learn along

    known = [OUTSIDE if tag is None else f"{_MARKS.get(tag[0], tag[0])}{tag[1:]}" for tag in tags]
    return [Span(type_, first, last + 1) for type_, first, last in get_entities(known)]
