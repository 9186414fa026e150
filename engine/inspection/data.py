"""Facts about a labelled file, gathered without torch: columns, labels, repeats, overlap, tokens."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from engine.files import sha256_of
from engine.inspection.columns import choose
from engine.inspection.tokens import token_lengths
from engine.rows import Rows, check_labels, key_of, labelled, sample, sort_labels, unique
from engine.tables.read import read_table
from engine.text import one_line
from recommender import hyper
from recommender.errors import InputError
from recommender.facts import DataFacts, Truncation

PREVIEW_ROWS = 20
LENGTHS = (64, 128, 256, 384, 512, 1024, 2048, 4096, 8192)


def inspect_data(request: dict[str, Any]) -> dict[str, Any]:
    """Facts and a preview of a labelled file and its held-out file.

    `request`: train, eval, text_column, label_column, train_rows, eval_rows, split_seed, model (folder with a tokenizer).

    Raises:
        InputError: anything that would make the run fail or be wasted.
    """
    for flag, count in (("--train-rows", request.get("train_rows")), ("--eval-rows", request.get("eval_rows"))):
        if count is not None and count < 2:
            raise InputError(f"{flag} is {count}; at least 2 rows are needed.")
    table = read_table(request["train"])
    if not table.rows:
        raise InputError(f"{request['train']} has a header and no rows.")
    columns = choose(table, request.get("text_column"), request.get("label_column"))
    every = labelled(table, columns.text, columns.label)
    if len(every) < table.rows / 2:
        raise InputError(f"{request['train']}: {table.rows - len(every)} of {table.rows} rows have no text or no label.")
    seed = int(request.get("split_seed") or 0)
    rows = sample(every, request.get("train_rows"), seed)
    labels = sort_labels(set(rows.labels))
    if len(labels) < 2:
        label = one_line(labels[0], 60) if labels else ""
        raise InputError(
            f"{request['train']}: every row has the label {label}, so there is nothing to learn; add rows of another class."
        )
    held_out = _held_out(request, columns.text, columns.label, labels, seed)
    counted = _facts(rows, held_out, labels, request.get("model"))
    named = {"text_column": columns.text, "label_column": columns.label, "format": table.format}
    facts = counted.model_copy(update=named)
    preview = [[one_line(t, 300), one_line(x, 60)] for t, x in zip(rows.texts[:PREVIEW_ROWS], rows.labels, strict=False)]
    return {
        "facts": facts.model_dump(mode="json"),
        "preview": preview,
        "columns": list(table.columns),
        "confidence": columns.confidence,
        "path": str(Path(request["train"]).expanduser().resolve()),
        "eval_path": str(Path(request["eval"]).expanduser().resolve()) if request.get("eval") else None,
        "fingerprint": sha256_of(Path(request["train"]).expanduser()),
        "eval_fingerprint": sha256_of(Path(request["eval"]).expanduser()) if request.get("eval") else None,
    }


def _held_out(request: dict[str, Any], text: str, label: str, labels: list[str], seed: int) -> Rows | None:
    name = request.get("eval")
    if not name:
        return None
    table = read_table(name)
    if not table.rows:
        raise InputError(f"{name} has a header and no rows.")
    rows = labelled(table, text, label)
    if not len(rows):
        raise InputError(f"{name}: no row has both a text and a label.")
    check_labels(rows, labels, name)
    return sample(rows, request.get("eval_rows"), seed)


def _facts(rows: Rows, held_out: Rows | None, labels: list[str], model: str | None) -> DataFacts:
    counts = Counter(rows.labels)
    labels_of: dict[str, set[str]] = defaultdict(set)
    for value, mark in zip(rows.texts, rows.labels, strict=True):
        labels_of[key_of(value)].add(mark)
    contradicting = sum(len(labels_of[key_of(value)]) > 1 for value in rows.texts)
    once = unique(rows)
    overlap = sum(key_of(value) in labels_of for value in held_out.texts) / len(held_out) if held_out else 0.0
    lengths, origin = token_lengths(once.texts, model)
    ordered = sorted(lengths)
    facts = DataFacts(
        task="classification",
        rows=len(rows),
        unique_rows=len(labels_of),
        eval_rows=len(held_out) if held_out is not None else None,
        tokens_p50=percentile(ordered, 0.50),
        tokens_p95=percentile(ordered, 0.95),
        tokens_p99=percentile(ordered, 0.99),
        tokens_max=ordered[-1],
        tokens_total=round(sum(ordered) * len(rows) / len(ordered)),
        tokens_origin=origin,
        classes=len(labels),
        label_counts=tuple(counts[mark] for mark in labels),
        labels=tuple(labels),
        duplicate_share=(len(rows) - len(once)) / len(rows),
        conflict_share=contradicting / len(rows),
        overlap_share=overlap,
        empty_rows=rows.dropped,
    )
    wanted = {hyper.LENGTH_STEP * -(-n // hyper.LENGTH_STEP) for n in (facts.tokens_p95, facts.tokens_p99, facts.tokens_max) if n}
    scale = len(rows) / len(ordered)
    cuts = tuple(
        Truncation(
            length=length,
            rows_cut=round(scale * sum(n > length for n in ordered)),
            tokens_kept=round(scale * sum(min(n, length) for n in ordered)),
        )
        for length in sorted({*LENGTHS, *wanted})
    )
    return facts.model_copy(update={"truncation": cuts})


def percentile(ordered: list[int], share: float) -> int:
    """The smallest value that at least `share` of the sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1))]
