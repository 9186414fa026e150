"""What a training step keeps in memory, part by part, on one device: bytes from the model's dimensions.

The saved bytes a token and layer are exact differences of traced models (docs/method-guide.md, "Memory"): 20H + 8I for a Llama
in pure bf16, 34H + 8I for a BERT in fp32, and so on; H hidden size, I width of the feed-forward part, r rank.
"""

from dataclasses import dataclass

from recommender.counting import is_labelled
from recommender.facts import DataFacts, Facts
from recommender.plan import Plan
from recommender.recommendation import AdapterDtype, Method, Precision, Settings, Trained
from recommender.shape import NF4_BYTES, Shape, quantised_bytes

SCORE_BYTES_CPU = 20
"""Bytes a score of attention: 12 are kept (softmax, its dropout's fp32 mask, the product), the rest is what the heap loses
between blocks of so many sizes. A full fine-tune of MiniLM at 512 tokens peaked at 3.6 GB; this makes it 3.4."""
SCORE_BYTES = {"fp32": 9, "bf16-mixed": 7, "fp16-mixed": 7, "bf16": 5}
"""Where attention is not fused on an accelerator: softmax, its dropout and their product."""
LOGIT_BYTES = 10
"""A logit in 16 bit, its fp32 copy and its gradient."""
OUTSIDE = 24
"""Bytes a token and unit of width outside the layers: embeddings, last norm, the loss's copy and the gradient that comes back.
Differences of measured steps on an H100 lie between 17 and 34 (benchmarks/results/gpu-memory.json)."""
RECOMPUTED = 1.5
"""Of a layer's saved bytes, what lives while one is computed again: they and the gradients that pass through (the same cells)."""
CHECKPOINTS = 4
"""That are on the disk at once at most: the two newest, the best one, and one that is being written."""
BESIDE_CHECKPOINT = 1_000_000
"""Bytes of a checkpoint that are neither weights nor moments: schedule, model card, the course so far."""
BESIDE_WEIGHTS = 50_000_000
"""Bytes on the disk that tokenizer, card, scores and logs take beside the weights of a result."""
BESIDE_RESULT = 1_000_000
"""What scores, report and log still take once the result is saved."""


@dataclass(frozen=True, slots=True)
class Step:
    """The choices that decide a step's memory."""

    method: Method
    precision: Precision
    rank: int = 0
    micro_tokens: int = 0
    """Padded tokens of one micro-batch."""
    length: int = 0
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    trained: Trained = "all"
    last_layers: int | None = None
    dropout: float = 0.0
    adapter_dtype: AdapterDtype = "fp32"
    accumulates: bool = False
    """Whether the logical batch is cut in several: gradients are then there while the next is read."""
    target_modules: str | None = None
    """What adapters are put on; `None` stands for all linear maps. Of this and the next only a trace tells the memory."""
    dora: bool = False
    batch: int = 0
    """Rows of the logical batch; 0 where it is not known."""
    scored: int = 0
    """Padded tokens of one micro-batch that is only scored."""


def parts_of(facts: Facts, shape: Shape, step: Step) -> dict[str, int]:
    """Bytes by name: weights, gradients, optimizer, activations, logits."""
    scores = score_bytes(facts, shape, step.precision) * shape.heads * step.length
    return states(facts, shape, step) | {
        "activations": activations(shape, step, scores),
        "logits": logits(facts, shape, step.micro_tokens),
    }


def states(facts: Facts, shape: Shape, step: Step) -> dict[str, int]:
    """Weights, gradients and optimizer states in bytes."""
    trained = trained_parameters(shape, facts.data, step.method, step)
    moments = 2 if step.optimizer.startswith("adamw_8bit") else 8
    wide = wide_moments(shape, step.method, step.trained, step.optimizer)
    if step.method != "full":
        width = 2 if step.adapter_dtype == "bf16" else 4  # moments are held as the weights are
        weights = int(_base_bytes(facts, shape, step)) + width * trained
        return {"weights": weights, "gradients": width * trained, "optimizer": min(moments, 2 * width) * trained}
    n = shape.parameters
    half = step.precision == "bf16"
    width = 2 if half else 4
    weights = width * n
    if step.precision.endswith("-mixed"):
        weights += 2 * shape.linear_parameters  # autocast's 16-bit copies live from forward to backward
    narrow = (min(moments, 4) if half else moments) * (trained - wide)
    return {"weights": weights, "gradients": width * trained, "optimizer": narrow + 8 * wide}


def wide_moments(shape: Shape, method: Method, trained: Trained, optimizer: str) -> int:
    """Parameters whose moments 8-bit AdamW keeps in fp32: those of embeddings, as transformers' Trainer asks of bitsandbytes.

    An output layer that shares their weights is one with them, one of its own has 8-bit moments; adapters train no embeddings.
    """
    return shape.table_parameters if method == "full" and trained == "all" and optimizer.startswith("adamw_8bit") else 0


def _base_bytes(facts: Facts, shape: Shape, step: Step) -> float:
    """The frozen base: 16 bit (fp32 in fp32); under QLoRA its linear maps in 4 bit, and the embeddings as they were."""
    width = 4 if step.precision == "fp32" else 2
    quantised = quantised_bytes(facts.model)
    if quantised is not None:
        return quantised * shape.linear_parameters + width * shape.embedding_parameters
    if step.method == "qlora":
        whole = min(shape.never_quantised, shape.linear_parameters)
        return NF4_BYTES * (shape.linear_parameters - whole) + 2 * whole + width * shape.embedding_parameters
    return width * shape.parameters


def trained_parameters(shape: Shape, data: DataFacts, method: Method, chosen: Step | Settings | Plan) -> int:
    """How many parameters the method updates, the new head included."""
    head = (data.classes or 2) * (shape.hidden + 1) if is_labelled(data) else 0
    if method != "full":
        return (chosen.rank or 0) * shape.adapter_parameters_per_rank + head
    if chosen.trained == "no_embeddings":
        return shape.linear_parameters + head
    if chosen.trained == "last_layers":
        return shape.linear_parameters * min(chosen.last_layers or 1, shape.layers) // max(shape.layers, 1) + head
    return shape.parameters + head


def score_bytes(facts: Facts, shape: Shape, precision: Precision) -> int:
    """Bytes of each attention score kept: none where a fused kernel runs.

    There is none on a CPU with dropout in attention, nor on Apple's devices, nor where the configuration says eager.
    """
    config = facts.model.config or {}
    if facts.machine.device is None and facts.machine.backend in ("cpu", "mps"):
        named = [config[name] for name in ("attention_probs_dropout_prob", "attention_dropout") if name in config]
        return SCORE_BYTES_CPU if (any(named) if named else shape.family == "encoder") else 0
    eager = config.get("_attn_implementation") == "eager" or facts.machine.backend == "mps"
    return SCORE_BYTES[precision] if eager else 0


def activations(shape: Shape, step: Step, scores: int) -> int:
    """Bytes kept from forward to backward, with `scores` bytes of attention scores a token and layer.

    With checkpointing only each layer's input is kept, and one layer lives while it is computed again. Layers below the
    trained ones keep nothing.
    """
    layer = (layer_bytes(shape, step) + scores) * step.micro_tokens
    outside = OUTSIDE * shape.hidden * step.micro_tokens
    if step.trained == "last_layers":
        return layer * min(step.last_layers or 1, shape.blocks) + outside
    if not step.gradient_checkpointing:
        return layer * shape.blocks + outside
    narrow = step.precision == "bf16" or (step.method != "full" and step.precision != "fp32")
    return (2 if narrow else 4) * shape.hidden * step.micro_tokens * shape.blocks + int(RECOMPUTED * layer) + outside


def layer_bytes(shape: Shape, step: Step) -> int:
    """Saved bytes of one token in one layer, attention scores aside."""
    h, i, kv = shape.hidden, shape.active_intermediate, shape.key_value_width
    adapters, wide, r = step.method != "full", step.precision == "fp32", step.rank
    if not shape.gated:
        if wide:
            return 34 * h + 8 * i + 4 * shape.heads + (28 * r if adapters else 0)
        if step.precision == "bf16":
            return 18 * h + 4 * i + 4 * shape.heads
        return 26 * h + 4 * i + 4 * shape.heads + (2 * h + 14 * r if adapters else 0)
    if wide:
        kept = 40 * h + 8 * kv + 16 * i + (28 * r if adapters else 0)
    elif not adapters:
        kept = (20 if step.precision == "bf16" else 30) * h + 4 * kv + 8 * i
    else:
        kept = 24 * h + 4 * kv + 8 * i + 14 * r
    if adapters and step.dropout:
        kept += 6 * h + i  # a mask of one byte for the input of every adapted map
    return kept + 4 * shape.heads


def loss_chunk(vocabulary: int, *, cpu: bool) -> int:
    """Tokens whose logits exist at once, in the engine's loss and in this formula: 50 MB of fp32 a CPU for 49,152 words.

    On other devices up to 2,048 tokens keep the products large, and 2^27 logits (0.5 GB of fp32) are the most.
    """
    return 256 if cpu else min(max(2**27 // max(vocabulary, 1) // 64 * 64, 256), 2048)


def logits(facts: Facts, shape: Shape, tokens: int) -> int:
    """Bytes of the vocabulary logits that exist at once and of their loss; a classifier's are too few to count."""
    if is_labelled(facts.data):
        return 0
    chunk = loss_chunk(shape.vocabulary, cpu=facts.machine.device is None)
    return LOGIT_BYTES * shape.vocabulary * min(tokens, chunk)


def disk_needed(shape: Shape, method: Method, trained: int, settings: Settings | Plan) -> int:
    """Bytes on disk: the checkpoints that are there at once, and the saved result."""
    weights = _saved_bytes(shape, method, trained, settings)
    return CHECKPOINTS * checkpoint_bytes(shape, method, trained, settings) + weights + BESIDE_WEIGHTS


def checkpoint_bytes(shape: Shape, method: Method, trained: int, settings: Settings | Plan) -> int:
    """Bytes of a checkpoint: what is trained, as it is held, and two moments for each such parameter."""
    weights = _saved_bytes(shape, method, trained, settings)
    wide = wide_moments(shape, method, settings.trained, settings.optimizer)
    moment = 1 if settings.optimizer.startswith("adamw_8bit") else _width(method, settings)
    return weights + 2 * moment * (trained - wide) + 8 * wide + BESIDE_CHECKPOINT


def _saved_bytes(shape: Shape, method: Method, trained: int, settings: Settings | Plan) -> int:
    """Of a model's weights, or its adapters', in a checkpoint or the result."""
    return _width(method, settings) * (shape.parameters if method == "full" else trained)


def _width(method: Method, settings: Settings | Plan) -> int:
    """Bytes in which a trained parameter is held."""
    narrow = settings.precision == "bf16" if method == "full" else settings.adapter_dtype == "bf16"
    return 2 if narrow else 4
