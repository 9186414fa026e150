"""Memory and time of a step that is run somewhere, traced without its card and without its weights."""

from typing import Any

import torch

from engine.inspection.processor import is_here
from engine.prediction.cards import context_of
from engine.prediction.experts import are_maps, experts_of
from engine.prediction.resolve import Resolved, resolved
from engine.prediction.stream import Segment
from engine.worker import products
from engine.worker.tracing import dynamic, models, spans
from engine.worker.tracing.choices import Way, left_open
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.plain import absent_parts
from engine.worker.tracing.predicted import Predicted, predicted, stream_of, table_of
from engine.worker.tracing.steps import card_of, own_step
from recommender import sharing
from recommender.facts import Facts, Machine
from recommender.memory import USABLE_TRACED, beside
from recommender.names import memory_in_name
from recommender.shape import shape_of
from recommender.step import TrainingStep

ALLOCATED = (0.985, 1.015)
"""What is left of an error where every choice is known: kernels' small buffers, versions of libraries."""
RESERVED = (0.955, 1.08)
"""Of the replayed reservation, which leans low: the real allocator has served others before. 58 steps on an H100 lay between 0.96
and 1.055 of it."""
FITTING = 1.03
"""Of a step's tensors, what has to find room on a card: their margin, and as much again for what lies between them. The allocator
gives back all else before it fails, and the engine turns expandable segments on."""


def estimate(facts: Facts) -> dict[str, Any]:
    """The answer of `loracle estimate`.

    Raises:
        Refused: such a model or step cannot be predicted.
        InputError: the step contradicts itself, or peft or transformers do not take it.
    """
    answer = resolved(facts)
    content = facts.model.config
    assert content is not None  # the parent has made sure of it
    card, known = card_of(facts)
    card = card._replace(onednn=_may_copy(card, answer.step) and is_here(facts.machine) and products.fastest() == "onednn")
    one = predicted(answer.step, card, facts)
    (low, high), (reserved_low, reserved_high) = left_open(one, answer.step, _ways(answer, card, facts), card, facts)
    device = facts.machine.device
    if not known and (device is None or device.compute_capability is None):
        high, reserved_high = high + spans.unnamed(card), reserved_high + spans.unnamed(card)
    several = answer.step.devices > 1
    allocated = spans.around(one.allocated, sharing.MARGINS if several else ALLOCATED, low, high)
    kept = None if (differ := _lengths_differ(answer, card, facts)) is False else _kept(one, answer.step, card, facts)
    context = _context(facts, answer.step, one.reserved)

    def reserving(point: int, more: int) -> dict[str, int]:
        margins = sharing.MARGINS if several else RESERVED
        found = spans.around(one.reserved, margins, reserved_low, reserved_high + more) | {"predicted": point}
        found["low"] = max(found["low"], allocated["low"])
        return spans.limited(found, allocated, spans.free(facts.machine), context) if card.kind == "cuda" else found

    reserved_low += 0 if kept is None else kept.least - one.reserved
    reserved = reserving(one.reserved, 0)
    if kept is not None:
        most = reserving(kept.usual if differ else one.reserved, kept.most - one.reserved)
        reserved = most | {"low": reserved["low"]}
    text = models.config_of(content).get_text_config()
    held = {name: reserved[name] + extra for name, extra in zip(("predicted", "low", "high"), context, strict=True)}
    if card.kind == "cuda":
        gradients = one.parts_by_phase["optimizer"].get("gradients", 0)
        widest = answer.others.get("embeddings_in_fp32", answer.step)
        held = spans.with_paged(held, widest, gradients, table_of(text), spans.free(facts.machine))
    unknown = [name for other in _otherwise(answer.step, content) for name, value in other if value != getattr(answer.step, name)]
    assumed = [*answer.assumed, *unknown, *([] if known or card.kind == "cpu" else ["device"])]
    everywhere = bool(answer.step.lora_dropout) and answer.step.target_modules == "all-linear" and not own_step(answer.step)
    if everywhere and experts_of(text)[1]:
        assumed.append("lora_dropout")  # which adapters of experts are counted without
    if kept is not None and differ is None:
        assumed.append("dynamic_padding")
    held_at_least = allocated if card.kind == "cuda" else reserved  # a heap gives nothing back
    room = _room(facts.machine, held_at_least, context, 1.0 if kept is None else kept.room / one.allocated)
    if room is not None and spans.free(facts.machine) is None:
        assumed.append("memory_total")
    return {
        "allocated": allocated,
        "reserved": reserved,
        "device": held,
        "phases": one.phases,
        "parts": one.parts,
        "parts_by_phase": one.parts_by_phase,
        "seconds_per_step": one.seconds,
        **({} if room is None else {"fits": room}),
        "assumed": assumed,
        "ignored": _absent(answer.step, content),
    }


def _absent(step: TrainingStep, content: dict[str, Any]) -> list[str]:
    """Parts that are to be trained whole and are not there; where none of them is, the step was refused."""
    if len(step.trained or ()) < 2:
        return []
    head = "seq2seq" if step.head == "causal_lm" and step.target_length is not None else str(step.head)
    with models.quiet():
        model = models.skeleton(models.config_of(content), head, torch.float32, "sdpa")
    return [f"trained: {part}" for part in absent_parts(model, step)]


def _lengths_differ(answer: Resolved, card: Card, facts: Facts) -> bool | None:
    """Whether micro-batches differ in length in a way that the allocator minds: where segments grow, it does not. `None` where
    rows do and nobody tells: all may be padded alike. A step of which only its size is told is taken to have always that."""
    step = answer.step
    if card.kind != "cuda" or step.expandable_segments:
        return False
    rows_differ = step.padded or ("padded" in answer.others and facts.data.tokens_p50 is not None)
    if step.dynamic_padding is None and rows_differ and not own_step(step):
        return None
    return bool(step.dynamic_padding)


def _kept(one: Predicted, step: TrainingStep, card: Card, facts: Facts) -> dynamic.Kept | None:
    """What lengths that differ make of the reservation."""

    def at(length: int) -> list[Segment]:
        return stream_of(step.model_copy(update={"length": length}), card, facts)[0]

    return dynamic.kept(one.segments, one.reserved, (step.micro_batch_rows, step.length), facts.data, at)


def _ways(answer: Resolved, card: Card, facts: Facts) -> list[Way]:
    """The other ways in which the step may be run."""
    others = [*answer.others.values(), *_otherwise(answer.step, facts.model.config or {})]
    ways = [(other, card) for other in others]
    if _may_copy(card, answer.step) and not is_here(facts.machine):  # whose products are not known
        ways.append((answer.step, card._replace(onednn=True)))
    return ways


def _may_copy(card: Card, step: TrainingStep) -> bool:
    """Whether oneDNN may compute the step's products, which copies factors for it: as a run of Loracle has it on some CPUs."""
    return card.kind == "cpu" and own_step(step)


def _otherwise(step: TrainingStep, content: dict[str, Any]) -> list[TrainingStep]:
    """The same step where a library does otherwise than it did before, or may; nobody's facts tell which."""
    found = []
    text = models.config_of(content).get_text_config()
    if step.fused_experts is None and step.method == "qlora" and experts_of(text)[1] and not own_step(step):
        found.append(step.model_copy(update={"fused_experts": are_maps(text, step)}))
    if step.frozen_kept is None and step.sharding == "fsdp" and step.devices > 1 and step.adapters:
        found.append(step.model_copy(update={"frozen_kept": True}))
    return found


def _room(machine: Machine, held: dict[str, int], context: tuple[int, int, int], more: float = 1.0) -> dict[str, Any] | None:
    """Whether a step that has to hold so much fits into what is free, or cards of that name have at least; `None` where that is
    not known. The allocator needs `more` times that for what lies between."""
    free = spans.free(machine)
    if free is None and machine.device is not None:
        free = memory_in_name(machine.device)
    if free is None:
        return None
    low = held["low"] + context[1]
    high = max(int(more * held["high"]), int(FITTING * held["predicted"])) + context[2]
    verdict = "fits" if high <= USABLE_TRACED * free else "doubtful" if low <= free else "does_not_fit"
    return {"verdict": verdict, "available": free, "low": low, "high": high}


def _context(facts: Facts, step: TrainingStep, tensors: int) -> tuple[int, int, int]:
    if facts.machine.device is None and facts.machine.backend == "cpu":
        in_bits = step.method == "qlora" or "8bit" in step.optimizer
        return beside(facts, shape_of(facts.model), tensors, adapters=step.adapters, in_bits=in_bits)
    profile = facts.measured.memory_profile or {}
    measured = profile.get("context")
    return (int(measured),) * 3 if isinstance(measured, int | float) else context_of(facts.machine)
