"""Hyper-parameters for each cell of a table: method x model size x data size (docs/method-guide.md, section 5)."""

import math
import re
from typing import Literal

from recommender import kernels, rates
from recommender.counting import (
    Split,
    classes_of,
    examples_of,
    folds_of,
    is_labelled,
    skewed,
    split_of,
    trained_tokens,
)
from recommender.facts import Bf16Trial, DataFacts, Facts, Machine
from recommender.plan import metrics_of
from recommender.recommendation import Method, Precision, Settings, Trained
from recommender.shape import Shape, fp16_hostile, t5_like, tuned_as_encoder

ALL_LINEAR = "all-linear"
"""Adapters on every linear map, as peft and a plan say it."""
LENGTH_STEP = 8
UNKNOWN_LENGTH = 512
"""Taken where no text was measured."""
BLOCK_LENGTH = 2048
"""Raw text is cut into blocks of so many tokens, and none is lost."""
TOKEN_BUDGET_CPU = 1024
TOKEN_BUDGET_DEVICE = 16_384
"""Padded tokens a micro-batch may hold to start with. Measured on a CPU in fp32: beyond 1,024 nothing is faster, and memory grows
(SmolLM2-135M, LoRA: 241 tokens/s in 3.1 GB, with 2,048 228 tokens/s in 4.8 GB)."""
TOKEN_BUDGET_NARROW, NARROW = {"full": 4096, "lora": 2048, "qlora": 2048}, 512
"""Of encoders that are at most so wide, on a CPU. Half of their weights are embeddings, whose gradient is written and added up
once a micro-batch: MiniLM (384 wide, texts of 250 tokens) takes 8% less time a step in fp32 than with 1,024, for 0.6 GB more, and
15% less in bf16, for 0.5 GB more. With adapters it is 7%, and beyond 2,048 nothing is gained for another 0.6 GB. With layers
of 768 it is 1 to 3%, which is not worth the memory."""
TOKEN_BUDGET_BF16, SMALL = 2048, 1024
"""Of decoders with adapters that are at most so wide, in bf16 on a CPU. Products are so quick there that what every micro-batch
costs beside them shows: SmolLM2-135M takes 7 to 9% less time with 2,048 than with 1,024, for 0.9 GB more (by the formula)."""
LAST_LAYERS = 2
LEAST_VALIDATION = 20
"""Rows, or blocks of raw text, from which better can be told from worse (K)."""
BF16_GAIN = 1.15
"""How many times as fast bf16 must be on a CPU before it is worth its rounding (K)."""
LOSSES_APART, GRADIENTS_APART = 0.01, 0.25
"""How far bf16 may be from fp32 in a step from the same start: of the loss 0.0001 to 0.002 was seen, of the gradients 0.01 to
0.05; a kernel that computes something else is off by about the whole."""
_BEFORE_BF16 = re.compile(r"\b(T4|V100|P100|P40|P4|K80|M60)\b|GTX|RTX ?20\d\d|TITAN|Quadro", re.IGNORECASE)
"""NVIDIA's devices before Ampere, which have no bf16, by name."""


def settings_for(facts: Facts, shape: Shape, method: Method, trained: Trained = "all") -> Settings:
    """The table's row for this method, model and data set."""
    data = facts.data
    encoder = tuned_as_encoder(shape, data)
    split = split_of(data)
    length = max_length_of(shape, data)
    rows = training_rows(data, split, length)
    epochs = rates.epochs_of(shape, data, method, encoder, trained)
    usual = rates.usual_batch(shape, data, method, encoder=encoder, rows=rows, length=length)
    batch = rates.effective_batch_of(usual, encoder=encoder, rows=rows, epochs=epochs)
    if data.task == "continued_pretraining":
        epochs = rates.passes_over_text(rows, batch)
    steps = rates.steps_of(rows, epochs, batch)
    adapters = method != "full"
    rank = rates.rank_of(shape, data, facts.goal, encoder) if adapters else None
    examples = examples_of(data, length)
    seen = examples * split.validation / max(sum(split), 1) if data.task == "continued_pretraining" else split.validation
    return Settings(
        learning_rate=rates.learning_rate_of(shape, data, method, encoder, steps=steps, trained=trained, t5=t5_like(facts.model)),
        epochs=epochs,
        effective_batch=batch,
        total_steps=steps,
        warmup_steps=round(steps * rates.warmup_share(data, encoder)),
        schedule="linear" if encoder else "cosine",
        max_length=length,
        weight_decay=0.01,
        max_grad_norm=0.3 if adapters else 1.0,
        precision=precision_of(facts, shape, method),
        gradient_checkpointing=False,
        optimizer="adamw",
        trained=trained,
        last_layers=LAST_LAYERS if trained == "last_layers" else None,
        rank=rank,
        alpha=(2 * rank if encoder else 32) if rank is not None else None,
        target_modules=ALL_LINEAR if adapters else None,
        dropout=rates.dropout_of(shape, data, encoder) if adapters else None,
        seeds=tuple(range(1, 1 + seeds_for(examples))),
        metric=metric_of(data),
        class_weights=skewed(data),
        label_smoothing=label_smoothing_of(data),
        early_stopping=seen >= LEAST_VALIDATION,
        patience=5 if examples < 1_000 else 3,
        evaluations=10,
        token_budget=token_budget_of(facts, shape, method),
        validation_rows=split.validation,
        held_out_rows=split.held_out,
        folds=folds_of(data),
        kernels=kernels.kernels_for(facts, shape),
    )


def token_budget_of(facts: Facts, shape: Shape, method: Method) -> int:
    """Padded tokens of a micro-batch, to start with."""
    if facts.machine.device is not None:
        return TOKEN_BUDGET_DEVICE
    if shape.family == "encoder":
        return TOKEN_BUDGET_NARROW[method] if shape.hidden <= NARROW else TOKEN_BUDGET_CPU
    quick = shape.family == "decoder" and method != "full" and precision_of(facts, shape, method) == "bf16-mixed"
    return TOKEN_BUDGET_BF16 if quick and shape.hidden <= SMALL else TOKEN_BUDGET_CPU


def training_rows(data: DataFacts, split: Split, length: int) -> int:
    """What a batch counts: rows, or full blocks of `length` tokens of raw text."""
    if data.task != "continued_pretraining":
        return split.train
    return max(1, math.ceil(trained_tokens(data) * split.train / max(sum(split), 1) / max(length, 1)))


def seeds_for(unique: int) -> int:
    """Runs a careful comparison takes (E13)."""
    return 5 if unique < 1_000 else 3 if unique < 10_000 else 2 if unique < 100_000 else 1


def metric_of(data: DataFacts) -> str:
    """What is watched on the validation rows: the task's usual metric, which is the loss where text is written."""
    return metrics_of(data.task)[0]


def label_smoothing_of(data: DataFacts) -> float:
    """0.05 where 3 to 6% of the rows contradict each other, 0.1 up to 10%; else none."""
    share = data.conflict_share or 0.0
    if (data.task or "classification") != "classification" or (classes_of(data) or 2) < 2 or not 0.03 <= share <= 0.10:
        return 0.0
    return 0.05 if share <= 0.06 else 0.1


def precision_of(facts: Facts, shape: Shape, method: Method) -> Precision:
    """The precision that trains safely here. Pure fp16 never does (E32); families that overflow in fp16 train in fp32."""
    machine = facts.machine
    device = machine.device
    if device is None:
        return "bf16-mixed" if bf16_on_cpu(facts, method) == "faster" else "fp32"
    if machine.backend == "mps":
        return "bf16-mixed" if device.bf16 and shape.parameters > 1e9 else "fp32"
    if supports_bf16(machine):
        return "bf16-mixed"
    old = device.compute_capability is not None and device.compute_capability < (6, 0)
    return "fp32" if old or fp16_hostile(facts.model) else "fp16-mixed"


def bf16_on_cpu(facts: Facts, method: Method) -> Literal["untried", "wrong", "slower", "faster"]:
    """What the trial of the method's own step says of bf16 on this CPU: without one it is never taken."""
    trial = (facts.measured.bf16 or {}).get(method)
    if trial is None:
        return "untried"
    apart = losses_apart(trial)
    if apart is None or apart > LOSSES_APART or trial.gradients_apart is None or trial.gradients_apart > GRADIENTS_APART:
        return "wrong"
    return "faster" if trial.speedup >= BF16_GAIN else "slower"


def losses_apart(trial: Bf16Trial) -> float | None:
    """How far the loss in bf16 is from that in fp32, as a share of it; `None` where it is no number."""
    return None if trial.loss is None else abs(trial.loss - trial.loss_fp32) / max(trial.loss_fp32, 1e-6)


def supports_bf16(machine: Machine) -> bool:
    """Whether the device computes in bf16; told by its name where nobody tried, assumed of an unknown one."""
    device = machine.device
    if device is None or device.bf16 is not None:
        return bool(device and device.bf16)
    capability = device.compute_capability
    if capability is None:
        return not _BEFORE_BF16.search(device.name or "")
    return capability >= (8, 0)


UNTOLD = 1 / 32
"""Of tokens that are estimated, how many more there may be: templates write lists of tools in 2.4% more than told. Where all
conversations are about as long, all would lose the end of their answers to a length that is one token short."""


def max_length_of(shape: Shape, data: DataFacts) -> int:
    """The 95th percentile of the texts (99th where text is generated), rounded up to 8, within the model's limit."""
    if data.task == "continued_pretraining":
        return min(shape.positions, 2 * BLOCK_LENGTH if (data.tokens_p50 or 0) > BLOCK_LENGTH else BLOCK_LENGTH)
    wanted = data.tokens_p95 if is_labelled(data) else data.tokens_p99
    if wanted is None:
        wanted = data.tokens_max if data.tokens_max is not None else data.tokens_p95
    if wanted is None:
        return min(shape.positions, UNKNOWN_LENGTH)
    longest = data.tokens_max or wanted
    if longest <= min(shape.positions, UNKNOWN_LENGTH):
        wanted = longest  # cutting nobody is free where the longest text is short
    if data.tokens_origin == "estimated":
        wanted = math.ceil(wanted * (1 + UNTOLD))
    return rounded_length(wanted, shape)


def rounded_length(tokens: int, shape: Shape) -> int:
    """A length as the plan takes it: a multiple of 8 that the model can read."""
    rounded = math.ceil(max(tokens, LENGTH_STEP) / LENGTH_STEP) * LENGTH_STEP
    return min(rounded, max(shape.positions, 2))
