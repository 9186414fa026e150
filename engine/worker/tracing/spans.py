"""Intervals of what a step takes, in bytes: what is left of an error, what other versions did, and what a card has at most."""

from typing import Any

from engine.worker.tracing import models
from recommender.facts import Machine
from recommender.step import TrainingStep


def around(point: int, margins: tuple[float, float], low: int, high: int) -> dict[str, int]:
    """A point and its interval; `low` and `high` are what the step's open questions take off and add."""
    return {"predicted": point, "low": int((point + low) * margins[0]), "high": int((point + high) * margins[1])}


def free(machine: Machine) -> int | None:
    """Bytes that are free, or the whole where only that is known; `None` where nothing is."""
    device = machine.device
    if device is None:
        return machine.ram_available if machine.backend == "cpu" else None
    return device.memory_free or device.memory_total


def limited(
    reserved: dict[str, int], allocated: dict[str, int], available: int | None, context: tuple[int, int, int]
) -> dict[str, int]:
    """What the allocator keeps on a card that has no more: it gives back what it does not use before it fails, and starts anew
    (CUDACachingAllocator.cpp, `release_cached_blocks`)."""
    room = None if available is None else available - context[0]
    if room is None or reserved["high"] <= room or allocated["predicted"] > room:
        return reserved
    if reserved["predicted"] <= room:
        return reserved | {"high": max(room, allocated["high"])}
    return {"predicted": room, "low": allocated["low"], "high": max(room, allocated["high"])}


def older(phases: dict[str, int], step: TrainingStep, content: dict[str, Any]) -> int:
    """Bytes that such a step took at most beyond `phases` in transformers 4.41 to 4.48; nobody's facts tell a version.

    The loss made a copy of the logits in fp32 once more, without the last token (loss_utils.py, `ForCausalLMLoss`; until labels
    were shifted instead), and before 4.46 what a model gave out was fp32 itself, which lives on where outputs are held.
    """
    if step.loss != "plain" or step.head != "causal_lm" or step.label_smoothing or step.target_length:
        return 0
    logits = step.micro_batch_rows * step.length * int(models.config_of(content).get_text_config().vocab_size)
    most = max(phases["loss"] + 4 * logits, phases["backward"] + (2 * logits if step.outputs_held else 0))
    return max(most - max(phases.values()), 0)
