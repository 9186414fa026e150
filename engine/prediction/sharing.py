"""A step on several devices: what each of them holds, from what one alone would."""

from collections.abc import Iterable

from engine.prediction.stream import Segment
from recommender.step import TrainingStep

DIVIDED: dict[str, tuple[str, ...]] = {
    "zero1": ("optimizer",),
    "zero2": ("optimizer", "gradients"),
    "zero3": ("optimizer", "gradients", "weights", "adapters"),
    "fsdp": ("optimizer", "gradients", "weights", "adapters"),
}
"""What is divided among the devices, by the way it is done; with plain copies nothing is."""
MARGINS = (0.9, 1.15)
"""More room for error: buckets and gathering are laid out differently by each version."""


def on_each(parts: dict[str, int], held: dict[str, int], step: TrainingStep, layers: int, *, updates: bool = False) -> int:
    """Bytes that one of several devices holds more than a single one would (less where negative), where that one holds `parts`.

    `held` is what lives from step to step (`held_of`). While it `updates`, an optimizer works on its own share alone.
    """
    if step.devices == 1:
        return 0
    trained = held.get("gradients", 0)
    if step.sharding in (None, "none", "ddp"):
        return trained  # buckets, in which gradients travel
    divided = DIVIDED[step.sharding] + (("temporaries",) if updates else ())
    more = -sum(parts.get(part, 0) * (step.devices - 1) // step.devices for part in divided)
    if "weights" in divided:
        more += 2 * held.get("weights", 0) // max(layers, 1)  # two layers are whole while one computes and one is fetched
    return more + (0 if step.sharding == "fsdp" else min(trained, 500_000_000))


def held_of(segments: Iterable[Segment]) -> dict[str, int]:
    """Bytes of what lives from step to step, and of the gradients of one."""
    alive: dict[int, tuple[str, int]] = {}
    gradients = 0
    for segment in segments:
        for event in segment.events:
            part = event.name.partition("|")[2]
            if event.size >= 0 and event.number:
                alive[event.number] = (part, event.size)
                if part == "gradients" and segment.phase == "backward":
                    gradients += event.size
            elif event.number:
                alive.pop(event.number)
    found = {"gradients": gradients}
    for part, size in alive.values():
        if part in ("weights", "adapters", "optimizer"):
            found[part] = found.get(part, 0) + size
    return found
