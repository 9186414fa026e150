"""What may make a step faster and leaves what it learns: how memory is handed out, torch.compile, Liger's kernels.

Each is taken only where something that was measured, or that is known of machine and model, says that it pays.
"""

from typing import Literal, NamedTuple

from recommender.facts import Facts
from recommender.recommendation import Kernels, Memory, Method, Precision
from recommender.shape import Shape

ALLOCATOR_TIMES = 1.02
"""How many times as fast MiniLM's step on long rows is with the worker's allocator setting as without, in 11 to 13% less memory;
1.03 of SmolLM2 (benchmarks/results/allocator.json). The padded step of a plain Trainer gained more: 1.3
(seed_recipe-speed-imdb.json)."""


class Compiled(NamedTuple):
    """What compiling the layers of a model has saved and cost where it was measured."""

    saved: float
    """Share of the time of a step; 0 where it saved nothing, less where it cost more."""
    seconds: float
    """Of compiling, once a run."""


MEASURED: dict[tuple[Literal["encoder", "decoder"], Literal["full", "adapters"], Precision], Compiled] = {
    ("decoder", "adapters", "fp32"): Compiled(-0.44, 27.5),
    ("encoder", "full", "fp32"): Compiled(0.0, 27.0),
}
"""On a CPU of two cores (benchmarks/results/compiling.json: SmolLM2 with LoRA, MiniLM whole), by processor time, the C++
compiler's included. What is compiled multiplies by MKL, half as fast as oneDNN on that CPU; beside MKL it saved 2.7% of SmolLM2's
step and 0.4% of MiniLM's, the latter within the noise. What is not here was not measured, and neither was any GPU."""
MARGIN = 2.0
"""How many times its cost compiling must save: the time of a run is an estimate, and so is what another machine has shown (K)."""
MORE_MEMORY = 1.25
"""By how much the interval of the memory is widened for compiled layers: what they keep is not counted (K)."""

LIGER_MODELS = frozenset(
    {"gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)
"""Decoders of which Liger replaces norms, rotations and gated maps and nothing that Loracle's step goes past, by `model_type` and
by its code (0.8.5). It knows others, mixtures and models of pictures among them."""

Answer = Literal["pays", "short", "useless", "unmeasured"]


class Compiling(NamedTuple):
    """Whether to compile, and why."""

    answer: Answer
    saved: float = 0.0
    """Seconds of the run."""
    cost: float = 0.0
    """Seconds of the run."""
    share: float = 0.0
    """Of a step."""


def compiled(facts: Facts, shape: Shape, method: Method, precision: Precision) -> Compiled | None:
    """What was measured of such a step; `None` where nothing was."""
    if facts.machine.backend != "cpu":
        return None
    family: Literal["encoder", "decoder"] = "encoder" if shape.family == "encoder" else "decoder"
    return MEASURED.get((family, "full" if method == "full" else "adapters", precision))


def compiling(facts: Facts, shape: Shape, method: Method, precision: Precision, training: float) -> Compiling:
    """Whether it pays in a run that trains for `training` seconds without it."""
    known = compiled(facts, shape, method, precision)
    if known is None or shape.family == "encoder-decoder":
        return Compiling("unmeasured")
    saved = known.saved * training
    if saved <= 0:
        return Compiling("useless", cost=known.seconds, share=known.saved)
    return Compiling("pays" if saved >= MARGIN * known.seconds else "short", saved, known.seconds, known.saved)


def has_room(memory: Memory) -> bool:
    """Whether a step with that memory would surely find room with its layers compiled, too."""
    return memory.high * MORE_MEMORY <= memory.available


def widened(memory: Memory) -> Memory:
    """The memory of a step whose layers are compiled, which nothing has counted."""
    return memory.model_copy(update={"low": int(memory.low / MORE_MEMORY), "high": int(memory.high * MORE_MEMORY)})


def without_liger(facts: Facts, shape: Shape) -> Literal["no_gpu", "missing", "model"] | None:
    """Why Liger's kernels do not compute here; `None` where they can."""
    if facts.machine.backend != "cuda":
        return "no_gpu"
    if model_type(facts) not in LIGER_MODELS or shape.family != "decoder":
        return "model"
    return None if facts.machine.liger else "missing"


def kernels_for(facts: Facts, shape: Shape) -> Kernels:
    """Whose kernels the recommended plan takes."""
    return "liger" if without_liger(facts, shape) is None else "torch"


def model_type(facts: Facts) -> str | None:
    """`model_type` of the configuration, where it is known."""
    found = (facts.model.config or {}).get("model_type")
    return found if isinstance(found, str) else None
