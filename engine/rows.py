"""Rows to train on: what they are, and how they are sampled, told apart and dealt out. `loading.py` reads them."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Any

from engine.tables.table import Place, Table
from engine.text import one_line
from recommender.errors import InputError


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their labels; `numbers` are row numbers in the file, counted from 1.

    Rows of one group, or with equal texts, never stand on two sides of a split, and splits are stratified by label: where rows
    have no single class it is the rarest of theirs, or empty.
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
            place=self.place,
        )

    def spent(self) -> "Rows":
        """As many rows, of which only the numbers are left: once they are tokens nobody reads them."""
        nothing = [""] * len(self)
        return Rows(nothing, nothing, self.numbers, self.dropped, source=self.source, place=self.place)

    def where(self, number: int) -> str:
        """Where the row of that number stands, for messages."""
        return f"{self.source}: row {number}" if self.place is None else self.place(number)

    def keys(self) -> list[str]:
        """What decides on which side of a split each row stands."""
        if self.groups is None:
            return list(map(key_of, self.texts))
        return [key_of(group or text) for group, text in zip(self.groups, self.texts, strict=True)]


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
    kept on one side."""


def labelled(table: Table, text_column: str, label_column: str) -> Rows:
    """The table's rows that have both a text and a label.

    Raises:
        InputError: no such column, or a value that is neither text nor number.
    """
    texts = _texts(table, text_column)
    labels = [label.strip() for label in _texts(table, label_column, in_lists=True)]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if label and text and not text.isspace()]
    numbers = [table.number(i) for i in kept]
    if len(kept) == len(texts):
        return Rows(texts, labels, numbers, source=table.path.name, place=table.place)
    dropped = len(texts) - len(kept)
    return Rows(
        [texts[i] for i in kept], [labels[i] for i in kept], numbers, dropped, source=table.path.name, place=table.place
    )


def _texts(table: Table, name: str, *, in_lists: bool = False) -> list[str]:
    values = table.values(name)
    if in_lists:
        values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    if not {list, dict}.isdisjoint(map(type, values)):
        row = next(i for i, value in enumerate(values) if isinstance(value, list | dict))
        raise InputError(f"{table.where(row)}: column {one_line(name, 60)} holds a nested value; one text a row is needed.")
    return [value if type(value) is str and value.isascii() else as_text(value) for value in values]


def as_text(value: object) -> str:
    """A value of a file as text: whole numbers without a point, nothing for what is missing."""
    if type(value) is str and value.isascii():
        return value
    if value is None or value != value:  # noqa: PLR0124 - NaN is how data frames write a missing label
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    # JSON can spell half a surrogate pair, which no tokenizer takes.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def sample(rows: Rows, count: int | None, seed: int) -> Rows:
    """A seeded sample of `count` rows in the file's order; all rows when there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    return rows.take(chosen)


def put_aside(
    rows: int, held_out: int, train_rows: int | None, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[list[int], list[int]]:
    """Places of the rows that are trained on and of those held out, where both come from one file, in the file's order.

    `groups` tell which rows belong together: whole groups are held out, unless they are too large for that.

    Raises:
        InputError: more than half would be held out.
    """
    if held_out > rows / 2:
        raise InputError(f"--eval-rows is {held_out}, more than half of the {rows} rows there are; name a file with --eval.")
    wanted = rows if train_rows is None else min(held_out + train_rows, rows)
    if groups is not None and len(set(groups)) < rows:
        order = random.Random(seed)
        aside = _whole_groups(groups, held_out, order)
        if 2 * len(aside) >= held_out:
            kept = set(aside)
            rest = [i for i in range(rows) if i not in kept]
            return sorted(order.sample(rest, min(wanted - held_out, len(rest)) if train_rows else len(rest))), sorted(aside)
    chosen = random.Random(seed).sample(range(rows), wanted)
    return sorted(chosen[held_out:]), sorted(chosen[:held_out])


def _whole_groups(groups: Sequence[Hashable], count: int, order: random.Random) -> list[int]:
    """Places of about `count` rows, whole groups of them."""
    members_of: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members_of[group].append(i)
    shuffled = list(members_of.values())
    order.shuffle(shuffled)
    taken: list[int] = []
    for members in shuffled:
        if len(taken) + len(members) <= count:
            taken += members
    return taken


def shared_texts(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """Of the texts that are judged together those that rows share: of premises and hypotheses, or of passages and questions, the
    side with fewer different ones."""
    return list(min(zip(*parts, strict=True), key=lambda side: len(set(map(key_of, side)))))


def key_of(text: str) -> str:
    """What makes two texts the same: case and white space do not count."""
    return " ".join(text.casefold().split())


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
        return sorted(labels, key=int)
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


def carve(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """`count` rows taken out, stratified by label, whole groups at a time; and the rest.

    A class keeps at least one row on the side that stays. What the shares of the classes lack to whole rows goes to those that
    lack most (largest remainder), so that many small classes give `count` rows too.
    """
    if count <= 0 or len(rows) < 2:
        return rows.take([]), rows
    sizes = Counter(rows.labels)
    quotas = _quotas(sizes, count, seed)
    wanted = quotas.total()
    taken: list[int] = []
    picked: Counter[str] = Counter()
    left = list(_shuffled(rows, seed))
    for needed in (1.0, 0.5):  # where groups hold several labels and one of these is full, the others go on filling up
        over = []
        for members in left if len(taken) < wanted else ():
            own = Counter(rows.labels[i] for i in members)
            lacking = sum(n for label, n in own.items() if picked[label] + n <= quotas[label])
            stays = all(picked[label] + n < sizes[label] for label, n in own.items())
            if stays and lacking >= needed * len(members) and len(taken) + len(members) <= wanted:
                taken += members
                picked.update(own)
            else:
                over.append(members)
        left = over
    chosen = set(taken)
    return rows.take(sorted(taken)), rows.take([i for i in range(len(rows)) if i not in chosen])


def _quotas(sizes: Counter[str], count: int, seed: int) -> Counter[str]:
    """How many rows each class gives, of so many that it has; `count` in all where they can."""
    share = min(count / sizes.total(), 0.9)
    exact = {label: share * size for label, size in sizes.items()}
    quotas = Counter({label: min(round(exact[label]), size - 1) for label, size in sizes.items()})
    lacking = round(sum(exact.values())) - quotas.total()
    step = 1 if lacking > 0 else -1
    shuffled = random.Random(seed).sample(sorted(sizes), len(sizes))  # classes of equal size lack equally much
    waiting = [(step * (quotas[label] - exact[label]), place) for place, label in enumerate(shuffled)]
    heapify(waiting)
    while lacking and waiting:
        label = shuffled[waiting[0][1]]
        if 0 <= quotas[label] + step < sizes[label]:
            quotas[label] += step
            lacking -= step
            heapreplace(waiting, (step * (quotas[label] - exact[label]), waiting[0][1]))
        else:
            heappop(waiting)
    return quotas


def deal(rows: Rows, folds: int, seed: int) -> list[int]:
    """The fold of each row, counted from 0: stratified by label, whole groups at a time.

    A group goes to the fold that has the fewest rows of its labels, and of several the one with the fewest rows in all.
    """
    dealt = [0] * len(rows)
    sizes = [0] * folds
    of_label: dict[str, list[int]] = defaultdict(lambda: [0] * folds)
    for members in _shuffled(rows, seed):
        own = Counter(rows.labels[i] for i in members)
        alike = [sum(n * of_label[label][fold] for label, n in own.items()) for fold in range(folds)]
        fold = min(range(folds), key=list(zip(alike, sizes, strict=True)).__getitem__)
        sizes[fold] += len(members)
        for label, n in own.items():
            of_label[label][fold] += n
        for i in members:
            dealt[i] = fold
    return dealt


def _shuffled(rows: Rows, seed: int) -> Iterator[list[int]]:
    """Indices of the rows, a group at a time, label by label: a group counts to the rarest of its labels."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(rows.keys()):
        groups[key].append(i)
    sizes = Counter(rows.labels)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        by_label[min((rows.labels[i] for i in members), key=lambda label: (sizes[label], label))].append(members)
    order = random.Random(seed)
    for label in sorted(by_label):
        order.shuffle(by_label[label])
        yield from by_label[label]
