"""One traced step: what was live when, as a stream by phase; and its work, for the time it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.needless import uncollected
from engine.prediction.stream import Segment
from engine.worker.tracing.kernels import Card, temporaries_on
from engine.worker.tracing.live import Live, Marks
from engine.worker.tracing.models import quiet
from engine.worker.tracing.pretend import pretending
from engine.worker.tracing.recorded import Recorded

OF_RANK = ("lora_A.", "lora_B.", "lora_embedding_A.", "lora_embedding_B.")
"""In the names of adapters' parameters: one side of theirs is the rank."""
WORDS = 1_000
"""Width from which on a last dimension that is the vocabulary's is taken for logits."""


@dataclass(slots=True)
class Traced:
    """A model's step at some depth."""

    recorded: Recorded
    segments: list[Segment]
    layers: int
    trained: tuple[int, int]
    """Parameters that the step trains, and those of them that grow with the adapters' rank."""

    def live(self, *, granule: int = 512) -> np.ndarray[Any, Any]:
        """Bytes during each operation, temporaries included."""
        return np.asarray(self.recorded.live(granule=granule) + self.recorded.extra(granule=granule))


Loop = Any
"""Something with `model`, `depth`, `vocabulary` and `run()`."""


def trace(
    build: Callable[[Live], Loop],
    card: Card,
    *,
    attention: str | None = None,
    padded: bool = False,
    windows: bool = True,
    calls: Any = None,
) -> Traced:
    """Build a loop and run it on the meta device, which stands for `card`; `calls` is told of every operation."""
    live = Live(temporaries_on(card), padded=padded, calls=calls, cache=card.cache)
    with quiet(), uncollected(), pretending(card, attention, windows=windows), live.watching(), live:
        loop = build(live)
        loop.run()
    live.recorded.trained = sum(p.requires_grad for p in loop.model.parameters())
    adapters = {live.number_of(p) for name, p in loop.model.named_parameters() if "lora_" in name}
    part_of = _parts(live.recorded, adapters, loop.vocabulary)
    return Traced(live.recorded, live.recorded.segments(part_of), loop.depth, _trained(loop.model))


def _trained(model: Any) -> tuple[int, int]:
    learned = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    return sum(n for _, n in learned), sum(n for name, n in learned if any(part in name for part in OF_RANK))


def _parts(recorded: Recorded, adapters: set[int | None], vocabulary: int) -> Callable[[int], str]:
    """What each storage is, by when it was made and when it went."""
    phase = [*recorded.phase_of(), "end"]

    def part_of(number: int) -> str:
        begun = phase[recorded.begins[number]].removeprefix("first ")
        ended = phase[min(recorded.ends.get(number, len(recorded)), len(recorded))].removeprefix("first ")
        shape = recorded.shapes[number]
        if number in adapters:
            return "adapters"
        if begun.startswith("load"):
            return "weights"
        if begun.startswith("workspace"):
            return "workspace"
        if shape and shape[-1] == vocabulary >= WORDS and begun != "optimizer" and ended != "optimizer":
            return "logits"
        if begun == "optimizer":
            return "optimizer" if ended in ("end", "save") else "temporaries"
        if begun == "backward":
            return "gradients" if ended in ("optimizer", "forward", "evaluation", "end") else "temporaries"
        return "activations" if ended in ("backward", "optimizer", "end") else "temporaries"

    return part_of


def workspace(marks: Marks, size: int, after: str) -> torch.Tensor | None:
    """What cuBLAS takes for a thread at its first product, and keeps; `after` is the phase that goes on then."""
    if not size:
        return None
    marks.phase("workspace")
    made = torch.empty(size, dtype=torch.uint8, device="meta")
    marks.phase(after)
    return made
