"""Memory and time of a step that is run somewhere, traced without its card and without its weights."""

import re
from typing import Any

from engine.prediction.cards import context_of, known_of, reached_of
from engine.prediction.configured import mixes
from engine.prediction.deeper import SHALLOW, Unlike, extended
from engine.prediction.divided import computed, divided
from engine.prediction.experts import experts_of, one_by_one
from engine.prediction.resolve import resolved
from engine.prediction.stream import PHASES, Segment, peaks, phase_of
from engine.worker.tracing import models, spans, work
from engine.worker.tracing.kernels import Card, repacks_here
from engine.worker.tracing.live import Marks
from engine.worker.tracing.plain import PlainLoop
from engine.worker.tracing.trace import Loop, Traced, trace
from recommender import sharing
from recommender.device_speed import device_flops
from recommender.errors import InputError, LoracleError, Refused
from recommender.facts import Facts, Machine
from recommender.memory import USABLE_TRACED, beside
from recommender.step import TrainingStep

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
    one = _predicted(content, answer.step, card, facts)
    low = high = 0
    reserved_low = reserved_high = 0
    loads = one.phases["load"]
    for other in [*answer.others.values(), *_otherwise(answer.step, content)]:
        try:
            found = _predicted(content, other, card, facts)
        except LoracleError:  # what this model cannot do is no open question
            continue
        low, high = low + min(found.allocated - one.allocated, 0), high + max(found.allocated - one.allocated, 0)
        less_or_more = found.reserved - one.reserved
        reserved_low, reserved_high = reserved_low + min(less_or_more, 0), reserved_high + max(less_or_more, 0)
        loads += min(found.phases["load"] - one.phases["load"], 0)
    low = max(low, min(loads - one.allocated, 0))  # no step takes less than what it loads, whatever its choices save one by one
    elsewhere = [] if answer.step.transformers else spans.of_versions(one.phases, answer.step, content)
    changes = [0, *(max(phases.values()) - max(one.phases.values()) for phases in elsewhere)]
    low, reserved_low = min(low, *changes), min(reserved_low, *changes)
    high, reserved_high = high + max(changes), reserved_high + max(changes)
    several = answer.step.devices > 1
    allocated = spans.around(one.allocated, sharing.MARGINS if several else ALLOCATED, low, high)
    reserved = spans.around(one.reserved, sharing.MARGINS if several else RESERVED, reserved_low, reserved_high)
    reserved["low"] = max(reserved["low"], allocated["low"])
    context = _context(facts, answer.step, reserved["predicted"])
    if card.kind == "cuda":
        reserved = spans.limited(reserved, allocated, spans.free(facts.machine), context)
    assumed = [*answer.assumed, *([] if known or card.kind == "cpu" else ["device"])]
    everywhere = bool(answer.step.lora_dropout) and answer.step.target_modules == "all-linear" and not own_step(answer.step)
    if everywhere and experts_of(models.config_of(content).get_text_config())[1]:
        assumed.append("lora_dropout")  # which adapters of experts are counted without
    room = _room(facts.machine, allocated, context)
    return {
        "allocated": allocated,
        "reserved": reserved,
        "device": {name: reserved[name] + extra for name, extra in zip(("predicted", "low", "high"), context, strict=True)},
        "phases": one.phases,
        "parts": one.parts,
        "parts_by_phase": one.parts_by_phase,
        "seconds_per_step": one.seconds,
        **({} if room is None else {"fits": room}),
        "assumed": assumed,
    }


def _otherwise(step: TrainingStep, content: dict[str, Any]) -> list[TrainingStep]:
    """The same step where a library does otherwise than it did before, or may; nobody's facts tell which."""
    found = []
    experts = step.fused_experts is None and step.method == "qlora" and not own_step(step)
    if experts and experts_of(models.config_of(content).get_text_config())[1]:
        found.append(step.model_copy(update={"fused_experts": True}))
    if step.frozen_kept is None and step.sharding == "fsdp" and step.devices > 1 and step.adapters:
        found.append(step.model_copy(update={"frozen_kept": True}))
    return found


def _room(machine: Machine, allocated: dict[str, int], context: tuple[int, int, int]) -> dict[str, Any] | None:
    """Whether the step fits into what is free; `None` where that is not known."""
    free = spans.free(machine)
    if free is None:
        return None
    low = allocated["low"] + context[1]
    high = max(allocated["high"], int(FITTING * allocated["predicted"])) + context[2]
    verdict = "fits" if high <= USABLE_TRACED * free else "doubtful" if low <= free else "does_not_fit"
    return {"verdict": verdict, "available": free, "low": low, "high": high}


class _Predicted:
    """One step, every choice known."""

    def __init__(self, segments: list[Segment], seconds: dict[str, float], card: Card) -> None:
        found = peaks(segments, pooled=card.kind == "cuda")
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


def learned_share(facts: Facts) -> float:
    """Of the tokens, how many carry loss; all where it is not known."""
    known, learned = facts.data.tokens_total, facts.data.trained_tokens
    return min(max(learned / known, 0.0), 1.0) if known and learned else 1.0


def read_share(facts: Facts) -> float:
    """Of the longer of what an encoder-decoder reads and writes, how much it reads; all where it is not known."""
    known, read = facts.data.tokens_total, facts.data.read_tokens
    return min(max(read / known, 0.0), 1.0) if known and read else 1.0


def card_of(facts: Facts) -> tuple[Card, bool]:
    """The device whose kernels are meant, and whether its name was known."""
    machine = facts.machine
    if machine.backend == "cpu" and machine.device is None:
        quantised = facts.step is not None and facts.step.method == "qlora"
        return Card("cpu", repacks=quantised and (repacks_here() if machine.cpu_bf16 is None else machine.cpu_bf16)), True
    known, named = known_of(machine)
    return Card("cuda", known.capability, known.processors), named


def loop_of(
    content: dict[str, Any],
    step: TrainingStep,
    card: Card,
    live: Marks,
    *,
    layers: int | None = None,
    learned: float = 1.0,
    device: str = "meta",
) -> Loop:
    """The loop that the step is part of; `learned` is the share of the tokens that carry loss."""
    if own_step(step):
        from engine.worker.tracing.own import OwnLoop, plan_of

        shorter = max(step.length - 1, 1) if step.padded else step.length
        lengths = [step.length, *[shorter] * (step.micro_batch_rows - 1)]
        return OwnLoop(
            content,
            plan_of(step),
            live,
            lengths=lengths,
            layers=layers,
            workspace=card.workspace,
            pieces=step.pieces,
            learned=learned,
            device=device,
        )
    return PlainLoop(content, step, live, card, layers=layers, device=device)


def own_step(step: TrainingStep) -> bool:
    """Whether the engine takes such a step; others with a chunked loss are an ordinary loop with that loss."""
    half = step.base_dtype in ("bfloat16", "float16")
    if step.adapters:  # the frozen base is held in what is computed in
        held = step.autocast in (None, step.base_dtype)
    else:
        held = not half or (step.base_dtype == "bfloat16" and step.autocast is None)
    states = {"uint8", "int8"} if "8bit" in step.optimizer else {"bfloat16" if half and not step.adapters else "float32"}
    return (
        step.loss == "chunked"
        and step.optimizer_implementation != "foreach"
        and step.optimizer in ("adamw", "adamw_8bit", "paged_adamw_8bit")
        and step.optimizer_state_dtype in (None, *states)
        and step.adapter_dtype in (None, "float32")
        and step.attention not in ("math", "eager")
        and not step.outputs_held
        and held
        and not step.trained
        and step.kernels != "liger"
        and (step.method != "qlora" or (step.quantization, step.double_quantization, step.kbit_prepared) == ("nf4", True, False))
    )


def traced(content: dict[str, Any], step: TrainingStep, card: Card, layers: int | None, learned: float = 1.0) -> Traced:
    """The step at that depth; at its own where `layers` is `None`."""
    return trace(
        lambda live: loop_of(content, step, card, live, layers=layers, learned=learned),
        card,
        attention=(pinned := _pinned(step, card)),
        padded=bool(step.padded) and pinned != "flash 2",
    )


def _pinned(step: TrainingStep, card: Card) -> str | None:
    """The kernel of attention that the step fixes; the engine leaves the choice to torch.

    Flash attention over a mask, or where the stream is fp32, is not torch's own: FlashAttention 2 leaves padding out and is given
    16 bit (transformers, integrations/flash_attention.py).
    """
    if own_step(step):
        return None
    narrow = step.autocast not in (None, "float32") or step.base_dtype != "float32"
    return "flash 2" if step.attention == "flash" and card.has_flash and narrow else step.attention


def at_depth(
    content: dict[str, Any], step: TrainingStep, card: Card, speed: work.Speed, learned: float = 1.0
) -> tuple[list[Segment], float, float]:
    """The step's stream at its whole depth, the device's seconds, and the operations the host starts."""
    config = models.config_of(content)
    depth, repeated = models.depth_of(config), step.gradient_accumulation_steps / step.pieces
    if depth > SHALLOW[1] + 1 and models.extendable(config, step.length) and not _by_number(step):
        less, more = (traced(content, step, card, layers, learned) for layers in SHALLOW)
        try:
            segments = extended(less.segments, more.segments, depth)
        except Unlike:
            pass
        else:
            (a, n), (b, m) = (work.seconds(t.recorded, speed, repeated=repeated) for t in (less, more))
            return segments, work.at_depth(a, b, SHALLOW, depth), work.at_depth(n, m, SHALLOW, depth)
    whole = traced(content, step, card, None, learned)
    busy, count = work.seconds(whole.recorded, speed, repeated=repeated)
    return whole.segments, busy, count


def _by_number(step: TrainingStep) -> bool:
    """Whether some layers are treated unlike the others: the step names them by their numbers."""
    targets = step.target_modules
    named = [*(step.trained or ()), *([targets] if isinstance(targets, str) else targets or ())]
    return any(re.search(r"(?<![A-Za-z_])\d", name) for name in named)


def _predicted(content: dict[str, Any], step: TrainingStep, card: Card, facts: Facts) -> _Predicted:
    speed, measured = _speed(facts, step)
    try:
        segments, busy, count = at_depth(content, computed(step), card, speed, learned_share(facts))
        text = models.config_of(content).get_text_config()
        table = int(getattr(text, "vocab_size", 0)) * int(getattr(text, "hidden_size", 0))
        each, numbers = experts_of(text)
        if step.method == "qlora" and numbers and not step.fused_experts and not own_step(step):
            segments = one_by_one(segments, step, each, numbers)
        segments = divided(segments, step, models.depth_of(text), table)
    except (Refused, InputError):
        raise
    except Exception as error:  # whatever a model's code raises on tensors without content
        if "scalar type" in str(error) or "same dtype" in str(error):
            raise InputError(mixes(step.base_dtype)) from error
        said = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:240]
        raise Refused(f"cannot predict: the step cannot be traced for this model ({said}).") from error
    whole = max(busy, count * speed.launch) if card.kind != "cpu" else busy + count * speed.launch
    low, high = TIME[measured]
    found = _Predicted(segments, {"predicted": whole, "low": low * whole, "high": high * whole}, card)
    for phases in spans.of_versions(found.phases, step, content) if step.transformers else ():
        found.as_in(phases)
    return found


def _speed(facts: Facts, step: TrainingStep) -> tuple[work.Speed, bool]:
    """Operations and bytes a second, and whether the precision that the step computes in was measured on this device."""
    computed_in = step.autocast or step.base_dtype
    narrow, half_measured = device_flops(facts.machine, facts, "fp16-mixed" if computed_in == "float16" else "bf16-mixed")
    wide, measured = device_flops(facts.machine, facts, "fp32")
    measured = measured if computed_in == "float32" else half_measured
    if facts.machine.device is None and facts.machine.backend == "cpu":
        narrow = narrow if half_measured else wide  # with hardware for it faster, without it slower
        return work.Speed(0.8 * narrow, 0.8 * wide, facts.measured.bandwidth or 10e9, launch=8e-6), measured
    known, _ = known_of(facts.machine)
    if computed_in == "bfloat16" and known.capability < (8, 0) and not half_measured:
        narrow = wide  # their tensor cores know fp16 only
    tensor, plain, traffic = EFFICIENCY
    narrow = narrow if half_measured else reached_of(facts.machine) * narrow
    bandwidth = facts.measured.bandwidth or traffic * known.bandwidth
    return work.Speed(tensor * narrow, plain * wide, bandwidth), measured


def _context(facts: Facts, step: TrainingStep, tensors: int) -> tuple[int, int, int]:
    if facts.machine.device is None and facts.machine.backend == "cpu":
        return beside(facts, tensors, in_bits=step.method == "qlora" or "8bit" in step.optimizer)
    profile = facts.measured.memory_profile or {}
    measured = profile.get("context")
    return (int(measured),) * 3 if isinstance(measured, int | float) else context_of(facts.machine)
