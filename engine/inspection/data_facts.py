"""The facts of rows that were counted and looked at: lengths, repeats, what is lost, language."""

from typing import Any, Literal

import numpy as np

from engine.inspection import tokens
from engine.inspection.counting import Counted, Looked
from engine.inspection.duplicates import Alike
from engine.inspection.language import language_of
from engine.inspection.layouts import Shape
from recommender import hyper
from recommender.facts import CLASSIFYING, Truncation
from recommender.largest import LISTED

LENGTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
READ_FROM = ("text", "tokens", "messages", "prompt", "instruction", "source", "chosen")
LEARNED_FROM = ("label", "tags", "completion", "output", "target")
"""Roles of the columns that are named the text and the label in the facts, first come first."""


LEAST_COMPARED = 50
"""Held-out rows of a sample, below which no share of them is told."""


def facts_of(
    shape: Shape,
    counted: Counted,
    held_out: Counted | None,
    looked: Looked,
    counter: tokens.Counter,
    *,
    compared: tuple[list[str], int] = ([], 0),
) -> dict[str, Any]:
    """Fields of `DataFacts` by name; those of the labels and of the file are left to whoever knows them.

    `compared` is what `look_alike` finds of the held-out rows.
    """
    rows, ordered = len(counted), looked.lengths
    labelled = shape.task in CLASSIFYING
    unwritten = bool(counted.calling) and counter.writes_calls is False
    template = counter.thoughts if shape.task in ("chat", "instruction") else None
    different = len(counted.first_of_key)
    known = Alike(looked.texts)
    similar = known.repeated / max(len(looked.texts), 1)
    new, rows_compared = compared
    told = held_out is not None and rows_compared >= min(LEAST_COMPARED, len(held_out))
    near_overlap = sum(map(known.holds, new)) / rows_compared if told else None
    scale = rows / len(ordered)
    p50, p95, p99 = map(int, np.quantile(ordered, (0.50, 0.95, 0.99), method="inverted_cdf"))  # lengths that occur
    longest = max(looked.longest, int(ordered[-1]))
    wanted = {hyper.LENGTH_STEP * -(-n // hyper.LENGTH_STEP) for n in (p95, p99, longest) if n}
    roles = shape.columns
    return {
        "task": shape.task,
        "layout": shape.layout,
        "columns": roles,
        "confidence": shape.confidence,
        "text_column": next(roles[r] for r in READ_FROM if r in roles),
        "label_column": next((roles[r] for r in LEARNED_FROM if r in roles), None),
        "rows": rows,
        "unique_rows": different,
        "eval_rows": len(held_out) if held_out is not None else None,
        "tokens_p50": p50,
        "tokens_p95": p95,
        "tokens_p99": p99,
        "tokens_max": longest,
        "longest_rows": () if looked.sampled or not counter.own else tuple(map(int, ordered[::-1][:LISTED])),
        "tokens_total": round(int(ordered.sum()) * scale),
        "trained_tokens": None if labelled else round(looked.trained * scale),
        "read_tokens": round(looked.read * scale) or None,
        "read_tokens_max": looked.longest_read or None,
        "written_tokens_max": looked.longest_written or None,
        "tokens_origin": _origin(shape, looked, counter),
        "truncation": [
            Truncation(
                length=length,
                rows_cut=round(scale * int((ordered > length).sum())),
                tokens_kept=round(scale * int(ordered.clip(max=length).sum())),
                rows_untrained=round(scale * int((looked.before >= length).sum())),
            )
            for length in sorted({*LENGTHS, *wanted})
        ],
        "duplicate_share": (rows - len(counted.first_of_pair)) / rows,
        "near_duplicate_share": similar * different / rows,
        "shared_share": counted.together() / rows if counted.belongings is not None else None,
        "groups": None if counted.named is None else len(np.unique(counted.named)),
        "ungrouped_rows": counted.ungrouped + (held_out.ungrouped if held_out is not None else 0) or None,
        "group_overlap_share": _known_groups(counted, held_out),
        "conflict_share": counted.contradicting() / rows if labelled else None,
        "overlap_share": held_out.shown_in(counted) / len(held_out) if held_out is not None else 0.0,
        "near_overlap_share": near_overlap,
        "empty_rows": counted.dropped,
        "unknown_share": counter.unknown_share,
        "unasked_rows": counted.unasked if shape.task == "chat" else None,
        "unlearned_answers": counted.unlearned or None,
        "unwritten_calls": counted.calling if unwritten else None,
        "unwritten_rows": counted.only_calling if unwritten else None,
        "unwritten_thoughts": None if template is None or template.learned else counted.thinking or None,
        "spoken_thoughts": None if template is None or template.known else counted.thinking_aloud or None,
        "thoughtless_rows": counted.thoughtless or None if template is not None and template.wanted else None,
        "language": language_of(looked.texts),
    }


def _known_groups(counted: Counted, held_out: Counted | None) -> float | None:
    if held_out is None or counted.named is None or held_out.named is None:
        return None
    return float(np.isin(held_out.named, counted.named).mean())


def _origin(shape: Shape, looked: Looked, counter: tokens.Counter) -> Literal["measured", "estimated", "assumed"]:
    if not counter.own:
        return "assumed"
    # What a chat template adds is counted of one exchange, not of every row.
    return "estimated" if looked.sampled or shape.task in ("chat", "preference") else "measured"
