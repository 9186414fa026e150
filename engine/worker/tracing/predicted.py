"""One step, every choice known: what it takes on a device, and how long."""

from typing import Any

from engine.prediction.allocator import Allocator, Heap, Unpooled
from engine.prediction.cards import CACHED, USUALLY_REACHED, beside_usual, known_of, reached_of, wide_reached_of
from engine.prediction.configured import mixes
from engine.prediction.divided import computed, divided
from engine.prediction.experts import are_maps, experts_of, one_by_one
from engine.prediction.stream import PHASES, Segment, peaks, phase_of
from engine.worker.tracing import models, spans, work
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.steps import at_depth, learned_share, own_step, traced
from recommender.device_speed import device_flops, launch_of, with_least_power
from recommender.errors import InputError, Refused
from recommender.facts import Facts
from recommender.recommendation import Precision
from recommender.step import TrainingStep, version_of

EFFICIENCY = (0.55, 0.75, 0.75)
"""Of published peaks that a step reaches: products in 16 bit, in fp32 (which need no tensor cores), bandwidth."""
COPIED = 0.9
"""Of the published bandwidth, what copying something large reaches, which is what is measured: products are, too, and large ones
reach `USUALLY_REACHED` (0.92 of an H100's: pytorch/ao, issue 4054; 0.87 to 0.93 of a V100's: te42kyfo/gpu-benches)."""
TF32 = 2
"""Times as fast as products in TF32 are those in 16 bit, on every card that knows both (data sheets of Ampere to Blackwell)."""
NO_TF32 = (1, 12)
"""The first torch that computes products of fp32 in fp32 where nobody says a word."""
AMPERES = {9: 0.5, 10: 0.25}
"""Of what the instructions of Hopper and of Blackwell's data centre cards multiply in a clock, what Ampere's do: in these are
written flash attention 2 and the memory-efficient kernel, cuDNN's attention in their own (pytorch/benchmark, pull request 2296:
300 Tflop/s of an H100's 989 forward, and 430)."""
CUDNNS = (2, 11)
"""The first torch that takes cuDNN's by itself on such cards (huggingface/transformers, pull request 48163)."""
CUDNNS_WIDEST = 128
"""Values of a head up to which they do (`attending.kernel_for`)."""
EFFICIENT = 0.45
"""Of flash attention's speed, what the memory-efficient kernel has forward and backward (Dao-AILab/flash-attention, issue 416:
0.33 to 0.59 for 64 and 128 values a head)."""
PRECISE = 3
"""Products in TF32 that this kernel makes of one in fp32, on Ampere and later (gemm_kernel_utils.h, `OpMultiplyAddFastF32`)."""
TIME = {True: (0.75, 1.35), False: (0.5, 2.0)}
"""Interval of the step time, where the device was measured and where its figures are published ones."""


HOSTS = (8e-6, 6e-5)
"""Seconds for an operation on the fastest and on the slowest host, which facts seldom tell: a desktop beside an RTX 4090 needs
8.5 microseconds (`device_speed.OWN_HOST`), one beside a T4 in Colab 44 (24 tokens of Qwen2.5-0.5B a second), and others may make
it wait. A card for one's own computer may also be rented in a server."""


class Predicted:
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


def stream_of(step: TrainingStep, card: Card, facts: Facts, layers: int | None = None) -> tuple[list[Segment], work.Work]:
    """What the step allocates on a device, and what `at_depth` tells beside; nothing beside of a model with so many `layers`."""
    content, (speed, _) = facts.model.config or {}, speed_of(facts, step)
    try:
        if layers is None:
            segments, done = at_depth(content, computed(step), card, speed, learned_share(facts))
        else:
            segments, done = traced(content, computed(step), card, layers, learned_share(facts)).segments, work.Work(0.0, 0.0)
        text = models.config_of(content).get_text_config()
        if are_maps(text, step) and not own_step(step):
            segments = one_by_one(segments, step, *experts_of(text))
        segments = divided(segments, step, layers or models.depth_of(text), table_of(text))
    except (Refused, InputError):
        raise
    except Exception as error:  # whatever a model's code raises on tensors without content
        if "scalar type" in str(error) or "same dtype" in str(error):
            raise InputError(mixes(step.base_dtype)) from error
        said = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:240]
        raise Refused(f"cannot predict: the step cannot be traced for this model ({said}).") from error
    return segments, done


def predicted(step: TrainingStep, card: Card, facts: Facts, *, layers: int | None = None) -> Predicted:
    """The step on that device; with `layers` of a model that has so many.

    Raises:
        Refused, InputError: this model cannot take it.
    """
    (segments, done), (speed, measured) = stream_of(step, card, facts, layers), speed_of(facts, step)
    low, high = TIME[measured]
    high *= 1 if measured else with_least_power(facts.machine)
    if card.kind == "cuda" and not measured:
        slowest, fastest = beside_usual(facts.machine)
        low, high = low / fastest, high / slowest
    fast, slow = (end * speed.launch for end in TIME[False]) if facts.measured.launch else HOSTS
    if card.kind == "cpu":
        whole = done.busy + done.started * speed.launch
        seconds = {"predicted": whole, "low": low * whole, "high": high * whole}
    else:
        ends = zip(("predicted", "low", "high"), (1.0, low, high), (speed.launch, fast, slow), strict=True)
        seconds = {name: done.seconds(times, host) for name, times, host in ends}
    kept = Heap() if own_step(step) else Unpooled()
    pool = Allocator(expandable=bool(step.expandable_segments)) if card.kind == "cuda" else kept
    found = Predicted(segments, seconds, pool)
    for phases in spans.of_versions(found.phases, step, facts.model.config or {}) if step.transformers else ():
        found.as_in(phases)
    return found


def table_of(text: Any) -> int:
    """Numbers in the embedding of words."""
    return int(getattr(text, "vocab_size", 0)) * int(getattr(text, "hidden_size", 0))


def speed_of(facts: Facts, step: TrainingStep) -> tuple[work.Speed, bool]:
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
    narrow *= 1 / USUALLY_REACHED if half_measured else reached_of(facts.machine)
    bandwidth = traffic * (facts.measured.bandwidth / COPIED if facts.measured.bandwidth else known.bandwidth)
    wide *= plain * (1 / USUALLY_REACHED if wide_measured else wide_reached_of(facts.machine))
    older = step.torch is not None and version_of(step.torch) < NO_TF32
    if (older if step.tf32 is None else step.tf32) and known.capability >= (8, 0):
        wide = max(wide, tensor * narrow / TF32)
    major = known.capability[0]
    before = step.torch is not None and version_of(step.torch) < CUDNNS
    narrow_heads = _head_width(models.config_of(facts.model.config or {}).get_text_config()) <= CUDNNS_WIDEST
    cudnns = step.attention is None and not own_step(step) and not before and major in AMPERES and narrow_heads
    amperes = AMPERES.get(major, 1.0)
    flash, efficient = (1.0, 1.0) if cudnns else (amperes, EFFICIENT)
    precise = EFFICIENT * (tensor * narrow * amperes / TF32 / PRECISE if known.capability >= (8, 0) else wide)
    kernels = {"flash": flash, "efficient": efficient, "precise": precise}
    launch, cached = launch_of(facts.machine, facts), max(CACHED * known.processors, bandwidth)
    hooks = own_step(step) or not step.reentrant
    return work.Speed(tensor * narrow, wide, bandwidth, launch, cached, **kernels, hooks=hooks), measured


def own_speed(facts: Facts, precision: Precision) -> work.Speed:
    """The same, of a step of the engine in that precision."""
    narrow = {"fp32": None, "fp16-mixed": "float16"}.get(precision, "bfloat16")
    given = {"method": "full", "base_dtype": "float32", "autocast": narrow, "loss": "chunked"}
    return speed_of(facts, TrainingStep.model_validate(given))[0]


def _head_width(text: Any) -> int:
    """Values of a query's head, the most that a layer's has: where layers differ (Gemma 4) their model has none."""
    several = getattr(text, "is_heterogeneous", False)
    return max(_width(layer) for layer in (text.per_layer_config if several else (text,)))


def _width(layer: Any) -> int:
    """The same, of one layer's configuration; `qk_head_dim` is DeepSeek's."""
    given = getattr(layer, "qk_head_dim", None) or getattr(layer, "head_dim", None)
    return int(given or getattr(layer, "hidden_size", 0) // (getattr(layer, "num_attention_heads", None) or 1))
