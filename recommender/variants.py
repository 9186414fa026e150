"""The same method in ever less memory: what is tried in which order until it fits.

First what changes only the speed (smaller micro-batches, then gradient checkpointing: 27% more time, E25), then what changes
the experiment a little (8-bit AdamW, lower rank), last what changes it much (parts left untrained, shorter texts).
"""

from collections.abc import Iterator
from typing import NamedTuple

from recommender import hyper, rates
from recommender.counting import is_labelled, rows_of, scored_rows
from recommender.facts import Facts, Machine
from recommender.footprint import Step
from recommender.largest import longest_unit
from recommender.plan import Plan
from recommender.recommendation import Method, Settings
from recommender.shape import Shape, tuned_as_encoder

SHORTEST = 512
"""Texts are not cut below so many tokens to make a method fit."""


class Group(NamedTuple):
    """Settings and the sizes of micro-batch to try them with, the quickest first: where the last does not fit, none does."""

    settings: Settings
    budgets: tuple[int, ...]


def step_of(facts: Facts, method: Method, settings: Settings | Plan, token_budget: int | None = None) -> Step:
    """What decides a step's memory, of settings or of a plan; with another token budget than its own, if one is given."""
    budget, longest = token_budget or settings.token_budget, longest_unit(facts, settings.max_length)
    tokens, batch = micro_tokens(facts, settings, budget), _batch(facts, settings)
    return Step(
        method=method,
        precision=settings.precision,
        rank=settings.rank or 0,
        micro_tokens=tokens,
        length=settings.max_length,
        gradient_checkpointing=settings.gradient_checkpointing,
        optimizer=settings.optimizer,
        trained=settings.trained,
        last_layers=settings.last_layers,
        dropout=settings.dropout or 0.0,
        adapter_dtype=settings.adapter_dtype,
        target_modules=None if settings.target_modules == hyper.ALL_LINEAR else settings.target_modules,
        dora=settings.dora,
        accumulates=tokens // longest < batch,
        batch=batch,
        scored=min(max(budget, longest), max(scored_rows(facts.data), 1) * longest),
    )


def micro_tokens(facts: Facts, settings: Settings | Plan, token_budget: int) -> int:
    """Padded tokens of the largest micro-batch that can really occur."""
    longest = longest_unit(facts, settings.max_length)
    return min(max(token_budget, longest), _batch(facts, settings) * longest)


def _batch(facts: Facts, settings: Settings | Plan) -> int:
    """Rows of a logical batch at most: no more than there are. Of raw text nobody has counted the blocks."""
    rows = rows_of(facts.data) if facts.data.task != "continued_pretraining" else None
    return min(settings.effective_batch, rows or settings.effective_batch)


def variants(facts: Facts, shape: Shape, method: Method) -> Iterator[Group]:
    """Settings of the method in groups, the preferred first."""
    first = hyper.settings_for(facts, shape, method)
    yield from _memory_choices(first)
    if method == "full":
        yield from _smaller_full(facts, shape, first)
    else:
        least = 8 if method == "qlora" else rates.least_rank(shape, tuned_as_encoder(shape, facts.data))
        if facts.data.task == "continued_pretraining":
            least = 64
        for rank in [r for r in reversed(rates.RANKS) if least <= r < (first.rank or 0)]:
            alpha = 2 * rank if tuned_as_encoder(shape, facts.data) else first.alpha
            first = first.model_copy(update={"rank": rank, "alpha": alpha})
            yield _smallest(first)
    for length in shorter_lengths(facts, shape, first.max_length):
        yield _smallest(first.model_copy(update={"max_length": length}))


def last_layers(facts: Facts, shape: Shape) -> Iterator[Group]:
    """Only the head and the top layers trained (E8), in ever less memory."""
    yield from _memory_choices(hyper.settings_for(facts, shape, "full", "last_layers"))


def _smaller_full(facts: Facts, shape: Shape, first: Settings) -> Iterator[Group]:
    small = first.model_copy(update={"optimizer": "adamw_8bit"})
    if has_8bit_adamw(facts.machine):
        yield from _memory_choices(small, checkpointing_only=True)
    if tuned_as_encoder(shape, facts.data):
        yield from _memory_choices(first.model_copy(update={"trained": "no_embeddings"}))
        if has_8bit_adamw(facts.machine):
            yield from _memory_choices(small.model_copy(update={"trained": "no_embeddings"}), checkpointing_only=True)
        if is_labelled(facts.data):
            yield from last_layers(facts, shape)
    elif has_8bit_adamw(facts.machine) and hyper.supports_bf16(facts.machine) and not is_labelled(facts.data):
        yield from _memory_choices(small.model_copy(update={"precision": "bf16"}), checkpointing_only=True)


def has_8bit_adamw(machine: Machine) -> bool:
    """Whether bitsandbytes has its optimizers here: on CUDA and ROCm."""
    return machine.backend in ("cuda", "rocm") and machine.device is not None


def shorter_lengths(facts: Facts, shape: Shape, length: int) -> list[int]:
    """Where text is generated: the 95th percentile instead of the 99th; shorter blocks of raw text."""
    if is_labelled(facts.data):
        return []
    if facts.data.task == "continued_pretraining":
        return [n for n in (2048, 1024, 512) if n < length]
    p95 = facts.data.tokens_p95
    wanted = hyper.rounded_length(max(p95, SHORTEST), shape) if p95 is not None else length
    return [wanted] if wanted < length else []


def _smallest(settings: Settings) -> Group:
    """One longest row at a time, with checkpointing."""
    return Group(settings.model_copy(update={"gradient_checkpointing": True}), (settings.max_length,))


def _memory_choices(settings: Settings, *, checkpointing_only: bool = False) -> Iterator[Group]:
    """The same experiment in ever less memory."""
    budgets = [settings.token_budget]
    while budgets[-1] // 2 >= settings.max_length:
        budgets.append(budgets[-1] // 2)
    if budgets[-1] > settings.max_length:
        budgets.append(settings.max_length)
    for checkpointing in (True,) if checkpointing_only else (False, True):
        yield Group(settings.model_copy(update={"gradient_checkpointing": checkpointing}), tuple(budgets))
