"""From a plan's files to the rows of a run: read, sampled, repeats removed, split. The same for inspection and for the run."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from engine.inspection.layouts import ROLES, Shape
from engine.inspection.records import stream
from engine.rows import Rows, Split, agreeing, check_labels, shared_texts, sort_labels, twin_of, unique
from engine.splitting import carve, deal, parted, put_aside, sample, smallest_groups
from engine.tables.files import told_plainly
from engine.tables.read import open_source
from engine.text import one_line
from recommender.counting import split_of
from recommender.errors import InputError
from recommender.facts import CLASSIFYING, DataFacts, Task
from recommender.plan import DataChoice

TOLD_BY_TEXT = CLASSIFYING | {"preference"}
"""Tasks whose rows are told apart by what is read alone."""


def load(choice: DataChoice, task: Task = "classification") -> tuple[Rows, Rows | None]:
    """Training rows and held-out rows (`None` where they are still to be carved from those), sampled, not yet split.

    Raises:
        InputError: unusable file or columns.
    """
    every = _read(choice, task, choice.train)
    if choice.eval is None and choice.eval_rows is not None and choice.held_out_rows is None:
        labels = every.labels if task == "classification" else None
        groups = None if every.groups is None else every.own_keys()
        learned, aside = put_aside(
            len(every), choice.eval_rows, choice.train_rows, choice.split_seed, labels=labels, groups=groups, named=every.named
        )
        # Of a sample nothing was dropped, as `sample` has it.
        return replace(every.take(learned), dropped=every.dropped if choice.train_rows is None else 0), every.take(aside)
    train = sample(every, choice.train_rows, choice.split_seed)
    if choice.eval is None:
        return train, None
    return train, sample(_read(choice, task, choice.eval), choice.eval_rows, choice.split_seed)


def _read(choice: DataChoice, task: Task, name: str) -> Rows:
    """The rows of that file, of which inspection has read the same.

    Raises:
        InputError: unusable file or columns.
    """
    shape, source = shape_of(choice, task, name), open_source(name)
    texts: list[str] = []
    labels: list[str] = []
    numbers: list[int] = []
    marks: list[tuple[str, ...]] = []
    items: list[Any] = []
    parts: list[tuple[str, ...]] = []
    asked: list[str] = []
    named: list[Hashable] = []
    dropped = 0
    with told_plainly(source.path):
        for batch in stream(source, shape):
            dropped += batch.dropped
            numbers += batch.numbers
            named += batch.named or ()
            texts += [row.text if task in TOLD_BY_TEXT else row.whole for row in batch.rows]
            if task == "classification":
                labels += [row.target for row in batch.rows]
            else:
                marks += [row.marks for row in batch.rows]
                items += [row.item for row in batch.rows]
                asked += [row.asked for row in batch.rows if row.asked is not None]
            if "text_pair" in shape.columns:
                parts += [row.parts for row in batch.rows]
    return Rows(
        texts,
        labels or _rarest(marks),
        numbers,
        dropped,
        items=None if task == "classification" else items,
        source=source.path.name,
        parts=parts or None,
        groups=shared_texts(parts) if parts else asked or None,
        named=named or None,
        place=source.place,
    )


def _rarest(marks: Sequence[tuple[str, ...]]) -> list[str]:
    """The rarest mark of each row: splits stratified by it leave some of every mark for training."""
    counts = Counter(mark for row in marks for mark in row)
    return [min(row, key=lambda m: (counts[m], m), default="") for row in marks]


def shape_of(choice: DataChoice, task: Task, name: str) -> Shape:
    """How the rows of that file are to be read.

    Raises:
        InputError: the plan does not say.
    """
    columns, layout = dict(choice.columns or {}), choice.layout
    if task == "classification":
        layout = "text_label"
        if "text_pair" not in columns:
            if choice.text_column is None or choice.label_column is None:
                raise InputError("the plan names no text_column and label_column.")
            columns |= {"text": choice.text_column, "label": choice.label_column}
    elif layout in (None, "text_label") or choice.columns is None:
        raise InputError(f"the plan does not say how the rows of {name} are written (data.layout, data.columns).")
    lacking = next((role for role in ROLES[layout] if role not in columns), None)
    if lacking is not None:
        raise InputError(f"the plan does not say which column holds the {lacking} (data.columns).")
    return Shape(task, layout, columns, 1.0, choice.separator, None if choice.labels is None else tuple(choice.labels))


def split(choice: DataChoice, task: Task = "classification") -> Split:
    """The rows of a run: repeats removed, then split so that no text, and nothing that rows are grouped by, is on two sides.

    Raises:
        InputError: nothing to learn, or labels that do not match the plan.
    """
    rows, held_out = load(choice, task)
    counts = {"rows": len(rows), "empty": rows.dropped, "eval_empty": held_out.dropped if held_out is not None else 0}
    once = _without_repeats(rows, choice, task, counts)
    talks = (rows.items or ()) if task == "chat" else ()
    counts["unasked"] = sum("unasked" in item for item in talks)
    counts["unlearned"] = sum(item.get("unlearned", 0) for item in talks)
    counts["together"] = sharing(once)
    aside = [] if held_out is None else held_out.named or []
    counts["groups"] = len({*(once.named or ()), *aside})
    if held_out is not None:
        once = _unseen(once, held_out, counts)
        if not len(once):
            raise InputError(f"{choice.train}: every row is among the held-out rows, too; name other held-out rows with --eval.")
        shown, known = set(held_out.own_keys()), set(aside)
        seen = sum(key in shown for key in once.own_keys())
        if choice.eval is not None:
            counts["seen"] = seen
            counts["groups_seen"] = sum(key in known for key in once.named or ())
            counts["groups_unknown"] = sum(not isinstance(key, str) for key in aside)
        elif counts["together"] and seen:
            counts["torn"] = 1
    marks = marks_of(once, task)
    labels = choice.labels or sort_labels({mark for row in marks or () for mark in row})
    if marks is not None:
        check_labels(once, marks, labels, planned=True)
    if choice.folds is not None and choice.fold is not None:
        held_out, once = _fold_of(once, choice.folds, choice.fold, choice, counts)
    if held_out is not None and marks is not None:
        check_labels(held_out, marks_of(held_out, task) or (), labels)
    facts = DataFacts(rows=len(once), unique_rows=len(once), eval_rows=len(held_out) if held_out is not None else None)
    usual = split_of(facts)
    if held_out is None:
        asked = choice.held_out_rows
        held_out, once = _carved(once, "held_out_rows", choice, counts, planned=asked, usual=usual.held_out)
    asked = choice.validation_rows
    validation, train = _carved(once, "validation_rows", choice, counts, planned=asked, usual=usual.validation)
    _check_learnable(train, task, choice.train)
    return Split(train, validation, held_out, labels, counts)


def marks_of(rows: Rows, task: Task) -> list[Sequence[str]] | None:
    """The labels or tags of each row; `None` for a task that has none."""
    if task == "classification":
        return [(label,) for label in rows.labels]
    if task == "multi_label":
        return rows.items
    if task == "token_classification":
        return [item["tags"] for item in rows.items or ()]
    return None


def _without_repeats(rows: Rows, choice: DataChoice, task: Task, counts: dict[str, int]) -> Rows:
    """Each row once; where the plan says so, without texts that appear with several labels."""
    once = unique(rows)
    counts["duplicates"] = len(rows) - len(once)
    if not choice.drop_conflicts or task not in CLASSIFYING:
        return once
    settled = agreeing(once)
    counts["conflicts"] = len(once) - len(settled)
    return settled


def _unseen(rows: Rows, held_out: Rows, counts: dict[str, int]) -> Rows:
    """The rows whose text is not held out too, with whatever punctuation."""
    shown = set(map(twin_of, held_out.texts))
    kept = [i for i, t in enumerate(rows.texts) if twin_of(t) not in shown]
    counts["overlap"] = len(rows) - len(kept)
    return rows.take(kept)


def _check_learnable(train: Rows, task: Task, name: str) -> None:
    """Raises InputError where the rows say the same of everything."""
    learned = {mark for row in marks_of(train, task) or () for mark in row}
    if task == "classification" and len(learned) < 2:
        raise InputError(f"{name}: fewer than two labels are left for training; give more rows.")
    if task == "regression" and len(set(train.items or ())) < 2:
        raise InputError(f"{name}: all rows have the same number, so there is nothing to learn.")
    if task in ("multi_label", "token_classification") and not learned:
        raise InputError(f"{name}: no row has any label, so there is nothing to learn.")
    if task == "token_classification" and len(learned) < 2:
        raise InputError(f"{name}: all words have the same tag, so there is nothing to learn.")


def sharing(rows: Rows) -> int:
    """How many rows share with another one what decides on which side of a split they stand, their whole text aside."""
    if rows.groups is None:
        return 0
    return sum(n for n in Counter(rows.own_keys()).values() if n > 1)


def _fold_of(rows: Rows, folds: int, fold: int, choice: DataChoice, counts: dict[str, int]) -> tuple[Rows, Rows]:
    """The rows of that fold, and all others.

    Raises:
        InputError: there are too few rows for so many folds.
    """
    dealt: list[int] = []
    for torn, keys in enumerate(rows.looser_keys()):
        if torn:
            counts["torn"] = 1
        dealt = deal(rows, folds, choice.split_seed, keys)
        if min(map(dealt.count, range(folds))) >= len(rows) / folds / 2:
            break
    held_out = rows.take([i for i, n in enumerate(dealt) if n == fold])
    if not len(held_out):
        if rows.named is not None:
            raise InputError(f"{choice.train}: {counts['groups']} groups are too few for {folds} folds; take fewer folds.")
        raise InputError(f"{choice.train}: {len(rows)} rows are too few for {folds} folds; take fewer folds.")
    return held_out, rows.take([i for i, n in enumerate(dealt) if n != fold])


def _carved(
    rows: Rows, name: str, choice: DataChoice, counts: dict[str, int], *, planned: int | None, usual: int
) -> tuple[Rows, Rows]:
    """`carve` what is `planned`, else what is `usual`; where groups are too large for that, by what is looser. Of groups that a
    person named, the smallest.

    Raises:
        InputError: that would take more than half of the rows, or each of few groups is as large.
    """
    wanted = usual if planned is None else planned
    if wanted > len(rows) / 2:
        n, file = len(rows), choice.train
        raise InputError(f"{name} is {wanted}, more than half of the {n} rows of {file}; take fewer, or give more rows.")
    seed = choice.split_seed + (name == "validation_rows")
    for torn, keys in enumerate(rows.looser_keys()):
        if torn:
            counts["torn"] = 1
        out, rest = carve(rows, wanted, seed, keys)
        if len(out) >= wanted / 2:
            return out, rest
    if rows.named is not None:
        out, rest = parted(rows, smallest_groups(rows.labels, rows.named, wanted))
        if not len(out):
            column = one_line((choice.columns or {})["group"], 60)
            raise InputError(f"{choice.train}: too few groups in column {column} to keep {name} apart; set {name}=0, or --eval.")
    return out, rest
