"""Facts about a file of rows, gathered without torch: task, columns, labels, repeats, overlap, tokens."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.inspection import cache, tokens
from engine.inspection.belonging import seen_held_out
from engine.inspection.classes import check_classes, check_tags, usual_labels
from engine.inspection.columns import LOOK_AT
from engine.inspection.counting import Counted, count, counted_rows, look, look_alike
from engine.inspection.data_facts import facts_of
from engine.inspection.later import shaped_and_counted
from engine.inspection.layouts import GROUP, Shape
from engine.inspection.record import Record
from engine.inspection.records import stream
from engine.inspection.splits import Splits, resolve
from engine.inspection.suspicious import suspicions
from engine.rows import sort_labels
from engine.splitting import put_aside
from engine.tables.files import files_of, fingerprint, told_plainly
from engine.tables.read import first_rows, open_source
from engine.tables.source import Source, Told, nobody
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import CLASSIFYING, DataFacts

PREVIEW_ROWS = 20
HEAD_BYTES = 64 << 20
"""Of the rows that are looked at first: of whole books some thousand, not a gigabyte."""
LEAST_GROUPS = 3
COMPARING = "texts to compare"
"""The unit of progress while near-duplicates are looked for."""

Progress = Callable[[int, int, str], None]
"""Is told what was done, of how much, and in which unit (bytes, rows)."""


def inspect_data(request: dict[str, Any], progress: Progress = lambda done, total, unit: None) -> dict[str, Any]:
    """Facts and a preview of a file of rows and its held-out file.

    `request`: train, eval, splits (files by split, of a hub data set), task, columns (by role), train_rows, eval_rows,
    split_seed, drop_conflicts, model (folder with a tokenizer).

    Raises:
        InputError: anything that would make a run fail or be wasted.
    """
    for flag, wanted in (("--train-rows", request.get("train_rows")), ("--eval-rows", request.get("eval_rows"))):
        if wanted is not None and wanted < 2:
            raise InputError(f"{flag} is {wanted}; at least 2 rows are needed.")
    given = resolve(request["train"], request.get("eval"), request.get("splits"))
    with told_plainly(Path(given.train)):
        states = _states(given)
        prints = [fingerprint(name) for name in (given.train, *given.eval)]
        key = cache.key_for(_what_decides(request, given, prints))
        answer = cache.remembered(key)
        if answer is None:
            answer = _found(request, given, progress)
            if _states(given) != states:
                raise InputError(f"{given.train}: changed while it was read; wait until it is complete, and try again.")
            cache.remember(key, answer)
        shape, numbers = Shape(**answer.pop("shape")), answer.pop("preview_rows")
        used = answer.pop("eval_used")
        return {
            **answer,
            "preview": _preview(open_source(given.train), shape, numbers),
            "path": given.path(given.train),
            "eval_path": given.path(given.eval[used]) if used is not None else None,
            "fingerprint": prints[0],
            "eval_fingerprint": prints[1 + used] if used is not None else None,
            "label_separator": shape.separator,
            "splits": {name: given.path(file) for name, file in given.splits.items()},
        }


def _states(given: Splits) -> list[tuple[int, int]]:
    return [(s.st_mtime_ns, s.st_size) for name in (given.train, *given.eval) for s in (p.stat() for p in files_of(name))]


def _what_decides(request: dict[str, Any], given: Splits, prints: list[str]) -> dict[str, Any]:
    names = ("task", "columns", "train_rows", "eval_rows", "split_seed", "drop_conflicts")
    suffixes = [Path(name).suffixes[-2:] for name in (given.train, *given.eval)]
    tokenizer = tokens.tokenizer_fingerprint(request.get("model"))
    options = {n: request.get(n) for n in names}
    apart = tokens.reads_apart(request.get("model"))
    return {"files": prints, "suffixes": suffixes, "tokenizer": tokenizer, "apart": apart, "offered": given.offered, **options}


def _found(request: dict[str, Any], given: Splits, progress: Progress) -> dict[str, Any]:
    source = open_source(given.train)
    progress(0, source.size, source.unit)  # that they are read, and not remembered
    head = first_rows(source, LOOK_AT, size=HEAD_BYTES)
    if not head.rows:
        raise InputError(f"{given.train} has a header and no rows.")
    named = request.get("columns") or {}
    counter = tokens.Counter(request.get("model"))
    seed = int(request.get("split_seed") or 0)

    def told(done: int) -> None:
        progress(min(done, source.size), source.size, source.unit)

    head, shape, counted = shaped_and_counted(source, head, named, request.get("task"), told)
    _refuse_empty(given.train, counted, shape)
    respelled = 0
    if shape.task in ("classification", "multi_label") and "label" in shape.columns:
        usual = usual_labels(counted.marks)
        respelled = counted.marks.total() - sum(counted.marks[label] for label in usual)
        shape = replace(shape, labels=usual)  # held-out rows may write them otherwise, too
        counted = count(source, shape, told) if respelled else counted
    _check_groups(given.train, counted, shape)
    _check_marks(source, counted, shape)
    known = set(counted.marks)
    held_out: Counted | None = None
    used: int | None = None
    if request.get("eval_rows") and not given.eval:
        counted, held_out = _put_aside(source, shape, counted, request, told)
    else:
        counted = _sampled(source, shape, counted, request.get("train_rows"), seed=seed, told=told)
    if request.get("drop_conflicts") and shape.task in CLASSIFYING and counted.contradicting():
        dropped = counted.dropped
        counted = count(source, shape, told, only=counted.agreeing())
        counted.dropped = dropped
        if not len(counted):
            raise InputError(f"{given.train}: every text appears with several labels; without those rows nothing is left.")
    # A sample of the rows may lack labels of which a row has several; the file has shown them all the same.
    kinds = set(counted.marks) if shape.task == "classification" else known
    labels = sort_labels(kinds) if shape.task in ("classification", "multi_label", "token_classification") else []
    _refuse_all_alike(given.train, shape, labels, counted, named="label" in named)
    if given.eval:
        held_out, used = _held_out(given, shape, labels, request.get("eval_rows"), seed)
    total = counted_rows(counted)
    looked = look(source, shape, counted, counter, lambda done: progress(done, total, "rows"))
    progress(len(looked.texts), len(looked.texts), COMPARING)  # of many that takes seconds
    shown = source if used is None else open_source(given.eval[used])
    compared = look_alike(shown, shape, counted, held_out) if held_out is not None else ([], 0)
    odd = suspicions(head, shape, looked, named)
    if used is not None:
        odd = list(filter(None, (seen_held_out(one, head, shown) for one in odd)))
    facts = facts_of(shape, counted, held_out, looked, counter, compared=compared)
    facts |= {
        "labels": labels or None,
        "label_counts": [counted.marks[m] for m in labels] or None,
        "classes": len(labels) or None,
        "respelled_labels": respelled or None,
        "suspicious_columns": odd,
        "format": source.format,
        "encoding": source.encoding,
        "separator": source.separator,
        "header": source.header,
    }
    return {
        "facts": DataFacts.model_validate(facts).model_dump(mode="json"),
        "columns": list(head.columns),
        "confidence": shape.confidence,
        "preview_rows": counted.numbers[:PREVIEW_ROWS].tolist(),
        "shape": {n: getattr(shape, n) for n in ("task", "layout", "columns", "confidence", "separator", "labels")},
        "eval_used": used,
    }


def _refuse_empty(name: str, counted: Counted, shape: Shape) -> None:
    every = len(counted) + counted.dropped
    if len(counted) < every / 2 or not len(counted):
        lacking = dict.fromkeys(("classification", "multi_label"), "no text or no label")
        lacking |= {"regression": "no text or no number", "chat": "no question or no answer", "text": "no text"}
        what = lacking.get(shape.task) or lacking.get(shape.layout) or "nothing to read or nothing to learn"
        raise InputError(f"{name}: {counted.dropped} of {every} rows have {what}.")


def _check_marks(source: Source, counted: Counted, shape: Shape) -> None:
    marks, first = counted.marks, counted.rows_of_mark
    if shape.task in ("classification", "multi_label") and "label" in shape.columns:
        single = shape.task == "classification"
        check_classes(source.where, shape.columns["label"], marks, first, numeric=counted.numeric, single=single)
    if shape.task == "token_classification":
        check_tags(source.where, shape.columns["tags"], marks, first)


def _check_groups(name: str, counted: Counted, shape: Shape) -> None:
    if counted.named is None:
        return
    column, groups = one_line(shape.columns[GROUP], 60), len(np.unique(counted.named))
    another = "name another one with --column group=…."
    if groups == len(counted):
        raise InputError(f"{name}: no two rows share a value of column {column}, so there are no groups to keep whole; {another}")
    if groups < LEAST_GROUPS:
        held = f"{groups} value{'s'[groups == 1 :]}"
        wanted = f"at least {LEAST_GROUPS} groups are needed, for training, validation and held-out rows"
        raise InputError(f"{name}: column {column} holds {held} only; {wanted}; {another}")


def _refuse_all_alike(name: str, shape: Shape, labels: list[str], counted: Counted, *, named: bool) -> None:
    """Raises InputError where all rows, or words, have the same label; `named` tells whether somebody named its column."""
    if shape.task == "classification" and len(labels) < 2:
        label = one_line(labels[0], 60) if labels else ""
        said = f"{name}: every row has the label {label}"
        if named:
            raise InputError(f"{said}, so there is nothing to learn; add rows of another class.")
        column = one_line(shape.columns["label"], 60)
        raise InputError(
            f"{said} in column {column}; name another one with --label-column, add rows of another class, or say with --task what"
            " else is to be learned."
        )
    if shape.task in ("multi_label", "token_classification") and not labels:
        raise InputError(f"{name}: no row has any label, so there is nothing to learn.")
    if shape.task == "token_classification" and len(labels) < 2:
        raise InputError(f"{name}: all words have the same tag, so there is nothing to learn.")
    if shape.task == "multi_label" and all(counted.marks[label] == len(counted) for label in labels):
        all_of_them = ", ".join(one_line(label, 40) for label in labels[:5])
        raise InputError(f"{name}: every row has the same labels ({all_of_them}), so there is nothing to learn.")


def _sampled(source: Source, shape: Shape, every: Counted, wanted: int | None, *, seed: int, told: Told) -> Counted:
    """A seeded sample of the usable rows, drawn as `engine.splitting.sample` draws it; all when there are no more."""
    if wanted is None or wanted >= len(every):
        return every
    chosen = every.numbers[random.Random(seed).sample(range(len(every)), wanted)]
    counted = count(source, shape, told, only=set(chosen.tolist()))
    counted.dropped = 0
    return counted


def _put_aside(
    source: Source, shape: Shape, every: Counted, request: dict[str, Any], told: Told
) -> tuple[Counted, Counted]:
    """Rows to train on and rows to hold out, of one file, as `engine.loading.load` takes them."""
    groups = None if every.belongings is None else every.belongings.tolist()
    labels = every.targets.tolist() if shape.task == "classification" else None
    seed = int(request.get("split_seed") or 0)
    train, held_out = put_aside(
        len(every), request["eval_rows"], request.get("train_rows"), seed, labels=labels, groups=groups,
        named=None if every.named is None else every.named.tolist(),
    )  # fmt: skip
    known, aside = (count(source, shape, told, only=set(every.numbers[places].tolist())) for places in (train, held_out))
    known.dropped = every.dropped if request.get("train_rows") is None else 0
    return known, aside


def _held_out(
    given: Splits, shape: Shape, labels: list[str], wanted: int | None, seed: int
) -> tuple[Counted | None, int | None]:
    """The held-out rows, and which of `given.eval` they are from."""
    for place, name in enumerate(given.eval):
        try:
            source = open_source(name)
            every = count(source, shape)
            if not len(every):
                if not every.dropped:
                    raise InputError(f"{name} has a header and no rows.")
                raise InputError(f"{name}: no row has both a text and a label.")
            _check_labels(source, every, labels)
        except InputError:
            if given.offered:  # a split that nobody asked for, and whose labels are kept secret or differ
                continue
            raise
        return _sampled(source, shape, every, wanted, seed=seed, told=nobody), place
    return None, None


def _check_labels(source: Source, held_out: Counted, labels: list[str]) -> None:
    wanted = set(labels)
    strange = Counter({m: n for m, n in held_out.marks.items() if m not in wanted})
    if strange and labels:
        listed = ", ".join(f"{one_line(label, 40)} ({n} row{'s'[n == 1 :]})" for label, n in strange.most_common(5))
        known = ", ".join(one_line(label, 40) for label in labels[:10])
        first = min(held_out.rows_of_mark[m] for m in strange)
        raise InputError(f"{source.where(first)}: labels that training has never seen: {listed}; the known ones are {known}.")


def _preview(source: Source, shape: Shape, numbers: list[int]) -> list[list[str]]:
    """(read, said) of the first rows, cleaned, a line each."""
    shown: list[Record] = []
    for batch in stream(source, shape, only=set(numbers)):
        shown += batch.rows
        if len(shown) >= len(numbers):
            break
    longest = 60 if shape.task in CLASSIFYING else 300
    return [[one_line(row.text or row.target, 300), one_line(row.target, longest)] for row in shown]
