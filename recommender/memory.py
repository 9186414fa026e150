"""Peak memory from facts, before anything is loaded.

The formula is evidence.md 2.2 (E10, E21-E23, E31): 1.1 x (states + activations + logits + runtime) must fit into 92% of
what is free. Traced predictions will replace the activation term; its shape here stays for the explanation.
"""

from recommender.facts import CLASSIFYING, DataFacts, Facts, Machine
from recommender.recommendation import Memory, Method, Precision
from recommender.shape import Shape

RUNTIME_BYTES = 600_000_000
"""Libraries, kernels and buffers that any run holds on a GPU (E22)."""
RUNTIME_BYTES_CPU = 900_000_000
"""On a CPU the same memory holds Python's libraries too, and what the allocator keeps: 0.9 to 1.0 GB beside states and
activations in this worker's own runs of MiniLM (full and LoRA, torch 2.13)."""
SCORE_BYTES_CPU = 20
"""Bytes a score of attention: 12 are kept (softmax, its dropout's fp32 mask, the product), the rest is what the heap loses
between blocks of so many sizes. A full fine-tune of MiniLM at 512 tokens peaked at 3.6 GB; this makes it 3.4."""
MARGIN = 1.1
USABLE_SHARE = 0.92
UNKNOWN_MEMORY = 8 * 1024**3
"""Assumed free where nothing is known of the machine."""
FREE_SHARE = 0.7
"""Assumed free of a memory whose size alone is known."""
UNCERTAINTY = (0.8, 1.25)
"""The formula's anchors lie within -10% and +13% (evidence 2.2); doubled for models that are not anchors."""


def available_memory(machine: Machine) -> tuple[int, bool]:
    """Bytes a run may use now on the one device it would see, and whether that is known."""
    device = machine.device
    free, total = (device.memory_free, device.memory_total) if device else (machine.ram_available, machine.ram_total)
    if free is not None:
        return free, True
    return (int(FREE_SHARE * total) if total is not None else UNKNOWN_MEMORY), False


def predict(
    facts: Facts,
    shape: Shape,
    method: Method,
    precision: Precision,
    *,
    rank: int,
    micro_tokens: int,
    length: int,
    gradient_checkpointing: bool,
) -> Memory:
    """Peak memory of one method in bytes, for micro-batches of `micro_tokens` padded tokens of `length` at most."""
    parts = states(shape, facts.data, method, precision, rank)
    scores = SCORE_BYTES_CPU * shape.heads * length if keeps_scores(facts, shape) else 0
    parts["activations"] = activations(shape, precision, micro_tokens, scores, gradient_checkpointing)
    parts["logits"] = logits(shape, facts.data, micro_tokens)
    parts["runtime"] = RUNTIME_BYTES if facts.machine.devices else RUNTIME_BYTES_CPU
    peak = int(MARGIN * sum(parts.values()))
    available, known = available_memory(facts.machine)
    low, high = UNCERTAINTY
    return Memory(
        predicted=peak,
        low=int(peak * low),
        high=int(peak * high),
        available=available,
        origin="estimated" if known and not shape.assumed else "assumed",
        parts=parts,
    )


def fits(memory: Memory) -> bool:
    """Whether the predicted peak leaves the stated head-room."""
    return memory.predicted <= USABLE_SHARE * memory.available


def states(shape: Shape, data: DataFacts, method: Method, precision: Precision, rank: int) -> dict[str, int]:
    """Weights, gradients and optimizer states in bytes."""
    n = shape.parameters
    if method == "full":
        return {"weights": 4 * n, "gradients": 4 * n, "optimizer": 8 * n}
    adapters = trained_parameters(shape, data, method, rank)
    if method == "lora":
        weights = (4 if precision == "fp32" else 2) * n
    else:
        weights = int(0.55 * shape.linear_parameters) + 4 * shape.embedding_parameters
    return {"weights": weights + 4 * adapters, "gradients": 4 * adapters, "optimizer": 8 * adapters}


def trained_parameters(shape: Shape, data: DataFacts, method: Method, rank: int) -> int:
    """How many parameters the method updates, the new head included."""
    head = (data.classes or 2) * (shape.hidden + 1) if (data.task or "classification") in CLASSIFYING else 0
    if method == "full":
        return shape.parameters + head
    return rank * shape.adapter_parameters_per_rank + head


def keeps_scores(facts: Facts, shape: Shape) -> bool:
    """Whether attention keeps its score matrices: on a CPU with dropout in it there is no fused kernel."""
    if facts.machine.devices:
        return False
    config = facts.model.config or {}
    named = [config[name] for name in ("attention_probs_dropout_prob", "attention_dropout") if name in config]
    return any(named) if named else shape.family == "encoder"


def activations(shape: Shape, precision: Precision, tokens: int, scores: int, checkpointing: bool) -> int:
    """Bytes kept from forward to backward for `tokens` padded tokens, with `scores` bytes of attention scores each.

    34h a token and layer in 16 bit, twice that in fp32, 2h (4h) plus one live layer with checkpointing (memory.md,
    section 6: 66.08h measured for BERT in fp32).
    """
    wide = 2 if precision == "fp32" else 1
    layer = (34 * wide * shape.hidden + scores) * tokens
    if not checkpointing:
        return layer * shape.layers
    return 2 * wide * shape.hidden * tokens * shape.layers + layer


def logits(shape: Shape, data: DataFacts, tokens: int) -> int:
    """Bytes of the vocabulary logits and their loss: 10 a token and word; a classifier's are too few to count."""
    if (data.task or "classification") in CLASSIFYING:
        return 0
    return 10 * shape.vocabulary * tokens


def disk_needed(shape: Shape, method: Method, trained: int) -> int:
    """Bytes on disk: two verified checkpoints, a third while it is written, and the saved result."""
    weights = 4 * shape.parameters if method == "full" else 4 * trained
    checkpoint = weights + 8 * trained
    return 3 * checkpoint + weights + 50_000_000
