"""Rows to train on: what they are, and how they are told apart. `loading.py` reads them, `splitting.py` deals them out."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.tables.table import Place, Table, as_text
from engine.text import one_line
from recommender.errors import InputError

LEAST_DRAWN = 5
"""Held-out rows, or groups of such rows, below which drawing them anew tells nothing."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their labels; `numbers` are row numbers in the file, counted from 1.

    Rows of one group, or with texts that differ in punctuation at most, never stand on two sides of a split, and splits are
    stratified by label: where rows have no single class it is the rarest of theirs, or empty.
    """

    texts: list[str]
    labels: list[str]
    numbers: list[int]
    dropped: int = 0
    """Rows without a text or without a label."""
    items: list[Any] | None = None
    """What is trained on where text and label do not say it all: several labels, tags, a conversation. One a row."""
    source: str = ""
    """Name of the file, for messages."""
    parts: list[tuple[str, ...]] | None = None
    """The two texts of each row, where pairs of texts are judged; `texts` hold both, a line each."""
    groups: list[str] | None = None
    """What rows share that must not be on two sides of a split: a prompt, a first message, one of two texts that are judged
    together. `None` where that is the text."""
    named: list[Hashable] | None = None
    """What rows share by the column that a person named for it, on one side of a split too: `named_groups`."""
    place: Place | None = None
    """Where the row of a number stands, where that and `source` do not tell it: `Table.place`."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        return Rows(
            [self.texts[i] for i in indices],
            [self.labels[i] for i in indices],
            [self.numbers[i] for i in indices],
            items=None if self.items is None else [self.items[i] for i in indices],
            source=self.source,
            parts=None if self.parts is None else [self.parts[i] for i in indices],
            groups=None if self.groups is None else [self.groups[i] for i in indices],
            named=None if self.named is None else [self.named[i] for i in indices],
            place=self.place,
        )

    def spent(self) -> "Rows":
        """As many rows, of which only the numbers are left: once they are tokens nobody reads them."""
        nothing = [""] * len(self)
        return Rows(nothing, nothing, self.numbers, self.dropped, source=self.source, place=self.place)

    def where(self, number: int) -> str:
        """Where the row of that number stands, for messages."""
        return f"{self.source}: row {number}" if self.place is None else self.place(number)

    def own_keys(self) -> list[str]:
        """What rows share by what they say: that of which no two stand on two sides of a split."""
        if self.groups is None:
            return list(map(twin_of, self.texts))
        return [twin_of(group or text) for group, text in zip(self.groups, self.texts, strict=True)]

    def keys(self) -> Sequence[Hashable]:
        """What decides on which side of a split each row stands."""
        return self.own_keys() if self.named is None else united(self.own_keys(), self.named)

    def looser_keys(self) -> Iterator[Sequence[Hashable]]:
        """`keys`, and what is to decide where those leave too few rows for a side: the texts, then with their punctuation; each
        only where it tells more rows apart. What a person named always decides."""
        keys = self.keys()
        yield keys
        others = (list(map(looser, self.texts)) for looser in (twin_of, key_of))
        for looser in others if self.named is None else (self.named,):
            if len(set(looser)) > len(set(keys)):
                keys = looser
                yield keys

    def drawn_together(self) -> list[int] | None:
        """For each row the number of its group: rows that a split keeps on one side, so that a score of one tells of the others.
        `None` where each stands alone.

        Fewer than `LEAST_DRAWN` say nothing of what others would be; then what is looser decides here, too.
        """
        enough = (keys for keys in self.looser_keys() if len(set(keys)) >= LEAST_DRAWN)
        return numbered(next(enough, ()))


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a run by use, and what was left out on the way."""

    train: Rows
    validation: Rows
    held_out: Rows
    labels: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    """How many rows each step found: rows, empty, eval_empty, duplicates, conflicts, overlap, unasked. `unlearned` are answers
    of weight 0, `together` rows that share their prompt, first message or text with others; `torn` is 1 where too many did to be
    kept on one side, and `seen` are training rows that do with those of a held-out file. Of a column that a person named `groups`
    are its values, `groups_seen` training rows that have one of the held-out file's, `groups_unknown` rows of that file without
    one."""


def labelled(table: Table, text_column: str, label_column: str) -> Rows:
    """The table's rows that have both a text and a label.

    Raises:
        InputError: no such column, or a value that is neither text nor number.
    """
    texts = [text.strip() for text in _texts(table, text_column)]
    labels = [label.strip() for label in _texts(table, label_column, in_lists=True)]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if label and text]
    numbers = [table.number(i) for i in kept]
    if len(kept) == len(texts):
        return Rows(texts, labels, numbers, source=table.path.name, place=table.place)
    dropped = len(texts) - len(kept)
    return Rows([texts[i] for i in kept], [labels[i] for i in kept], numbers, dropped, source=table.path.name, place=table.place)


def _texts(table: Table, name: str, *, in_lists: bool = False) -> list[str]:
    values = table.values(name)
    if in_lists:
        values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    if not {list, dict}.isdisjoint(map(type, values)):
        row = next(i for i, value in enumerate(values) if isinstance(value, list | dict))
        raise InputError(f"{table.where(row)}: column {one_line(name, 60)} holds a nested value; one text per row is needed.")
    return [value if type(value) is str and value.isascii() else as_text(value) for value in values]


def named_groups(table: Table, column: str) -> list[Hashable]:
    """What each row shares with others by that column; where it holds nothing, what no row of any file shares.

    Raises:
        InputError: no such column, or a value that is neither text nor number.
    """
    values = _texts(table, column)
    return [value.strip() or (str(table.path), table.number(i)) for i, value in enumerate(values)]


def united(*ways: Sequence[Hashable]) -> list[int]:
    """Numbers that rows have in common that share something in one of these `ways`, or that both do with a third one."""
    above = list(range(len(ways[0])))

    def top(row: int) -> int:
        while above[row] != row:
            above[row] = row = above[above[row]]
        return row

    for keys in ways:
        first: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            above[top(row)] = top(first.setdefault(key, row))
    return list(map(top, range(len(above))))


def numbered(keys: Sequence[Hashable]) -> list[int] | None:
    """For each the number of its group, those of equal `keys`; `None` where each stands alone, or too few could be drawn."""
    places: dict[Hashable, int] = {}
    groups = [places.setdefault(key, len(places)) for key in keys]
    return groups if LEAST_DRAWN <= len(places) < len(groups) else None


def shared_texts(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """Of the texts that are judged together those that rows share: of premises and hypotheses, or of passages and questions, the
    side with fewer different ones."""
    return list(min(zip(*parts, strict=True), key=lambda side: len(set(map(twin_of, side)))))


def key_of(text: str) -> str:
    """What makes two texts the same: case and white space do not count."""
    return " ".join(text.casefold().split())


class _Spaced(dict[int, int | str]):
    """What `str.translate` makes of a character: of a mark of punctuation a space; found out at its first use."""

    def __missing__(self, code: int) -> int | str:
        kind = unicodedata.category(chr(code))
        mark = (kind.startswith("P") or kind == "Sk") and chr(code) not in _SIGNS  # Sk has the grave accent that opens quotes
        self[code] = found = " " if mark else code
        return found


_SIGNS = "*/\\%^#&@"
"""Marks by Unicode that mean something: 3*2 is not 3/2, and C# not C."""
_MINUS = re.compile(r"(?<![^\W\d])-(?=\s?\d)")
"""Not the dash of GPT-4."""
_UNSPACED = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_SPACE_BESIDE = re.compile(f"(?<={_UNSPACED}) | (?={_UNSPACED})")
"""Where Chinese and Japanese have no space: one that stands for a comma would tell texts apart."""
_SPACED = _Spaced()


def twin_of(text: str) -> str:
    """What two texts share that must not stand on two sides of a split: punctuation does not count either.

    Signs that mean something count (+, *, the minus before a number, $, emoji), and in texts that are mostly punctuation, such as
    drawings, all do. Of SST-2's held-out phrases 1% are among those to train on as they are, and 23% with another full stop or
    dash.
    """
    key = key_of(text)
    meant = _MINUS.sub("\N{MINUS SIGN}", key) if "-" in key else key
    words = " ".join(meant.translate(_SPACED).split())
    if 2 * len(words) < len(key):
        return key
    return words if words.isascii() else _SPACE_BESIDE.sub("", words)


def unique(rows: Rows) -> Rows:
    """Each text once with each of its labels, or of what else is learned from it; first occurrence first."""
    seen: set[tuple[str, str]] = set()
    kept = []
    learned = rows.labels if rows.items is None else map(repr, rows.items)
    for i, (text, label) in enumerate(zip(rows.texts, learned, strict=True)):
        mark = (key_of(text), label)
        if mark not in seen:
            seen.add(mark)
            kept.append(i)
    return rows if len(kept) == len(rows) else rows.take(kept)


def agreeing(rows: Rows) -> Rows:
    """Without the rows whose text also appears with another label, or with something else to be learned from it."""
    learned = rows.labels if rows.items is None else list(map(repr, rows.items))
    said: dict[str, set[str]] = defaultdict(set)
    keys = [key_of(text) for text in rows.texts]
    for key, label in zip(keys, learned, strict=True):
        said[key].add(label)
    kept = [i for i, key in enumerate(keys) if len(said[key]) == 1]
    return rows if len(kept) == len(rows) else rows.take(kept)


def sort_labels(labels: set[str]) -> list[str]:
    """Label names in a stable order: numbers by value, else alphabetically."""
    if all(_is_integer(label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))  # 1 and 01 are two labels
    return sorted(labels)


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def check_labels(rows: Rows, marks: Sequence[Sequence[str]], labels: list[str], *, planned: bool = False) -> None:
    """All `marks` (labels or tags) of each of `rows` are among `labels`, which are the plan's own where they are `planned`.

    Raises:
        InputError: listing those that are not.
    """
    wanted = set(labels)
    strange = Counter(label for row in marks for label in set(row) if label not in wanted)
    if strange:
        listed = ", ".join(f"{one_line(label, 40)} ({n} row{'s'[n == 1 :]})" for label, n in strange.most_common(5))
        known = ", ".join(one_line(label, 40) for label in labels[:10])
        first = next(i for i, row in enumerate(marks) if any(label in strange for label in row))
        where = rows.where(rows.numbers[first])
        if planned:
            raise InputError(f"{where}: labels that the plan does not name (data.labels): {listed}; the known ones are {known}.")
        raise InputError(f"{where}: labels that training has never seen: {listed}; the known ones are {known}.")
