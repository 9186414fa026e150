"""Labelled rows: from a table to training, validation and held-out rows, the same way for inspection and for the run."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from engine.tables.read import read_table
from engine.tables.table import Table
from engine.text import one_line
from recommender import hyper
from recommender.errors import InputError
from recommender.facts import DataFacts
from recommender.plan import DataChoice


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their labels; `numbers` are row numbers in the file, counted from 1."""

    texts: list[str]
    labels: list[str]
    numbers: list[int]
    dropped: int = 0
    """Rows without a text or without a label."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        return Rows([self.texts[i] for i in indices], [self.labels[i] for i in indices], [self.numbers[i] for i in indices])


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a run by use, and what was left out on the way."""

    train: Rows
    validation: Rows
    held_out: Rows
    labels: list[str]
    counts: dict[str, int] = field(default_factory=dict)
    """rows, empty, duplicates, overlap: how many rows each step found."""


def labelled(table: Table, text_column: str, label_column: str) -> Rows:
    """The table's rows that have both a text and a label.

    Raises:
        InputError: no such column, or a value that is neither text nor number.
    """
    for name in (text_column, label_column):
        if name not in table.columns:
            known = ", ".join(one_line(c, 40) for c in list(table.columns)[:8])
            raise InputError(f"{table.path}: has no column {one_line(name, 60)}; its columns are {known}.")
    texts = _texts(table, text_column)
    labels = [label.strip() for label in _texts(table, label_column)]
    kept = [i for i, (text, label) in enumerate(zip(texts, labels, strict=True)) if label and text and not text.isspace()]
    numbers = [table.number(i) for i in kept]
    if len(kept) == len(texts):
        return Rows(texts, labels, numbers)
    return Rows([texts[i] for i in kept], [labels[i] for i in kept], numbers, len(texts) - len(kept))


def _texts(table: Table, name: str) -> list[str]:
    values = table.columns[name]
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


def key_of(text: str) -> str:
    """What makes two texts the same: case and white space do not count."""
    return " ".join(text.casefold().split())


def unique(rows: Rows) -> Rows:
    """Each text once with each of its labels, first occurrence first."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for i, (text, label) in enumerate(zip(rows.texts, rows.labels, strict=True)):
        mark = (key_of(text), label)
        if mark not in seen:
            seen.add(mark)
            kept.append(i)
    return rows if len(kept) == len(rows) else rows.take(kept)


def sort_labels(labels: set[str]) -> list[str]:
    """Label names in a stable order: numbers by value, else alphabetically."""
    if all(_is_integer(label) for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def load(choice: DataChoice) -> tuple[Rows, Rows | None]:
    """Training rows and held-out rows (`None` without a file of their own), sampled, not yet split.

    Raises:
        InputError: unusable file or columns.
    """
    if choice.text_column is None or choice.label_column is None:
        raise InputError("the plan names no text_column and label_column.")
    every = labelled(read_table(choice.train), choice.text_column, choice.label_column)
    train = sample(every, choice.train_rows, choice.split_seed)
    if choice.eval is None:
        return train, None
    held_out = labelled(read_table(choice.eval), choice.text_column, choice.label_column)
    return train, sample(held_out, choice.eval_rows, choice.split_seed)


def split(choice: DataChoice) -> Split:
    """The rows of a run: repeats removed, then split by text so that no text stands on two sides.

    Raises:
        InputError: nothing to learn, or labels that do not match the plan.
    """
    rows, held_out = load(choice)
    counts = {"rows": len(rows), "empty": rows.dropped}
    once = unique(rows)
    counts["duplicates"] = len(rows) - len(once)
    counts["overlap"] = 0
    if held_out is not None:
        shown = {key_of(t) for t in held_out.texts}
        kept = [i for i, t in enumerate(once.texts) if key_of(t) not in shown]
        counts["overlap"] = len(once) - len(kept)
        once = once.take(kept)
    labels = choice.labels or sort_labels(set(once.labels))
    check_labels(once, labels, choice.train)
    if choice.folds is not None and choice.fold is not None:
        held_out, once = _fold_of(once, choice.folds, choice.fold, choice)
    if held_out is not None:
        check_labels(held_out, labels, choice.eval or "")
    facts = DataFacts(rows=len(once), unique_rows=len(once), eval_rows=len(held_out) if held_out is not None else None)
    defaults = hyper.split_of(facts)
    if held_out is None:
        wanted = choice.held_out_rows if choice.held_out_rows is not None else defaults.held_out
        held_out, once = _carved(once, "held_out_rows", wanted, choice.split_seed, choice.train)
    wanted = choice.validation_rows if choice.validation_rows is not None else defaults.validation
    validation, train = _carved(once, "validation_rows", wanted, choice.split_seed + 1, choice.train)
    if len(set(train.labels)) < 2:
        raise InputError(f"{choice.train}: fewer than two labels are left for training; give more rows.")
    return Split(train, validation, held_out, labels, counts)


def _fold_of(rows: Rows, folds: int, fold: int, choice: DataChoice) -> tuple[Rows, Rows]:
    """The rows of that fold, and all others.

    Raises:
        InputError: there are too few rows for so many folds.
    """
    dealt = deal(rows, folds, choice.split_seed)
    held_out = rows.take([i for i, n in enumerate(dealt) if n == fold])
    if not len(held_out):
        raise InputError(f"{choice.train}: {len(rows)} rows are too few for {folds} folds; take fewer folds.")
    return held_out, rows.take([i for i, n in enumerate(dealt) if n != fold])


def _carved(rows: Rows, name: str, wanted: int, seed: int, file: str) -> tuple[Rows, Rows]:
    """`carve`, unless that would take more than half of the rows.

    Raises:
        InputError: it would.
    """
    if wanted > len(rows) / 2:
        raise InputError(f"{name} is {wanted}, more than half of the {len(rows)} rows of {file}; take fewer, or give more rows.")
    return carve(rows, wanted, seed)


def check_labels(rows: Rows, labels: list[str], name: str) -> None:
    """Every label of `rows` is one of `labels`.

    Raises:
        InputError: listing those that are not.
    """
    strange = Counter(label for label in rows.labels if label not in set(labels))
    if strange:
        listed = ", ".join(f"{one_line(label, 40)} ({n} rows)" for label, n in strange.most_common(5))
        known = ", ".join(one_line(label, 40) for label in labels[:10])
        first = next(i for i, label in enumerate(rows.labels) if label in strange)
        raise InputError(
            f"{name}: row {rows.numbers[first]}: labels that training has never seen: {listed}; the known ones are {known}."
        )


def carve(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """`count` rows taken out, stratified by label, whole groups of equal texts at a time; and the rest.

    A class keeps at least one row on the side that stays.
    """
    if count <= 0 or len(rows) < 2:
        return rows.take([]), rows
    by_label = _groups_by_label(rows)
    order = random.Random(seed)
    share = min(count / len(rows), 0.9)
    taken: list[int] = []
    for label in sorted(by_label):
        members_of = by_label[label]
        order.shuffle(members_of)
        quota = min(round(share * sum(map(len, members_of))), sum(map(len, members_of)) - 1)
        picked = 0
        for members in members_of:
            if picked + len(members) > quota:
                continue
            taken += members
            picked += len(members)
    chosen = set(taken)
    return rows.take(sorted(taken)), rows.take([i for i in range(len(rows)) if i not in chosen])


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
