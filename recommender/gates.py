"""Gates: situations in which the honest advice is not to fine-tune yet (evidence.md, 2.1), and cautions about the data.

Gates give advice and may be overridden, except where there is nothing to learn.
"""

import math
from dataclasses import dataclass

from recommender.facts import CLASSIFYING, DataFacts, Facts
from recommender.hyper import counted_rows, rows_of, skewed, split_of
from recommender.reasons import caution, reason, sentence
from recommender.recommendation import Caution, Reason

PHYSICS = frozenset({"G1_one_label"})
"""Gates behind which there is nothing to learn: no override helps."""

_LABELLED = frozenset({"classification", "multi_label"})


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate: why, and what to do instead."""

    reason: Reason
    instead: tuple[str, ...]


def closed_gates(facts: Facts) -> list[Gate]:
    """Every gate that is closed, gravest first."""
    data, goal = facts.data, facts.goal
    task = data.task or "classification"
    unique = counted_rows(data)
    gates: list[Gate] = []
    classes = _classes(data)
    if task in _LABELLED and classes is not None and classes < 2:
        more = (sentence("instead_more_classes"),)
        gates.append(Gate(reason("G1_one_label", {"classes": classes, "rows": unique}, "K"), more))
    rows = rows_of(data)
    if rows and data.empty_rows and data.empty_rows > rows / 2:
        empty = {"empty_rows": data.empty_rows, "rows": rows}
        gates.append(Gate(reason("G1_mostly_empty", empty, "K"), (sentence("instead_check_columns"),)))
    if goal.purpose == "knowledge":
        gates.append(Gate(reason("G7_changing_facts", {"purpose": goal.purpose}, "K", "E19"), (sentence("instead_retrieval"),)))
    if (data.conflict_share or 0) > 0.10:
        shares = _contradictions(data.conflict_share or 0)
        gates.append(Gate(reason("G2_contradictions", shares, "K"), (sentence("instead_clean"),)))
    if rows is None:
        return gates
    if task in CLASSIFYING:
        gates += _too_few_labels(data, unique)
    elif unique < 50:
        gates.append(Gate(reason("G6_too_few_generation", {"unique_rows": unique}, "E19"), (sentence("instead_prompt"),)))
    return gates


def _classes(data: DataFacts) -> int | None:
    """Classes that really occur."""
    if data.label_counts:
        return sum(1 for count in data.label_counts if count)
    return data.classes


def _smallest_class(data: DataFacts, unique: int) -> int | None:
    """Rows of the smallest class, at most; `None` where rows have no classes, or they were not counted."""
    if (data.task or "classification") not in _LABELLED:
        return None
    if data.label_counts:
        return min(data.label_counts)
    return unique // data.classes if data.classes else None


def _too_few_labels(data: DataFacts, unique: int) -> list[Gate]:
    smallest = _smallest_class(data, unique)
    counted = {"smallest": smallest, "unique_rows": unique}
    label, probe = sentence("instead_more_labels", {"smallest": 64}), sentence("instead_probe")
    if unique < 100 or (smallest is not None and smallest < 16):
        code = "G4_too_few_rows" if smallest is None else "G4_too_few_examples"
        return [Gate(reason(code, counted, "E15", "E17", "E18"), (label, probe))]
    if smallest is not None and smallest < 64 and unique < 1_000:
        return [Gate(reason("G5_baseline_first", counted, "E13", "E15"), (probe, label))]
    return []


def _contradictions(conflict_share: float) -> dict[str, float]:
    """At best half of the contradicting rows can be right, whatever is predicted."""
    return {"share": conflict_share, "cap": 1 - conflict_share / 2}


def data_cautions(facts: Facts, max_length: int) -> list[Caution]:
    """What to know about the data although it closes no gate."""
    data = facts.data
    found: list[Caution] = []
    conflict = data.conflict_share or 0
    if 0.03 <= conflict <= 0.10:
        found.append(caution("contradictions", **_contradictions(conflict)))
    if (data.duplicate_share or 0) > 0:
        found.append(caution("duplicates", share=data.duplicate_share, unique_rows=counted_rows(data)))
    if (data.overlap_share or 0) > 0:
        found.append(caution("overlap", share=data.overlap_share))
    labelled = (data.task or "classification") in _LABELLED
    held_out = data.eval_rows if data.eval_rows is not None else split_of(data).held_out
    if labelled and 0 < held_out < 1_000 and rows_of(data) is not None:
        points = 100 * 1.96 * math.sqrt(0.09 / held_out)
        found.append(caution("small_held_out", rows=held_out, points=round(points, 1)))
    counts = data.label_counts or ()
    if skewed(data):
        found.append(caution("imbalanced", share=max(counts) / sum(counts)))
    unique = counted_rows(data)
    if rows_of(data) is not None and not labelled and data.task not in CLASSIFYING and 50 <= unique < 200:
        found.append(caution("few_examples", rows=unique))
    cut = next((c for c in data.truncation if c.length == max_length), None)
    if cut is not None and cut.rows_cut and data.rows:
        found.append(caution("truncated", share=min(cut.rows_cut / data.rows, 1.0), length=max_length))
    return found
