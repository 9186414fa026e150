"""What one of several devices allocates: the stream of a step on one, its divided parts in shares, what is gathered beside."""

import math
from collections.abc import Iterable

from engine.prediction.stream import Event, Segment, held_of, phase_of
from recommender.sharing import DIVIDED, buckets, gathered
from recommender.step import TrainingStep

COMPUTING = ("forward", "loss", "backward", "evaluation")
NARROW = ("bfloat16", "float16")


def stored_wide(step: TrainingStep) -> bool:
    """Whether the devices divide fp32 copies of weights that are computed with in 16 bit: FSDP's mixed precision gathers narrow
    copies of wide shares (torch, `MixedPrecision`), DeepSpeed's optimizer keeps wide shares beside narrow weights (K = 12 bytes
    a weight in the paper on ZeRO)."""
    if step.method != "full" or step.devices == 1:
        return False
    mixed = step.base_dtype == "float32" and step.autocast in NARROW
    return mixed if step.sharding == "fsdp" else (mixed or step.base_dtype in NARROW) and step.sharding in DIVIDED


def computed(step: TrainingStep) -> TrainingStep:
    """The step that each device computes: `stored_wide` weights are narrow there."""
    return step.model_copy(update={"base_dtype": step.autocast}) if stored_wide(step) and step.autocast in NARROW else step


def divided(segments: list[Segment], step: TrainingStep, layers: int, table: int = 0) -> list[Segment]:
    """The stream that each device sees of a step that was traced as it is `computed`; `table` is the number of an embedding's
    weights, by which tables are known.

    What is gathered is there from the first layer to the last: its blocks are made again and again in the same sizes.
    """
    if step.devices == 1:
        return segments
    held = held_of(segments)
    shares, updating = _shares(step)
    whole = gathered(held, step.sharding, layers, _tables(segments, table))
    if step.frozen_kept and whole:
        whole = [held["weights"] - held["weights"] // step.devices]
    travelling = buckets(held, step.sharding, layers)
    numbers = iter(range(max((event.number for s in segments for event in s.events), default=0) + 1, 1 << 62))
    kept: list[Event] = []
    found, there = [], list[Event]()
    if stored_wide(step) and step.sharding != "fsdp":
        masters = -(-2 * held["gradients"] // step.devices)
        found.append(Segment("load masters", [Event(next(numbers), masters, "copy|optimizer")]))
    for segment in segments:
        phase = phase_of(segment.phase)
        events = [_share(event, updating if phase == "optimizer" else shares) for event in segment.events]
        if there and phase not in COMPUTING:
            events, there = [*_gone(there), *events], []
        elif whole and not there and phase in COMPUTING:
            there = [Event(next(numbers), size, "all_gather|weights") for size in whole]
            events = [*there, *events]
        if travelling and phase == "backward" and not kept:
            kept = [Event(next(numbers), travelling, "bucket|gradients")]
            events = [*kept, *events]
            if step.sharding == "fsdp":  # others keep theirs from step to step
                events, kept = [*events, *_gone(kept)], []
        found.append(Segment(segment.phase, events))
    return found


def _gone(events: Iterable[Event]) -> list[Event]:
    return [event._replace(size=-1) for event in events]


def _shares(step: TrainingStep) -> tuple[dict[str, float], dict[str, float]]:
    """How much of a block of each part a device has, usually and while it updates its share."""
    parts = DIVIDED.get(str(step.sharding), ())
    wide = 2 if stored_wide(step) else 1
    own = step.optimizer == "adamw" and step.optimizer_state_dtype is None and step.optimizer_implementation != "bitsandbytes"
    times = {"optimizer": wide if own else 1, "temporaries": wide} | (
        {"weights": wide, "gradients": wide} if step.sharding == "fsdp" else {}
    )
    shares = {part: times.get(part, 1) / step.devices for part in parts}
    return shares, shares | ({"temporaries": times["temporaries"] / step.devices} if parts else {})


def _share(event: Event, shares: dict[str, float]) -> Event:
    share = shares.get(event.name.partition("|")[2] or "temporaries")
    return event if share is None or event.size <= 0 else event._replace(size=math.ceil(share * event.size))


def _tables(segments: list[Segment], table: int) -> int:
    """Bytes of the embeddings and of a head that is not tied to them."""
    alive: dict[int, int] = {}
    for segment in segments:
        if phase_of(segment.phase) != "load":
            break
        for event in segment.events:
            if event.size < 0:
                alive.pop(event.number, None)
            elif table and event.size in (2 * table, 4 * table) and event.name.endswith("|weights"):
                alive[event.number] = event.size
    return sum(alive.values())
