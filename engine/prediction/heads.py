"""The head of a step: what stands on the model's body, and what the loss is of."""

from engine.inspection.families import family_of
from engine.prediction import library
from recommender.facts import Facts

HEADS = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "token_classification": "tagging",
}
_BY_ARCHITECTURE = (
    ("SequenceClassification", "classification"),
    ("TokenClassification", "tagging"),
    ("MaskedLM", "masked_lm"),
    ("CausalLM", "causal_lm"),
    ("LMHeadModel", "causal_lm"),
)


def head_of(facts: Facts) -> str:
    """The head that a step has which does not say it: that of the task, or of the model's class."""
    told = told_head(facts)
    if told is None:
        family = facts.model.family or family_of(facts.model.config or {})
        return "classification" if family == "encoder" else "causal_lm"
    return told


def told_head(facts: Facts) -> str | None:
    """What the facts say: the task, or the name of the model's class."""
    if facts.data.task is not None:
        return HEADS.get(facts.data.task, "causal_lm")
    named = [facts.model.architecture or "", *library.classes_of(facts.model.config or {})]
    return next((head for name in named for part, head in _BY_ARCHITECTURE if part in name), None)
