"""Gates: situations in which the honest advice is not to fine-tune yet (docs/method-guide.md, section 1).

Gates give advice and may be overridden, except where there is nothing to learn or nothing that could learn it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from recommender.alike import alike
from recommender.counting import answers_behind, classes_of, distinct_rows, once, rows_of, smallest_class, trained_tokens
from recommender.facts import CLASSIFYING, DataFacts, Facts, Task, Truncation
from recommender.reasons import reason, sentence
from recommender.recommendation import METHODS, Method, Reason
from recommender.shape import Shape, positions_of, quantised_elsewhere, shape_of

PHYSICS = frozenset({"G1_one_label", "G9_cannot_write", "G10_gguf", "G11_quantised", "G12_answers_behind"})
"""Gates behind which there is nothing to learn, or no way to: no override helps."""
OF_DECODERS: tuple[Task, ...] = ("preference", "continued_pretraining")
"""Tasks that only decoders are trained for here."""
LEAST_RAW_TOKENS = 100_000
"""Below so many tokens of raw text continued pre-training only memorises (K)."""
RARE = 16
"""A class with fewer rows cannot be learned with any certainty (E15)."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate: why, and what to do instead."""

    reason: Reason
    instead: tuple[str, ...]


def closed_gates(facts: Facts, shape: Shape, fitting: Collection[Method] = METHODS) -> list[Gate]:
    """Every gate that is closed, gravest first; `fitting` are the methods that could run here."""
    data = facts.data
    gates = [*_nothing_to_learn(data), *_wrong_model(facts, shape)]
    task = data.task or "classification"
    if facts.goal.purpose == "knowledge" and task not in CLASSIFYING:
        gates.append(_gate("G7_changing_facts", {"purpose": "knowledge"}, sentence("instead_retrieval"), sources=("K", "E19")))
    if (data.conflict_share or 0) > 0.10 and task != "regression":  # of several numbers for a text the mean is learned
        gates.append(_gate("G2_contradictions", contradictions(data), sentence("instead_clean")))
    if rows_of(data) is None:
        return gates
    if task in CLASSIFYING:
        return gates + too_few_labels(data, fitting)
    return gates + _too_little_text(data)


def is_hopeless(facts: Facts) -> bool:
    """Whether a gate of `PHYSICS` is closed: nothing need be tried or counted for a run that cannot be."""
    gates = [*_nothing_to_learn(facts.data), *_wrong_model(facts, shape_of(facts.model, facts.data.task))]
    return any(gate.reason.code in PHYSICS for gate in gates)


def _gate(code: str, known: dict[str, Any], *instead: str, sources: tuple[str, ...] = ("K",), wording: str | None = None) -> Gate:
    return Gate(reason(code, known, *sources, wording=wording), instead)


def _nothing_to_learn(data: DataFacts) -> Iterator[Gate]:
    rows, classes = rows_of(data), classes_of(data)
    task = data.task or "classification"
    one = task in ("classification", "token_classification") and classes is not None and classes < 2
    if task == "multi_label" and data.label_counts is not None and rows:  # one label that some rows have can be learned
        one = all(c in (0, rows) for c in data.label_counts)
    if one:
        wording = "G1_one_label_uncounted" if rows is None else None
        counted = {"classes": classes or 0, "rows": rows or 0}
        yield _gate("G1_one_label", counted, sentence("instead_more_classes"), wording=wording)
    if rows and (data.empty_rows or 0) > rows:  # they are none of these
        empty = {"empty_rows": data.empty_rows, "rows": rows}
        yield _gate("G1_mostly_empty", empty, sentence("instead_check_columns"))
    elif rows and data.tokens_max == 0:
        yield _gate("G1_no_text", {"tokens_max": 0, "rows": rows}, sentence("instead_check_columns"))


def _wrong_model(facts: Facts, shape: Shape) -> Iterator[Gate]:
    task = facts.data.task or "classification"
    known = {"family": shape.family, "task": task}
    if shape.family != "decoder" and task in OF_DECODERS:
        yield _gate("G9_cannot_write", known, sentence("instead_decoder_only"), wording="G9_decoders_only")
    elif shape.family == "encoder" and task not in CLASSIFYING:
        yield _gate("G9_cannot_write", known, sentence("instead_decoder"))
    if facts.model.weights_format == "gguf" or (facts.model.quantization or "").lower().startswith("gguf"):
        yield _gate("G10_gguf", {"format": "gguf"}, sentence("instead_original_weights"))
    elif quantised_elsewhere(facts.model):
        yield _gate("G11_quantised", {"quantization": facts.model.quantization}, sentence("instead_original"))
    cut = unread_answers(facts)
    if cut is not None:
        share = cut.rows_untrained / (facts.data.rows or 1)
        told = {"reads": positions_of(facts.model), "share": share, "length": cut.length}
        yield _gate("G12_answers_behind", told, sentence("instead_reads_more"))


def unread_answers(facts: Facts) -> Truncation | None:
    """What is lost behind the last token that the model reads, where too many answers begin there."""
    reads = positions_of(facts.model)
    return answers_behind(facts.data, reads) if reads else None


def too_few_labels(data: DataFacts, fitting: Collection[Method] = METHODS) -> list[Gate]:
    """Gates that are closed because rows, or those of a class, are few."""
    unique, smallest = distinct_rows(data), smallest_class(data)
    if smallest is not None and smallest < RARE and rare_classes(data):
        smallest = None
    counted = {"smallest": smallest, "unique_rows": unique}
    label, probe = sentence(_which_labels(data), {"smallest": 64}), sentence("instead_probe")
    pairs = alike_classes(data)
    merge = [sentence("instead_write_alike", {"pairs": pairs})] if pairs else []
    if unique < 100 or (smallest is not None and smallest < RARE):
        code = "G4_too_few_rows" if smallest is None else "G4_too_few_examples"
        return [_gate(code, counted, *merge, label, probe, sources=("E15", "E17", "E18"))]
    if smallest is not None and smallest < 64 and unique < 1_000:
        known = ",".join([m for m in ("full", "lora") if m in fitting] or [m for m in METHODS if m in fitting])
        challenge = [sentence("instead_challenge", {"methods": known})] if known else []
        return [_gate("G5_baseline_first", counted, *merge, probe, *challenge, label, sources=("E13", "E15"))]
    return []


def _which_labels(data: DataFacts) -> str:
    """More rows of every class, or only of the rare ones where rows as such are enough; where there are classes."""
    if data.task == "regression":
        return "instead_more_numbers"
    if distinct_rows(data) < 500:
        return "instead_more_labels" if distinct_rows(data) < 100 else "instead_more_of_each"
    return "instead_more_rare_of_two" if classes_of(data) == 2 else "instead_more_rare"


def rare_classes(data: DataFacts) -> list[int]:
    """Places of those of ten or more classes that are too rare to learn, where together they hold under 2% of 1,000 rows or more;
    the rarest first.

    Then the others are worth training; in every other case a class that rare closes the gate.
    """
    every = data.label_counts or ()
    counts = [c for c in every if c]
    rare = sorted((place for place, count in enumerate(every) if 0 < count < RARE), key=every.__getitem__)
    tail = len(counts) >= 10 and sum(counts) >= 1_000 and sum(every[place] for place in rare) < 0.02 * sum(counts)
    return rare if tail else []


def alike_classes(data: DataFacts) -> str:
    """Classes that may be another one written otherwise, each with its rows."""
    if (data.task or "classification") not in ("classification", "multi_label"):
        return ""
    return alike(data.labels or (), data.label_counts or (), RARE)


def _too_little_text(data: DataFacts) -> list[Gate]:
    unique = distinct_rows(data)
    if data.task == "continued_pretraining":
        tokens = trained_tokens(data)
        if tokens >= LEAST_RAW_TOKENS:
            return []
        return [_gate("G6_too_little_raw_text", {"trained_tokens": tokens}, sentence("instead_in_prompt"))]
    if unique < 50:
        return [_gate("G6_too_few_generation", {"unique_rows": unique}, sentence("instead_prompt"), sources=("E19",))]
    return []


def contradictions(data: DataFacts) -> dict[str, Any]:
    """Whatever is predicted, of a text that a run has once with each of its labels one row can be right: of all rows as many as
    there are texts; of the contradicting ones, where nobody counted so, half at best."""
    share, texts, rows = data.conflict_share or 0.0, data.unique_rows, once(data)
    counted = texts is not None and data.duplicate_share is not None and texts < rows
    return {"share": share, "cap": (texts or 0) / rows if counted else 1 - share / 2}
