"""What must hold on a GPU, in this process: gradients do not depend on the cut, on padding or on memory that ran out."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

from benchmarks.gpu import gauges
from benchmarks.gpu.models import Kind, built, device_of, plan_of, rows_of
from benchmarks.gpu.results import Lines, without_numbers_first
from benchmarks.gpu.step import EngineStep
from engine.worker import attention, dropout
from engine.worker.precision import autocast
from engine.worker.tasks.base import Encoded, Task
from engine.worker.trainer import seed_everything

COUNTS = [61, 7, 33, 48, 12, 90, 25, 18, 40, 5, 77, 29]
TOLERANCE = {"fp32": 2e-4, "bf16-mixed": 1e-1, "fp16-mixed": 5e-2}
"""Of a gradient's norm. fp32 sums in another order; in 16 bit in another order of rounding, as attention kernels do."""
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def run(lines: Lines, smoke: bool) -> None:
    """Every check that is not known yet."""
    device = device_of(smoke)
    checks: dict[str, Callable[[], dict[str, Any]]] = {"varlen-flash": lambda: _varlen(device)}
    for name in ("bert-base", "llama-0.5b"):
        for method in ("full", "lora", "qlora"):
            for precision in TOLERANCE:
                key = f"{name}-{method}-{precision}"
                checks[f"cut-{key}"] = lambda n=name, m=method, p=precision: _cut(n, m, p, device)  # type: ignore[misc]
    for method in ("full", "lora", "qlora"):
        for precision in ("fp32", "bf16-mixed"):
            checks[f"padding-free-{method}-{precision}"] = lambda m=method, p=precision: _padding_free(m, p, device)  # type: ignore[misc]
    for method in ("lora", "qlora"):
        for precision in ("fp32", "bf16-mixed"):
            checks[f"dropping-{method}-{precision}"] = lambda m=method, p=precision: _dropping(m, p, device)  # type: ignore[misc]
    if device.type == "cuda":
        checks["new-shapes"] = _new_shapes
        for method in ("full", "lora"):
            checks[f"out-of-memory-{method}"] = lambda m=method: _out_of_memory(m)  # type: ignore[misc]
    for key in without_numbers_first("checks", checks, lambda key: [key]):
        if lines.wanted(key, seconds=5):
            with lines.trying(key):
                found = checks[key]()
                lines.write(key, result="ok" if found.pop("holds") else "wrong", **found)
            gauges.tidy()


def _small(name: str, method: str, precision: str, device: torch.device, **fields: Any) -> tuple[Any, Task, Encoded]:
    """A small model of that family whose gradients are all alive, and rows for it."""
    kind = Kind(name, smoke=True)
    seed_everything(1)
    config = {} if kind.decoder else NO_DROPOUT
    # Heads of 64, as real models have them: flash attention takes them, and most kernels are made for them.
    plan = plan_of(kind, method, precision=precision, **fields)
    model, task = built(kind, plan, device, hidden_size=256, intermediate_size=512, **config)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.05)
    ids, labels = rows_of(COUNTS, kind.config().vocab_size)
    return model, task, Encoded(ids, labels if kind.decoder else [i % 2 for i in range(len(ids))], [0] * len(ids))


def _gradients(model: Any, task: Task, rows: Encoded, budget: int, precision: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of all rows as one logical batch, cut under that budget."""
    device = next(model.parameters()).device
    model.train()
    model.zero_grad()
    total = 0.0
    for piece in task.cut([len(r) for r in rows.input_ids], budget, device.type):
        with autocast(device, precision):
            loss = task.total(model, [rows.input_ids[i] for i in piece], [rows.targets[i] for i in piece])
        share = loss / task.weight(rows.targets)
        share.backward()
        total += float(share.detach())
    return total, {n: p.grad.detach().float().clone() for n, p in model.named_parameters() if p.grad is not None}


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest distance of two gradients of a parameter, as part of its norm.

    Where the norm is next to nothing beside others, as that of a key's bias, which softmax does not see, all is rounding.
    """
    if one.keys() != other.keys():
        return float("inf")
    least = 1e-3 * max(float(g.norm()) for g in other.values())
    return max(float((one[n] - other[n]).norm() / other[n].norm().clamp_min(least)) for n in one)


def _said(one: tuple[float, Any], other: tuple[float, Any], precision: str) -> dict[str, Any]:
    apart, loss_apart = _apart(one[1], other[1]), abs(one[0] - other[0])
    holds = apart < TOLERANCE[precision] and loss_apart < TOLERANCE[precision]
    return {"holds": holds, "gradients_apart": apart, "loss_apart": loss_apart, "parameters": len(one[1])}


def _cut(name: str, method: str, precision: str, device: torch.device) -> dict[str, Any]:
    model, task, rows = _small(name, method, precision, device)
    task.adopt(model)
    whole = _gradients(model, task, rows, 10**8, precision)
    pieces = _gradients(model, task, rows, 120, precision)
    return _said(pieces, whole, precision) | {"packed": bool(getattr(task, "packed", False))}


def _padding_free(method: str, precision: str, device: torch.device) -> dict[str, Any]:
    """The same decoder, once as transformers pads and attends, once laid end to end."""
    model, task, rows = _small("llama-0.5b", method, precision, device)
    padded = _gradients(model, task, rows, 10**8, precision)
    task.adopt(model)
    with gauges.Kernels() as kernels:
        packed = _gradients(model, task, rows, 10**8, precision)
    found = _said(packed, padded, precision) | {"kernels": sorted(kernels.names), "remarks": task.remarks}
    found["holds"] = found["holds"] and bool(getattr(task, "packed", False))
    return found


def _dropping(method: str, precision: str, device: torch.device) -> dict[str, Any]:
    """Adapters with dropout, as one operation with their layer and by PEFT's own path, which drop the same."""
    model, task, rows = _small("llama-0.5b", method, precision, device, dropout=0.1)
    layers = [m for m in model.modules() if hasattr(m, "lora_dropout")]
    task.adopt(model)
    seed_everything(2)
    with mock.patch.object(dropout, "drop", wraps=dropout.drop) as drop:
        fused = _gradients(model, task, rows, 10**8, precision)
    for layer in layers:
        del layer.forward  # the one that `fused_lora` put before the class's own
    seed_everything(2)
    found = _said(fused, _gradients(model, task, rows, 10**8, precision), precision)
    return found | {"holds": found["holds"] and drop.call_count == len(layers), "layers": len(layers)}


def _varlen(device: torch.device) -> dict[str, Any]:
    agrees = {str(w): attention._flash_agrees(device, torch.bfloat16, w) for w in (64, 128)}
    return {"holds": all(agrees.values()) or device.type == "cpu", "agrees": agrees}


def _new_shapes() -> dict[str, Any]:
    """Seconds of attention with dropout, there and back, on shapes that were not seen before: as torch comes, and without cuDNN,
    as the worker has it. Nothing to be wrong; what it measures is why."""
    seconds: dict[str, list[float]] = {}
    for name, length in (("torch", 160), ("without-cudnn", 168)):
        torch.backends.cuda.enable_cudnn_sdp(name == "torch")
        seconds[name] = []
        for place in range(7):
            shape = (8, 12, length + 24 * place, 64)
            inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
            seconds[name] += gauges.seconds(lambda i=inputs: _dropping_attention(*i).sum().backward(), 1)  # type: ignore[misc]
    return {"holds": True, "seconds": seconds}


def _dropping_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1)
    return found


def _out_of_memory(method: str) -> dict[str, Any]:
    """The same training twice, the second time with so little memory that micro-batches must shrink: the same losses."""
    found: list[list[float]] = []
    recovered: list[tuple[int, int]] = []
    for tight in (False, True):
        seed_everything(3)
        kind = Kind("llama-0.5b")
        plan = plan_of(kind, method, precision="fp32", token_budget=32_768)
        model, task = built(kind, plan, torch.device("cuda"), num_hidden_layers=4, vocab_size=32_000)
        ids, labels = rows_of([1024 - 16 * i for i in range(32)], 32_000)
        rows = Encoded(ids, labels, [0] * len(ids))
        with tempfile.TemporaryDirectory() as work:
            stepper = EngineStep(model, task, rows, Path(work))
            losses = [stepper.step(list(range(8)))]  # moments are made
            gauges.tidy()
            if tight:
                room = gauges.allocated() + 2 * 2**30
                torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
            try:
                losses += [stepper.step(list(range(32))) for _ in range(3)]
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            recovered = copy.copy(stepper.recovered)
        found.append(losses)
        del stepper, model
        gauges.tidy()
    apart = max(abs(a - b) for a, b in zip(*found, strict=True))
    return {"holds": apart < 1e-3 and bool(recovered), "losses_apart": apart, "losses": found, "recovered": recovered}
