"""Gates: situations in which the honest advice is not to fine-tune yet (evidence.md, 2.1), and cautions about the data.

Gates give advice and may be overridden, except where there is nothing to learn.
"""

import math
from dataclasses import dataclass

from recommender.facts import CLASSIFYING, Facts
from recommender.hyper import counted_rows, split_of
from recommender.reasons import caution, reason, sentence
from recommender.recommendation import Caution, Reason


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate: why, and what to do instead."""

    reason: Reason
    instead: tuple[str, ...]
    physics: bool = False
    """There is nothing to learn; no override helps."""


def closed_gates(facts: Facts) -> list[Gate]:
    """Every gate that is closed, gravest first."""
    data, goal = facts.data, facts.goal
    task = data.task or "classification"
    unique = counted_rows(data)
    gates: list[Gate] = []
    if task in ("classification", "multi_label") and data.classes is not None and data.classes < 2:
        gates.append(
            Gate(reason("G1_one_label", {"classes": data.classes}, "K"), (sentence("instead_more_classes"),), physics=True)
        )
    if goal.purpose == "knowledge":
        gates.append(Gate(reason("G7_changing_facts", {}, "K", "E19"), (sentence("instead_retrieval"),)))
    if (data.conflict_share or 0) > 0.10:
        gates.append(Gate(reason("G2_contradictions", _contradictions(data.conflict_share or 0), "K"), (sentence("instead_clean"),)))
    if task in CLASSIFYING:
        gates += _too_few_labels(facts, unique)
    elif unique < 50 and data.rows is not None:
        gates.append(
            Gate(reason("G6_too_few_generation", {"unique_rows": unique}, "E19"), (sentence("instead_prompt"),))
        )
    return gates


def _too_few_labels(facts: Facts, unique: int) -> list[Gate]:
    data = facts.data
    if data.rows is None:
        return []
    smallest = min(data.label_counts) if data.label_counts else None
    counts_matter = smallest is not None and (data.task or "classification") == "classification"
    known = {"smallest": smallest if smallest is not None else unique, "unique_rows": unique}
    if unique < 100 or (counts_matter and smallest is not None and smallest < 16):
        more = (sentence("instead_more_labels", {"smallest": 64}), sentence("instead_probe"))
        return [Gate(reason("G4_too_few_examples", known, "E15", "E17", "E18"), more)]
    if counts_matter and smallest is not None and smallest < 64 and unique < 1_000:
        first = (sentence("instead_probe"), sentence("instead_more_labels", {"smallest": 64}))
        return [Gate(reason("G5_baseline_first", known, "E13", "E15"), first)]
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
    held_out = data.eval_rows if data.eval_rows is not None else split_of(data).held_out
    if held_out and held_out < 1_000 and data.rows is not None:
        points = 100 * 1.96 * math.sqrt(0.09 / held_out)
        found.append(caution("small_held_out", rows=held_out, points=round(points, 1)))
    counts = data.label_counts or ()
    if counts and (max(counts) > 0.8 * sum(counts) or max(counts) > 10 * max(min(counts), 1)):
        found.append(caution("imbalanced", share=max(counts) / sum(counts)))
    cut = next((c for c in data.truncation if c.length == max_length), None)
    if cut is not None and cut.rows_cut and data.rows:
        found.append(caution("truncated", share=cut.rows_cut / data.rows, length=max_length))
    return found
