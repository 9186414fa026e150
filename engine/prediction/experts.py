"""Experts beside 4-bit maps. Since version 5 of transformers those of a layer are one weight, which bitsandbytes leaves as it is;
before, and in whatever was measured then, each was a linear map in 4 bit."""

from typing import Any

from engine.prediction.stream import Event, Segment, phase_of
from recommender.step import TrainingStep

COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
ALWAYS_FUSED = {"dbrx", "gpt_oss", "llama4", "llama4_text", "granitemoe", "granitemoeshared", "granitemoehybrid", "jetmoe"}
"""Types of models whose experts were one weight in older versions too; in 4 bit they are only where somebody took them apart."""
SIZES = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Bytes of a 4-bit weight with its scales, themselves narrowed or not."""


def experts_of(config: Any) -> tuple[int, int]:
    """How many experts a layer has, and the numbers of one of their two weights (all of a layer's); zeros where it has none."""
    count = next((int(n) for name in COUNTS if isinstance(n := getattr(config, name, None), int)), 0)
    width = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    one = int(width) * int(config.hidden_size) if count > 1 and isinstance(width, int) else 0
    return count, count * one


def are_maps(config: Any, step: TrainingStep) -> bool:
    """Whether experts are taken to be linear maps of their own, which 4-bit maps replace."""
    apart = step.fused_experts is None and config.model_type not in ALWAYS_FUSED
    return step.method == "qlora" and experts_of(config)[1] > 0 and (apart or step.fused_experts is False)


def one_by_one(segments: list[Segment], step: TrainingStep, count: int, numbers: int) -> list[Segment]:
    """The stream of a step whose experts are maps in 4 bit: their weights are packed, what is made of them is of one expert
    at a time, and nothing of it lives until the backward pass."""
    usual = 4 if step.base_dtype == "float32" else 2
    size = 1.0 if step.quantization == "int8" else SIZES[bool(step.double_quantization)]
    made = {k * numbers * width for k in (1, 2) for width in (2, 4)}
    freed = {event.number: s.phase for s in segments for event in s.events if event.size < 0}

    def packed(event: Event, phase: str) -> Event:
        if event.size not in made:
            return event
        if not event.name.endswith("|weights"):
            lives_on = phase_of(phase) == "forward" and freed.get(event.number, "") != phase
            return event._replace(size=1 if lives_on else event.size // count)
        prepared = step.kbit_prepared and phase in ("load prepare", "load adapters")  # which makes what is not packed fp32
        return event._replace(size=int(event.size // (4 if prepared else usual) * size))

    return [Segment(s.phase, [packed(event, s.phase) for event in s.events]) for s in segments]
