"""Rows to train on: what they are, and how they are sampled, told apart and dealt out. `loading.py` reads them."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their labels; `numbers` are row numbers in the file, counted from 1.

    Rows with equal texts never stand on two sides of a split, and splits are stratified by label: where rows have no single
    class it is the rarest of theirs, or empty.
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
        )


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a run by use, and what was left out on the way."""

    train: Rows
    validation: Rows
    held_out: Rows
    labels: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    """rows, empty, eval_empty, duplicates, conflicts, overlap: how many rows each step found."""


def labelled(table: Table, text_column: str, label_column: str) -> Rows:
    """The table's rows that have both a text and a label.

    Raises:
        InputError: no such column, or a value that is neither text nor number.
    """
    texts = _texts(table, text_column)
    labels = [label.strip() for label in _texts(table, label_column)]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if label and text and not text.isspace()]
    numbers = [table.number(i) for i in kept]
    if len(kept) == len(texts):
        return Rows(texts, labels, numbers)
    return Rows([texts[i] for i in kept], [labels[i] for i in kept], numbers, len(texts) - len(kept))


def _texts(table: Table, name: str) -> list[str]:
    values = table.values(name)
    if not {list, dict}.isdisjoint(map(type, values)):
        row = next(i for i, value in enumerate(values) if isinstance(value, list | dict))
        raise InputError(f"{table.where(row)}: column {one_line(name, 60)} holds a nested value; one text a row is needed.")
    return [value if type(value) is str and value.isascii() else as_text(value) for value in values]


def as_text(value: object) -> str:
    """A value of a file as text: whole numbers without a point, nothing for what is missing."""
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


def put_aside(rows: int, held_out: int, train_rows: int | None, seed: int) -> tuple[list[int], list[int]]:
    """Places of the rows that are trained on and of those held out, where both come from one file, in the file's order.

    Raises:
        InputError: more than half would be held out.
    """
    if held_out > rows / 2:
        raise InputError(f"--eval-rows is {held_out}, more than half of the {rows} rows there are; name a file with --eval.")
    wanted = rows if train_rows is None else min(held_out + train_rows, rows)
    chosen = random.Random(seed).sample(range(rows), wanted)
    return sorted(chosen[held_out:]), sorted(chosen[:held_out])


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


def check_labels(rows: Rows, marks: Sequence[Sequence[str]], labels: list[str], name: str) -> None:
    """All `marks` (labels or tags) of each of `rows` are among `labels`.

    Raises:
        InputError: listing those that are not.
    """
    wanted = set(labels)
    strange = Counter(label for row in marks for label in set(row) if label not in wanted)
    if strange:
        listed = ", ".join(f"{one_line(label, 40)} ({n} rows)" for label, n in strange.most_common(5))
        known = ", ".join(one_line(label, 40) for label in labels[:10])
        first = next(i for i, row in enumerate(marks) if any(label in strange for label in row))
        raise InputError(
            f"{name}: row {rows.numbers[first]}: labels that training has never seen: {listed}; the known ones are {known}."
        )


def carve(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """`count` rows taken out, stratified by label, whole groups of equal texts at a time; and the rest.

    A class keeps at least one row on the side that stays. What the shares of the classes lack to whole rows goes to those that
    lack most (largest remainder), so that many small classes give `count` rows too.
    """
    if count <= 0 or len(rows) < 2:
        return rows.take([]), rows
    by_label = _groups_by_label(rows)
    order = random.Random(seed)
    quotas = _quotas({label: sum(map(len, groups)) for label, groups in by_label.items()}, count, seed)
    taken: list[int] = []
    for label in sorted(by_label):
        members_of = by_label[label]
        order.shuffle(members_of)
        picked = 0
        for members in members_of:
            if picked + len(members) > quotas[label]:
                continue
            taken += members
            picked += len(members)
    chosen = set(taken)
    return rows.take(sorted(taken)), rows.take([i for i in range(len(rows)) if i not in chosen])


def _quotas(sizes: dict[str, int], count: int, seed: int) -> dict[str, int]:
    """How many rows each class gives, of so many that it has; `count` in all where they can."""
    share = min(count / sum(sizes.values()), 0.9)
    exact = {label: share * size for label, size in sizes.items()}
    quotas = {label: min(round(exact[label]), size - 1) for label, size in sizes.items()}
    lacking = round(sum(exact.values())) - sum(quotas.values())
    step = 1 if lacking > 0 else -1
    shuffled = random.Random(seed).sample(sorted(sizes), len(sizes))  # classes of equal size lack equally much
    for _ in range(abs(lacking)):
        able = [label for label in shuffled if 0 <= quotas[label] + step < sizes[label]]
        if not able:
            break
        quotas[max(able, key=lambda label: step * (exact[label] - quotas[label]))] += step
    return quotas


def deal(rows: Rows, folds: int, seed: int) -> list[int]:
    """The fold of each row, counted from 0: stratified by label, whole groups of equal texts at a time.

    A group goes to the fold that has the fewest rows of its label, and of several the one with the fewest rows in all.
    """
    by_label = _groups_by_label(rows)
    order = random.Random(seed)
    dealt = [0] * len(rows)
    sizes = [0] * folds
    for label in sorted(by_label):
        members_of = by_label[label]
        order.shuffle(members_of)
        of_label = [0] * folds
        for members in members_of:
            fold = min(range(folds), key=list(zip(of_label, sizes, strict=True)).__getitem__)
            of_label[fold] += len(members)
            sizes[fold] += len(members)
            for i in members:
                dealt[i] = fold
    return dealt


def _groups_by_label(rows: Rows) -> dict[str, list[list[int]]]:
    """Indices of the rows, those with equal texts together, by the label of each group's first row."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, text in enumerate(rows.texts):
        groups[key_of(text)].append(i)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        by_label[rows.labels[members[0]]].append(members)
    return by_label
