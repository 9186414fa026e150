"""Memory and time of a step that is run somewhere, traced without its card and without its weights."""

import contextlib
from typing import Any

from engine.inspection.processor import is_here
from engine.prediction.allocator import Allocator, Heap, Unpooled
from engine.prediction.cards import context_of, known_of, reached_of, wide_reached_of
from engine.prediction.configured import mixes
from engine.prediction.divided import computed, divided
from engine.prediction.experts import are_maps, experts_of, one_by_one
from engine.prediction.resolve import Resolved, resolved
from engine.prediction.stream import PHASES, Segment, peaks, phase_of
from engine.worker import products
from engine.worker.tracing import dynamic, models, spans, work
from engine.worker.tracing.chunked_nll import CHUNK
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.steps import at_depth, card_of, learned_share, own_step
from recommender import sharing
from recommender.device_speed import device_flops, with_least_power
from recommender.errors import InputError, LoracleError, Refused
from recommender.facts import Facts, Machine
from recommender.memory import USABLE_TRACED, beside
from recommender.names import memory_in_name
from recommender.shape import shape_of
from recommender.step import TILED, TrainingStep, version_of

ALLOCATED = (0.985, 1.015)
"""What is left of an error where every choice is known: kernels' small buffers, versions of libraries."""
RESERVED = (0.955, 1.08)
"""Of the replayed reservation, which leans low: the real allocator has served others before. 58 steps on an H100 lay between 0.96
and 1.055 of it."""
FITTING = 1.03
"""Of a step's tensors, what has to find room on a card: their margin, and as much again for what lies between them. The allocator
gives back all else before it fails, and the engine turns expandable segments on."""
EFFICIENCY = (0.55, 0.75, 0.75)
"""Of published peaks that a step reaches: products in 16 bit, in fp32 (which need no tensor cores), bandwidth."""
TF32 = 2
"""Times as fast as products in TF32 are those in 16 bit, on every card that knows both (data sheets of Ampere to Blackwell)."""
NO_TF32 = (1, 12)
"""The first torch that computes products of fp32 in fp32 where nobody says a word."""
AMPERES = {9: 0.5, 10: 0.25}
"""Of what the instructions of Hopper and of Blackwell's data centre cards multiply in a clock, what Ampere's do: in these are
written flash attention 2 and the memory-efficient kernel, cuDNN's attention in their own (pytorch/benchmark, pull request 2296:
300 Tflop/s of an H100's 989 forward, and 430)."""
EFFICIENT = 0.45
"""Of flash attention's speed, what the memory-efficient kernel has forward and backward (Dao-AILab/flash-attention, issue 416:
0.33 to 0.59 for 64 and 128 values a head)."""
HOOKS = 1.8
"""Of the host's work on the forward pass, what checkpointing takes beside doing it again: what is saved goes through Python,
there and back (1.5 for a BERT and 2.2 for a Llama of next to nothing, on a CPU)."""
HOOKED = {"transformers": (5, 0), "torch": (2, 4)}
"""The first transformers that checkpoints so, and a torch that it does not run without; before, it did it reentrant."""
TIME = {True: (0.75, 1.35), False: (0.5, 2.0)}
"""Interval of the step time, where the device was measured and where its figures are published ones."""


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
    one = _predicted(content, answer.step, card, facts)
    (low, high), (reserved_low, reserved_high) = _left_open(one, answer, card, facts)
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
        held = spans.with_paged(held, widest, gradients, _table(text), spans.free(facts.machine))
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
    }


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


def _kept(one: "_Predicted", step: TrainingStep, card: Card, facts: Facts) -> dynamic.Kept | None:
    """What lengths that differ make of the reservation."""
    content, (speed, _) = facts.model.config or {}, _speed(facts, step)

    def at(length: int) -> list[Segment]:
        return _stream(content, step.model_copy(update={"length": length}), card, facts, speed)[0]

    return dynamic.kept(one.segments, one.reserved, (step.micro_batch_rows, step.length), facts.data, at)


Range = tuple[int, int]
"""Bytes less, and bytes more."""


def _left_open(one: "_Predicted", answer: Resolved, card: Card, facts: Facts) -> tuple[Range, Range]:
    """What the step's open questions may change of what is allocated and reserved: what takes more is added up, and what saves is
    traced together, because where two save the same bytes these are saved once."""
    content, saving = facts.model.config or {}, list[TrainingStep]()
    low = high = 0
    reserved_low = reserved_high = 0
    ways = [(other, card) for other in (*answer.others.values(), *_otherwise(answer.step, content))]
    if _may_copy(card, answer.step) and not is_here(facts.machine):  # whose products are not known
        ways.append((answer.step, card._replace(onednn=True)))
    for other, kernels in ways:
        try:
            found = _predicted(content, other, kernels, facts)
        except LoracleError:  # what this model cannot do is no open question
            continue
        change, reserved = found.allocated - one.allocated, found.reserved - one.reserved
        low, high = min(low, change), high + max(change, 0)
        reserved_low, reserved_high = min(reserved_low, reserved), reserved_high + max(reserved, 0)
        if change <= 0:
            saving.append(other)
    if len(saving) > 1:
        with contextlib.suppress(LoracleError):  # two that cannot go together
            found = _predicted(content, _together(answer.step, saving), card, facts)
            low, reserved_low = min(low, found.allocated - one.allocated), min(reserved_low, found.reserved - one.reserved)
    if (shorter := _in_one_chunk(answer.step)) is not None:
        found = _predicted(content, shorter, card, facts)
        high += max(found.allocated - one.allocated, 0)
        reserved_high += max(found.reserved - one.reserved, 0)
    elsewhere = [] if answer.step.transformers else spans.of_versions(one.phases, answer.step, content)
    changes = [0, *(max(phases.values()) - max(one.phases.values()) for phases in elsewhere)]
    less, more = min(changes), max(changes)
    low, reserved_low = min(low, less), min(reserved_low, less)
    if card.kind == "cuda" and not own_step(answer.step):
        before, over = spans.before(card, answer.step), max(one.allocated - sum(one.parts.values()), 0)
        low, reserved_low = low - before - (over if answer.step.expandable_segments is None else 0), reserved_low - before
    return (low, high + more), (reserved_low, reserved_high + more)


def _together(step: TrainingStep, others: list[TrainingStep]) -> TrainingStep:
    """The step with all that any of the others does in another way."""
    return step.model_copy(update={name: value for other in others for name, value in other if value != getattr(step, name)})


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


def _in_one_chunk(step: TrainingStep) -> TrainingStep | None:
    """A batch of the same run with so few tokens that TRL's loss takes them at once: where head and embedding are one weight it
    may take more (`chunked_nll`). `None` where all batches are as long as this one, or nothing of the head is trained."""
    few = max(CHUNK // step.micro_batch_rows, 1)
    told = step.loss == "chunked_nll" and step.method == "full" and step.padded and step.length > few
    told = told and not (step.trl and version_of(step.trl) >= TILED)
    return step.model_copy(update={"length": few}) if told else None


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


class _Predicted:
    """One step, every choice known."""

    def __init__(self, segments: list[Segment], seconds: dict[str, float], pool: Allocator | Unpooled) -> None:
        found = peaks(segments, pool)
        self.segments = segments
        by_phase = {name: int(phase["allocated"]) for name, phase in found["phases"].items()}
        self.phases = {
            phase: max((size for name, size in by_phase.items() if phase_of(name) == phase), default=0) for phase in PHASES
        }
        self.allocated = max(by_phase.values())
        self.reserved = max(int(phase["reserved"]) for phase in found["phases"].values())
        self.parts, self.parts_by_phase = found["parts"], parts_by_phase(found)
        self.seconds = seconds

    def as_in(self, phases: dict[str, int]) -> None:
        """Take what each phase holds in another version of transformers; what that changes are logits."""
        change = max(phases.values()) - max(self.phases.values())
        self.allocated, self.reserved = self.allocated + change, self.reserved + change
        by_phase = ((self.parts_by_phase[phase], phases[phase] - self.phases[phase]) for phase in self.parts_by_phase)
        for parts, more in ((self.parts, change), *by_phase):
            parts["logits"] = max(parts.get("logits", 0) + more, 0)
        self.phases = phases


def parts_by_phase(told: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Where the memory is at the peak of each phase, in bytes by what it is."""
    found: dict[str, dict[str, Any]] = {}
    for name, phase in told["phases"].items():
        if phase_of(name) in PHASES and phase["allocated"] > found.get(phase_of(name), {"allocated": 0})["allocated"]:
            found[phase_of(name)] = phase
    return {name: found[name]["parts"] for name in PHASES if name in found}


def _stream(
    content: dict[str, Any], step: TrainingStep, card: Card, facts: Facts, speed: work.Speed
) -> tuple[list[Segment], float, float]:
    """What the step allocates on a device, and what `at_depth` tells beside."""
    try:
        segments, busy, count = at_depth(content, computed(step), card, speed, learned_share(facts))
        text = models.config_of(content).get_text_config()
        if are_maps(text, step) and not own_step(step):
            segments = one_by_one(segments, step, *experts_of(text))
        segments = divided(segments, step, models.depth_of(text), _table(text))
    except (Refused, InputError):
        raise
    except Exception as error:  # whatever a model's code raises on tensors without content
        if "scalar type" in str(error) or "same dtype" in str(error):
            raise InputError(mixes(step.base_dtype)) from error
        said = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:240]
        raise Refused(f"cannot predict: the step cannot be traced for this model ({said}).") from error
    return segments, busy, count


def _predicted(content: dict[str, Any], step: TrainingStep, card: Card, facts: Facts) -> _Predicted:
    speed, measured = _speed(facts, step)
    segments, busy, count = _stream(content, step, card, facts, speed)
    whole = max(busy, count * speed.launch) if card.kind != "cpu" else busy + count * speed.launch
    low, high = TIME[measured]
    high *= 1 if measured else with_least_power(facts.machine)
    kept = Heap() if own_step(step) else Unpooled()
    pool = Allocator(expandable=bool(step.expandable_segments)) if card.kind == "cuda" else kept
    found = _Predicted(segments, {"predicted": whole, "low": low * whole, "high": high * whole}, pool)
    for phases in spans.of_versions(found.phases, step, content) if step.transformers else ():
        found.as_in(phases)
    return found


def _table(text: Any) -> int:
    """Numbers in the embedding of words."""
    return int(getattr(text, "vocab_size", 0)) * int(getattr(text, "hidden_size", 0))


def _speed(facts: Facts, step: TrainingStep) -> tuple[work.Speed, bool]:
    """Operations and bytes a second, and whether the precision that the step computes in was measured on this device."""
    computed_in = step.autocast or step.base_dtype
    narrow, half_measured = device_flops(facts.machine, facts, "fp16-mixed" if computed_in == "float16" else "bf16-mixed")
    wide, wide_measured = device_flops(facts.machine, facts, "fp32")
    measured = wide_measured if computed_in == "float32" else half_measured
    if facts.machine.device is None and facts.machine.backend == "cpu":
        narrow = narrow if half_measured else wide  # with hardware for it faster, without it slower
        return work.Speed(0.8 * narrow, 0.8 * wide, facts.measured.bandwidth or 10e9, launch=8e-6), measured
    known, _ = known_of(facts.machine)
    if computed_in == "bfloat16" and known.capability < (8, 0) and not half_measured:
        narrow = wide  # their tensor cores know fp16 only
    tensor, plain, traffic = EFFICIENCY
    narrow = narrow if half_measured else reached_of(facts.machine) * narrow
    bandwidth = facts.measured.bandwidth or traffic * known.bandwidth
    wide *= plain * (1.0 if wide_measured else wide_reached_of(facts.machine))
    older = step.torch is not None and version_of(step.torch) < NO_TF32
    if (older if step.tf32 is None else step.tf32) and known.capability >= (8, 0):
        wide = max(wide, tensor * narrow / TF32)
    major = known.capability[0]
    either = step.attention is None and not own_step(step) and major in AMPERES
    flash, efficient = (1.0, 1.0) if either else (AMPERES.get(major, 1.0), EFFICIENT)
    told = ((getattr(step, name), first) for name, first in HOOKED.items())
    reentrant = any(version is not None and version_of(version) < first for version, first in told)
    hooks = HOOKS if step.checkpointed and not reentrant else 0.0
    return work.Speed(tensor * narrow, wide, bandwidth, flash=flash, efficient=efficient, hooks=hooks), measured


def _context(facts: Facts, step: TrainingStep, tensors: int) -> tuple[int, int, int]:
    if facts.machine.device is None and facts.machine.backend == "cpu":
        in_bits = step.method == "qlora" or "8bit" in step.optimizer
        return beside(facts, shape_of(facts.model), tensors, adapters=step.adapters, in_bits=in_bits)
    profile = facts.measured.memory_profile or {}
    measured = profile.get("context")
    return (int(measured),) * 3 if isinstance(measured, int | float) else context_of(facts.machine)
