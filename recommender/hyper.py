"""Hyper-parameters for each cell of the evidence table: method x model size x data size (evidence.md, section 3)."""

import math
from typing import NamedTuple

from recommender.facts import CLASSIFYING, DataFacts, Facts, Machine
from recommender.recommendation import Method, Precision, Settings
from recommender.shape import Shape, tuned_as_encoder

LENGTH_STEP = 8
UNKNOWN_ROWS = 1_000
"""Assumed where no rows were counted."""
VALIDATION_SHARE = 0.15
"""Of the rows left after the held-out ones, below 5,000 rows; a tenth above, never more than 2,000 rows."""
TOKEN_BUDGET_CPU = 2048
TOKEN_BUDGET_DEVICE = 16_384
"""Padded tokens a micro-batch may hold to start with. Measured on a CPU: beyond 2,048 nothing gets faster."""


class Split(NamedTuple):
    """Rows by use."""

    train: int
    validation: int
    held_out: int
    """Carved from the data; 0 when a held-out file was given."""


def split_of(data: DataFacts) -> Split:
    """How many rows serve for what (evidence section 3, "Splits")."""
    unique = counted_rows(data)
    held_out = 0
    if data.eval_rows is None:
        held_out = int(unique * 0.15) if unique < 5_000 else min(unique // 10, 10_000)
    rest = unique - held_out
    validation = int(rest * VALIDATION_SHARE) if rest < 5_000 else min(rest // 10, 2_000)
    return Split(rest - validation, validation, held_out)


def counted_rows(data: DataFacts) -> int:
    """U: rows that remain once repeated texts are counted once."""
    rows = rows_of(data)
    if rows is None:
        return UNKNOWN_ROWS
    if data.unique_rows is not None:
        return min(data.unique_rows, rows)
    return round(rows * (1 - (data.duplicate_share or 0.0)))


def rows_of(data: DataFacts) -> int | None:
    """Rows as counted, or at least as many as other counts show; `None` when nothing was counted."""
    if data.rows is not None:
        return data.rows
    if data.unique_rows is not None:
        return data.unique_rows
    return sum(data.label_counts) if data.label_counts else None


def trained_tokens(data: DataFacts) -> int:
    """T: labels that carry loss in one epoch. A classified row carries one."""
    if (data.task or "classification") in CLASSIFYING:
        return counted_rows(data)
    if data.trained_tokens is not None:
        return data.trained_tokens
    return data.tokens_total if data.tokens_total is not None else counted_rows(data) * (data.tokens_p50 or 128)


def precision_of(machine: Machine) -> Precision:
    """The precision that trains safely here. Pure fp16 never does (E32)."""
    device = machine.device
    if device is None or machine.backend == "mps":
        return "fp32"  # bf16 on a CPU is only taken after a probe found it faster: measured, it was slower
    bf16 = device.bf16
    if bf16 is None and device.compute_capability is not None:
        bf16 = device.compute_capability >= (8, 0)
    return "bf16-mixed" if bf16 or bf16 is None else "fp16-mixed"


def skewed(data: DataFacts) -> bool:
    """Whether one class holds over 80% of the rows, or ten times as many as the smallest (E27)."""
    counts = data.label_counts or ()
    return len(counts) > 1 and (max(counts) > 0.8 * sum(counts) or max(counts) > 10 * max(min(counts), 1))


def rank_of(shape: Shape, data: DataFacts, purpose: str, encoder: bool) -> int:
    """The smallest rank whose adapters can hold what the data has to say (E2: about two bits a parameter)."""
    if purpose in ("code", "domain") or data.task == "continued_pretraining":
        return 256
    needed = trained_tokens(data)
    least = 8 if encoder else 32 if shape.parameters <= 2e9 else 16  # rank 16 cost a 1B model 2.4% of loss (E4)
    for rank in (8, 16, 32, 64, 128, 256):
        if rank >= least and 2 * rank * shape.adapter_parameters_per_rank >= needed:
            return rank
    return 256


def max_length_of(shape: Shape, data: DataFacts) -> int:
    """The 95th percentile of the texts (99th where text is generated), rounded up to 8, within the model's limit."""
    generates = (data.task or "classification") not in CLASSIFYING
    wanted = data.tokens_p99 if generates else data.tokens_p95
    if wanted is None:
        wanted = data.tokens_max
    if wanted is None:
        return min(shape.positions, 512)
    longest = data.tokens_max or wanted
    if longest <= min(shape.positions, 512):
        wanted = longest  # cutting nobody is free where the longest text is short
    rounded = math.ceil(max(wanted, LENGTH_STEP) / LENGTH_STEP) * LENGTH_STEP
    return max(LENGTH_STEP, min(rounded, shape.positions))


def settings_for(facts: Facts, shape: Shape, method: Method) -> Settings:
    """The table's row for this method, model and data set."""
    data, machine = facts.data, facts.machine
    encoder = tuned_as_encoder(shape, data)
    unique = counted_rows(data)
    split = split_of(data)
    epochs = epochs_of(shape, data, method, encoder)
    batch = effective_batch_of(split.train, epochs)
    steps = steps_of(split.train, epochs, batch)
    adapters = method != "full"
    rank = rank_of(shape, data, facts.goal.purpose, encoder) if adapters else None
    return Settings(
        learning_rate=learning_rate_of(shape, data, method, encoder, steps),
        epochs=epochs,
        effective_batch=batch,
        total_steps=steps,
        warmup_steps=round(steps * (0.06 if encoder else 0.04)),
        schedule="linear" if encoder else "cosine",
        max_length=max_length_of(shape, data),
        weight_decay=0.01,
        max_grad_norm=0.3 if method == "qlora" else 1.0,
        precision=precision_of(machine),
        gradient_checkpointing=False,
        optimizer="adamw",
        rank=rank,
        alpha=(2 * rank if encoder else 32) if rank is not None else None,
        target_modules="all-linear" if adapters else None,
        dropout=dropout_of(shape, unique, encoder) if adapters else None,
        seeds=tuple(range(1, 1 + (5 if unique < 1_000 else 3 if unique < 10_000 else 2 if unique < 100_000 else 1))),
        metric="macro_f1" if (data.task or "classification") in CLASSIFYING else "loss",
        class_weights=skewed(data),
        early_stopping=split.validation >= 20,
        patience=5 if unique < 1_000 else 3,
        evaluations=10,
        token_budget=TOKEN_BUDGET_CPU if machine.device is None else TOKEN_BUDGET_DEVICE,
        validation_rows=split.validation,
        held_out_rows=split.held_out,
    )


def steps_of(rows: int, epochs: int, batch: int) -> int:
    """Optimizer steps of a run over `rows` training rows."""
    return max(1, math.ceil(rows / batch)) * epochs


def effective_batch_of(rows: int, epochs: int) -> int:
    """32, or 16 below 3,000 rows, or 8 where a run would otherwise have fewer than 100 steps to learn in (E12)."""
    batch = 16 if rows < 3_000 else 32
    return batch if steps_of(rows, epochs, batch) >= 100 else 8


def epochs_of(shape: Shape, data: DataFacts, method: Method, encoder: bool) -> int:
    """Passes over the data by its size (section 3; E12, E13, E30)."""
    unique = counted_rows(data)
    if data.task == "continued_pretraining":
        return 1
    if not encoder:
        most = 2 if shape.parameters >= 30e9 else 3 if method == "full" and shape.parameters >= 7e9 else 4
        return min(most, 4 if unique < 1_000 else 3 if unique < 10_000 else 2 if unique < 100_000 else 1)
    if shape.parameters <= 30_000_000:
        full = 10 if unique < 1_000 else 5 if unique < 10_000 else 3
    else:
        full = 10 if unique < 1_000 else 4 if unique < 10_000 else 3 if unique < 100_000 else 2 if unique <= 1e6 else 1
    return full if method == "full" else 2 * full


def dropout_of(shape: Shape, unique: int, encoder: bool) -> float:
    """LoRA dropout: 0.1 below 1,000 rows, else 0.05; none below 2B, nor above 13B with 10,000 rows and more (E20)."""
    n = shape.parameters
    if not encoder and (n < 2e9 or (n > 13e9 and unique >= 10_000)):
        return 0.0
    return 0.1 if unique < 1_000 and (encoder or n <= 13e9) else 0.05


def learning_rate_of(shape: Shape, data: DataFacts, method: Method, encoder: bool, steps: int) -> float:
    """The table's peak learning rate. It decides more than method, rank or variant (E4)."""
    n = shape.parameters
    if data.task == "continued_pretraining":
        return 2e-5 if method == "full" else 1e-4
    if data.task == "preference":
        return 5e-7 if method == "full" else 5e-6
    if encoder:
        if method != "full":
            return 5e-4
        return 1e-4 if n <= 30e6 else 5e-5 if n <= 90e6 else 2e-5 if n <= 200e6 else 1e-5
    rate = _decoder_rate(n, method)
    return round(rate * 1.5, 8) if method != "full" and steps < 100 else rate  # short LoRA runs want more (E1)


def _decoder_rate(parameters: int, method: Method) -> float:
    if method == "full":
        return 2e-5 if parameters <= 3e9 else 1e-5 if parameters < 30e9 else 5e-6
    return 3e-4 if parameters <= 3e9 else 2e-4 if parameters < 30e9 else 1e-4
