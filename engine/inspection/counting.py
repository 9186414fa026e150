"""Counting over a whole file, batch by batch: numbers a row are kept, texts are not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.examples.turns import THOUGHT_END
from engine.inspection import tokens
from engine.inspection.columns import LEAST_OF_A_LABEL, MOST_CLASSES, too_many_classes
from engine.inspection.duplicates import NEAR_ROWS, READ_CHARACTERS, below, drawn, group_of, last_drawn
from engine.inspection.layouts import GROUP, Shape
from engine.inspection.record import Record
from engine.inspection.records import stream
from engine.rows import twin_of
from engine.tables.source import Source, Told, nobody
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import CLASSIFYING

Numbers = npt.NDArray[np.int64]
_MIX = 0x9E3779B97F4A7C15
"""An odd number that spreads the bits of one hash before another is put over it."""


@dataclass
class Counted:
    """What is known of each usable row, in the file's order."""

    numbers: Numbers
    """In the file, from 1."""
    keys: Numbers
    """A hash of what makes two rows the same: the text, or prompt and answer. Good within this process only."""
    twins: Numbers
    """A hash of what the run compares with held-out rows: the text, prompt and answer, or of preferences the prompt, each without
    its punctuation."""
    targets: Numbers
    """A hash of the label."""
    characters: Numbers
    groups: npt.NDArray[np.uint32]
    dropped: int
    marks: Counter[str] = field(default_factory=Counter)
    """Rows, or tokens, of each label."""
    rows_of_mark: dict[str, int] = field(default_factory=dict)
    """The first row of each label."""
    numeric: bool = False
    """Whether some classes are written as numbers, not as text."""
    unasked: int = 0
    """Conversations whose first answer is left out, because nothing asks for it."""
    unlearned: int = 0
    """Answers of weight 0, which are read and not learned."""
    calling: int = 0
    """Conversations in which answers call tools."""
    only_calling: int = 0
    """Those of them in which all answers do."""
    thinking: int = 0
    """Conversations in which answers have thoughts in a field."""
    thinking_aloud: int = 0
    """Rows in which answers have them in their text."""
    thoughtless: int = 0
    """Rows in which answers have none."""
    shared: tuple[Numbers, ...] = ()
    """Hashes of what rows may share that stay on one side of a split; of two texts, of both."""
    named: Numbers | None = None
    """Hashes of what a person named that rows share."""
    ungrouped: int = 0
    """Rows that share nothing of that, for they hold nothing there."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def first_of_key(self) -> Numbers:
        """Places of the rows that are not like an earlier one."""
        return np.sort(np.unique(self.keys, return_index=True)[1])

    @cached_property
    def first_of_pair(self) -> Numbers:
        """Places of the rows that are not like an earlier one with the same label."""
        mixed = self.keys.astype(np.uint64) * np.uint64(_MIX) ^ self.targets.astype(np.uint64)
        return np.sort(np.unique(mixed, return_index=True)[1])

    @cached_property
    def belongings(self) -> Numbers | None:
        """What decides which rows belong together, a hash a row; `None` where that is the whole text."""
        return min(self.shared, key=lambda side: len(np.unique(side)), default=None)  # as `engine.rows.shared_texts`

    def together(self) -> int:
        """Different rows that share their prompt, first message or text with another one."""
        if self.belongings is None:
            return 0
        times = np.unique(self.belongings[self.first_of_pair], return_counts=True)[1]
        return int(times[times > 1].sum())

    def contradicting(self) -> int:
        """Rows whose text also appears with another label."""
        keys, times = np.unique(self.keys[self.first_of_pair], return_counts=True)
        return int(np.isin(self.keys, keys[times > 1]).sum())

    def agreeing(self) -> set[int]:
        """Numbers of the rows whose text appears with one label alone."""
        keys, times = np.unique(self.keys[self.first_of_pair], return_counts=True)
        return set(self.numbers[np.isin(self.keys, keys[times == 1])].tolist())

    def shown_in(self, other: "Counted") -> int:
        """Rows that are also in the other file, with whatever punctuation."""
        return int(np.isin(self.twins, other.twins).sum())


def count(source: Source, shape: Shape, told: Told = nobody, only: set[int] | None = None) -> Counted:
    """Read all rows, or those numbered in `only`.

    Raises:
        InputError: a row that is not of that shape, or more labels than anybody would want to tell apart.
    """
    classifying = shape.task in CLASSIFYING
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    nothing = np.zeros(0, dtype=np.int64)
    counted = Counted(nothing, nothing, nothing, nothing, nothing, nothing.astype(np.uint32), dropped=0)
    for batch in stream(source, shape, told, only):
        counted.dropped += batch.dropped
        counted.numeric |= batch.numeric
        counted.unasked += sum(row.unasked > 0 for row in batch.rows)
        counted.unlearned += sum(row.unlearned for row in batch.rows)
        counted.calling += sum(row.calls != "no" for row in batch.rows)
        counted.only_calling += sum(row.calls == "all" for row in batch.rows)
        counted.thinking += sum(row.thinks for row in batch.rows)
        counted.thinking_aloud += sum(THOUGHT_END in row.target for row in batch.rows)
        counted.thoughtless += sum(not row.thinks and THOUGHT_END not in row.target for row in batch.rows)
        counted.ungrouped += sum(not isinstance(group, str) for group in batch.named or ())
        rows, size = batch.rows, len(batch.rows)
        if not rows:
            continue
        texts = [r.text if classifying else r.whole for r in rows]
        compared = [r.text for r in rows] if shape.task == "preference" else texts  # as `engine.loading.TOLD_BY_TEXT` has it
        words = [text.casefold().split() for text in texts]
        keys = map(" ".join, words)  # as `engine.rows.key_of` makes them
        parts.append(
            (
                np.array(batch.numbers, dtype=np.int64),
                _hashes(keys, size),
                _hashes(map(twin_of, compared), size),
                _hashes([r.target for r in rows], size) if classifying else np.zeros(size, dtype=np.int64),
                np.fromiter((len(r.text) + len(r.target) + len(r.other) + len(r.tools) for r in rows), np.int64, size),
                np.fromiter(map(group_of, words), np.uint32, size),
                np.fromiter(map(hash, batch.named or ()), np.int64),
                *(_hashes(map(twin_of, side), size) for side in zip(*(r.shared for r in rows), strict=True)),
            )
        )
        _count_marks(counted, rows, batch.numbers, shape)
        if shape.layout == "text_label" and len(counted.marks) > MOST_CLASSES:  # beyond the rows that were looked at
            raise too_many_classes(source.path, shape.columns["label"])
    if len(counted.marks) > MOST_CLASSES and counted.marks.total() < LEAST_OF_A_LABEL * len(counted.marks):
        role = "tags" if shape.layout == "tokens_tags" else "label"
        raise InputError(
            f"{source.path}: column {one_line(shape.columns.get(role, role), 60)} has {len(counted.marks)} distinct values "
            f"in {sum(len(part[0]) for part in parts)} rows: that looks like free text, not labels; name another one with "
            f"{'--column tags=…' if role == 'tags' else '--label-column'}."
        )
    if parts:
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        counted.numbers, counted.keys, counted.twins, counted.targets, counted.characters, counted.groups, *more = joined
        named, *shared = more
        counted.named = named if GROUP in shape.columns else None
        counted.shared = tuple(shared)
    return counted


def _hashes(texts: Iterable[str], size: int) -> Numbers:
    return np.fromiter(map(hash, texts), np.int64, size)


def _count_marks(counted: Counted, rows: list[Record], numbers: list[int], shape: Shape) -> None:
    if shape.task == "classification":
        found = Counter([r.target for r in rows])
    elif shape.task in ("multi_label", "token_classification"):
        found = Counter([m for r in rows for m in r.marks])
    else:
        return
    for mark in found.keys() - counted.marks.keys():
        counted.rows_of_mark[mark] = next(n for r, n in zip(rows, numbers, strict=True) if mark == r.target or mark in r.marks)
    counted.marks.update(found)


@dataclass(slots=True)
class Looked:
    """What a second look at some of the rows found."""

    lengths: Numbers
    """Tokens of the counted rows, ascending."""
    before: Numbers
    """Tokens of each of them in front of what is learned first."""
    longest: int
    trained: int
    """Tokens that carry loss in the counted rows."""
    read: int
    """Tokens of them that an encoder-decoder reads."""
    sampled: bool
    texts: list[str]
    """Different texts, not many, drawn so that similar ones are together."""
    targets: list[str]
    longest_read: int = 0
    longest_written: int = 0
    """By an encoder-decoder."""


def look(source: Source, shape: Shape, counted: Counted, counter: tokens.Counter, told: Told = nobody) -> Looked:
    """Read the file again and count tokens; beyond a bound only of a sample.

    Raises:
        InputError: the file is damaged.
    """
    once = counted.first_of_pair
    to_count, sampled = _sample(once, counted.characters)
    longest = _longest(once, counted.characters) if sampled else once[:0]
    different = counted.first_of_key
    similar = different[drawn(counted.groups[different], NEAR_ROWS)]
    kinds = np.zeros(len(counted), dtype=np.uint8)
    for bit, places in ((1, to_count), (2, longest), (4, similar)):
        kinds[places] |= bit
    kind_of = dict(zip(counted.numbers[kinds > 0].tolist(), kinds[kinds > 0].tolist(), strict=True))
    found = Looked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 0, 0, 0, sampled, [], [])
    lengths: list[int] = []
    before: list[int] = []
    for batch in stream(source, shape, only=set(kind_of)):
        marked = [(row, kind_of[n]) for row, n in zip(batch.rows, batch.numbers, strict=True)]
        own = counter.rows([row for row, kind in marked if kind & 1], shape.task)
        lengths += own.whole
        before += own.before
        found.trained += sum(own.learned)
        found.read += sum(own.read)
        longer = counter.rows([row for row, kind in marked if kind & 2], shape.task)
        found.longest = max([found.longest, *own.whole, *longer.whole])
        for some in (own, longer):
            if some.read:
                found.longest_read = max(found.longest_read, *some.read)
                found.longest_written = max(found.longest_written, *some.learned)
        for row, kind in marked:
            if kind & 4:
                found.texts.append(_compared(row, shape))
                found.targets.append(row.target)
        told(len(lengths))
    found.lengths = np.sort(np.array(lengths, dtype=np.int64))
    found.before = np.array(before, dtype=np.int64)
    return found


def look_alike(source: Source, shape: Shape, counted: Counted, held_out: Counted) -> tuple[list[str], int]:
    """Texts of held-out rows to compare with those that `look` finds, without those that are also in the training data, with
    whatever punctuation; and of how many rows they are what is left.

    Raises:
        InputError: the file is damaged.
    """
    different = counted.groups[counted.first_of_key]
    chosen = below(held_out.groups, min(last_drawn(different, NEAR_ROWS), last_drawn(held_out.groups, NEAR_ROWS)))
    new = held_out.numbers[chosen & ~np.isin(held_out.twins, counted.twins)]
    batches = stream(source, shape, only=set(new.tolist())) if len(new) else ()
    return [_compared(row, shape) for batch in batches for row in batch.rows], int(chosen.sum())


def _compared(row: Record, shape: Shape) -> str:
    return (row.text if shape.task in CLASSIFYING else row.whole)[:READ_CHARACTERS]


def counted_rows(counted: Counted) -> int:
    """How many rows `look` counts the tokens of, for progress."""
    return len(_sample(counted.first_of_pair, counted.characters)[0])


def _sample(once: Numbers, characters: Numbers) -> tuple[Numbers, bool]:
    size = int(characters[once].sum())
    if len(once) <= tokens.COUNT_ALL_UP_TO and size <= tokens.COUNT_ALL_CHARACTERS:
        return once, False
    by_size = int(tokens.SAMPLE_CHARACTERS * len(once) / max(size, 1))
    rows = min(tokens.SAMPLE_ROWS, max(1_000, by_size), len(once))
    return np.sort(np.random.default_rng(0).choice(once, rows, replace=False)), True


def _longest(once: Numbers, characters: Numbers) -> Numbers:
    ordered = once[np.argsort(characters[once])[::-1][: tokens.LONGEST_ROWS]]
    within = np.cumsum(characters[ordered]) <= tokens.SAMPLE_CHARACTERS
    within[0] = True
    return np.asarray(ordered[within])
