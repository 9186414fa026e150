"""Intervals of what a step takes, in bytes: what is left of an error, what other versions did, and what a card has at most."""

from typing import Any

from engine.worker.tracing import models
from engine.worker.tracing.kernels import BLACKWELL, WORKSPACE, WORKSPACE_ELSEWHERE, Card
from recommender.facts import Machine
from recommender.step import TrainingStep, version_of

LOSSES: tuple[tuple[tuple[int, int], tuple[int, int, int], tuple[int, int, int]], ...] = (
    ((4, 46), (2, 0, 2), (0, 0, 0)),
    ((4, 49), (4, 0, 0), (2, 0, -2)),
    ((99, 0), (0, 0, 0), (-2, -2, -2)),
)
"""By the first version of transformers that no longer does so: bytes of a logit that a plain loss and a fused one take beside
what is traced, in the loss (of an evaluation too), in the backward pass, and there too where outputs are held.

Up to 4.45 what a model gave out was fp32 itself; up to 4.48 the loss copied the logits in fp32 once more, without the last token;
then labels were shifted instead (loss_utils.py, `ForCausalLMLoss`). A plain loss is traced as it is now, a fused one as it was in
4.45 (`plain.PlainLoop`)."""


def around(point: int, margins: tuple[float, float], low: int, high: int) -> dict[str, int]:
    """A point and its interval; `low` and `high` are what the step's open questions take off and add."""
    return {"predicted": point, "low": int((point + low) * margins[0]), "high": int((point + high) * margins[1])}


def free(machine: Machine) -> int | None:
    """Bytes that are free, or the whole where only that is known; `None` where nothing is."""
    device = machine.device
    if device is None:
        return machine.ram_available if machine.backend == "cpu" else None
    return device.room


def before(card: Card, step: TrainingStep) -> int:
    """Bytes that a loop of someone else's may take less because its torch, which is not said, is one before 2.12: the workspaces
    of two threads (`kernels.BLACKWELL`)."""
    return 2 * (card.workspace - WORKSPACE_ELSEWHERE) if card.capability[0] in BLACKWELL and step.torch is None else 0


def unnamed(card: Card) -> int:
    """Bytes that a step may take more because its card, which is not said or not known, is one with larger workspaces: those of
    two threads (`kernels.WORKSPACE`)."""
    return 2 * (max(WORKSPACE.values()) - card.workspace) if card.kind == "cuda" else 0


def with_paged(device: dict[str, int], step: TrainingStep, gradients: int, table: int, free: int | None) -> dict[str, int]:
    """What a process holds on the device, where its optimizer's paged states may be too: the driver moves them to the card when
    the optimizer reads them, and away for want of room (bitsandbytes, `get_managed`). torch's counters do not see them, and not
    every other one does.

    Every choice of `step` is known. `gradients` in bytes, `table` in numbers of the embedding, whose states may be fp32.
    """
    if "paged" not in step.optimizer:
        return device
    held = step.adapter_dtype if step.adapters else step.base_dtype
    moments, narrow = 1 if "lion" in step.optimizer else 2, "8bit" in step.optimizer
    states = gradients // (4 if held == "float32" else 2) * moments * (1 if narrow else 4)
    if narrow and not step.adapters and step.embeddings_in_fp32:
        states += 3 * moments * table
    high = device["high"] + states
    return device | {"high": min(high, max(free or high, device["high"]))}


def limited(
    reserved: dict[str, int], allocated: dict[str, int], available: int | None, context: tuple[int, int, int]
) -> dict[str, int]:
    """What the allocator keeps on a card that has no more: it gives back what it does not use before it fails, and starts anew
    (CUDACachingAllocator.cpp, `release_cached_blocks`). Where it comes near the end it may have had to: a screen or another
    process takes memory too."""
    if available is None or allocated["predicted"] > (room := available - context[0]) or reserved["high"] <= room:
        return reserved
    high = max(min(reserved["high"], available - context[1]), allocated["high"])
    if reserved["predicted"] <= room:
        return reserved | {"low": min(reserved["low"], allocated["low"]), "high": high}
    return {"predicted": room, "low": allocated["low"], "high": high}


def of_versions(phases: dict[str, int], step: TrainingStep, content: dict[str, Any]) -> list[dict[str, int]]:
    """`phases` (bytes by name) as they would be with the losses of other versions of transformers, from 4.41 on; with that of its
    own version alone where the step says one. Else nobody tells, and the interval has to hold them all."""
    fused = step.loss == "fused" and step.kernels != "liger"
    if not (step.loss == "plain" or fused) or step.head != "causal_lm" or step.label_smoothing or step.target_length:
        return []
    logits = step.micro_batch_rows * step.length * int(models.config_of(content).get_text_config().vocab_size)
    found = []
    for until, plain, in_place in LOSSES:
        loss, backward, held = in_place if fused else plain
        backward += held if step.outputs_held else 0
        each = {"loss": loss, "backward": backward, "evaluation": loss}
        changed = {phase: phases[phase] + more * logits for phase, more in each.items()}
        if step.transformers is None:
            found.append(phases | changed)
        elif version_of(step.transformers) < until:
            return [phases | changed]
    return found
