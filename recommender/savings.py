"""Which single change of a candidate's settings would save most memory."""

from collections.abc import Iterator
from typing import Literal

from recommender.facts import Facts
from recommender.footprint import Step
from recommender.memory import compared
from recommender.recommendation import Candidate, Settings
from recommender.shape import shape_of
from recommender.traced import at_once, untraceable
from recommender.variants import has_8bit_adamw, step_of

Change = Literal["checkpointing", "half_batch", "half_length", "adamw_8bit", "no_embeddings"]
SHORTEST = 64
WORTH = 0.03
"""Of the peak, below which no saving is worth a sentence."""


def largest(facts: Facts, candidate: Candidate) -> tuple[Change, int] | None:
    """The change and the bytes that it saves; `None` where nothing saves much, or nobody knows yet what does: steps that could
    be counted were not."""
    shape = shape_of(facts.model, facts.data.task)
    changed = {change: step_of(facts, candidate.method, other) for change, other in _changes(facts, candidate)}
    hopeless = untraceable(facts)
    known = {change: step for change, step in changed.items() if at_once(facts, step) is not None}
    if not known or not candidate.memory.counted or any(s not in hopeless for c, s in changed.items() if c not in known):
        return None
    own = step_of(facts, candidate.method, candidate.settings)

    def kept(step: Step) -> float:
        """The share of the memory that is left."""
        after, before = compared(facts, shape, step, own)
        return after / max(before, 1)

    least = {change: kept(step) for change, step in known.items()}
    best = min(least, key=lambda change: least[change])
    saved = 1 - least[best]
    return (best, int(saved * candidate.memory.predicted)) if saved >= WORTH else None


def steps(facts: Facts, candidate: Candidate) -> Iterator[Step]:
    """The candidate's step after each of the changes."""
    return (step_of(facts, candidate.method, settings) for _, settings in _changes(facts, candidate))


def _changes(facts: Facts, candidate: Candidate) -> Iterator[tuple[Change, Settings]]:
    settings = candidate.settings
    if not settings.gradient_checkpointing:
        yield "checkpointing", settings.model_copy(update={"gradient_checkpointing": True})
    if settings.token_budget // 2 >= settings.max_length:
        yield "half_batch", settings.model_copy(update={"token_budget": settings.token_budget // 2})
    if settings.max_length // 2 >= SHORTEST:
        half = settings.max_length // 2
        yield "half_length", settings.model_copy(update={"max_length": half, "token_budget": settings.token_budget // 2})
    if candidate.method == "full":
        if settings.optimizer == "adamw" and has_8bit_adamw(facts.machine):
            yield "adamw_8bit", settings.model_copy(update={"optimizer": "adamw_8bit"})
        if settings.trained == "all":
            yield "no_embeddings", settings.model_copy(update={"trained": "no_embeddings"})
