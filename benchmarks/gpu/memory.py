"""Memory and time of training steps over a grid: what `loracle estimate` is scored against, without a GPU.

A cell is three steps of one configuration; the second and third are measured (the first also makes the optimizer's
moments). `engine` cells are Loracle's own step, `plain` cells a loop of transformers and peft as most scripts have it, for
the settings that the engine does not use.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import gauges, plain
from benchmarks.gpu.models import Kind, built, device_of, plan_of, rows_of
from benchmarks.gpu.results import Lines, without_numbers_first
from benchmarks.gpu.step import EngineStep
from engine.worker.modeling import weights_dtype
from engine.worker.tasks.base import Encoded, Task
from recommender.plan import Plan

SECONDS = 4.0
"""That a cell takes at most, building its model included."""
RAGGED = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.1)
"""Lengths of the rows of an uneven batch, as parts of the longest."""
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One configuration of the engine's step."""

    kind: Kind
    method: str
    rows: int
    length: int
    checkpointing: bool = False
    even: bool = True
    packed: bool = True
    """Decoders only; without it rows are padded and all logits are taken."""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Cells of one group share a model."""
        more = "".join(f"-{k}={v}" for k, v in self.fields.items())
        flags = ("-checkpointed" if self.checkpointing else "") + ("" if self.packed else "-padded")
        return f"{self.kind.name}-{self.method}{flags}{more}"

    @property
    def key(self) -> str:
        """Its name."""
        return f"engine-{self.group}-{self.rows}x{self.length}{'' if self.even else '-ragged'}"

    def counts(self) -> list[int]:
        """Tokens of its rows."""
        if self.even:
            return [self.length] * self.rows
        return [max(8, round(self.length * part)) for part, _ in zip(itertools.cycle(RAGGED), range(self.rows), strict=False)]


def grid(smoke: bool) -> Iterator[Cell]:
    """The cells, the most telling first: every model and method once, then the rest."""
    if smoke:
        for name, method in (("bert-base", "full"), ("bert-base", "lora"), ("llama-0.5b", "full"), ("llama-0.5b", "lora")):
            yield Cell(Kind(name, True), method, 2, 32)
            yield Cell(Kind(name, True), method, 4, 48, even=False)
        yield Cell(Kind("llama-0.5b", True), "qlora", 2, 32, checkpointing=True)
        yield Cell(Kind("llama-0.5b", True), "lora", 2, 32, packed=False)
        return
    fits = {"llama-3b": ("full", "lora", "qlora"), "llama-8b": ("lora", "qlora")}
    for name, (rows, length) in SHOWN.items():
        for method in fits.get(name, ("full", "lora", "qlora")):
            for checkpointing in (False, True):
                yield Cell(Kind(name), method, rows, length, checkpointing)
                yield Cell(Kind(name), method, rows * 2, length, checkpointing, even=False)
                yield Cell(Kind(name), method, max(1, rows // 4), length, checkpointing)
    for method in ("full", "lora", "qlora"):  # as on cards without bf16
        yield Cell(Kind("llama-0.5b"), method, 8, 1024, fields={"precision": "fp16-mixed"})
    for name in ("llama-0.5b", "llama-1b"):
        for method in ("full", "lora"):
            yield Cell(Kind(name), method, 4, 512, packed=False)
            yield Cell(Kind(name), method, 8, 512, packed=False, even=False)
    for name, (rows, length) in reversed(SHOWN.items()):
        for method in fits.get(name, ("full", "lora", "qlora")):
            for checkpointing in (False, True):
                yield Cell(Kind(name), method, rows, length // 2, checkpointing)
                yield Cell(Kind(name), method, rows * 2, length, checkpointing)
    yield Cell(Kind("llama-8b"), "lora", 64, 1024)  # does not fit, and must be refused
    yield Cell(Kind("llama-3b"), "full", 32, 1024)
    yield Cell(Kind("llama-8b"), "full", 1, 128)


SHOWN = {
    "bert-base": (32, 256),
    "llama-1b": (8, 1024),
    "llama-8b": (4, 1024),
    "bert-large": (16, 512),
    "llama-0.5b": (8, 1024),
    "llama-3b": (4, 1024),
}
"""Rows and tokens of each model's main cell."""


def run(lines: Lines, smoke: bool) -> None:
    """Measure every cell that is not known yet."""
    device = device_of(smoke)
    plain_cells = without_numbers_first("memory", plain.grid(smoke), lambda cell: [cell.key])
    engine_cells = without_numbers_first("memory", groups(grid(smoke)), lambda group: [cell.key for cell in group])
    for plain_cell, cell in itertools.zip_longest(plain_cells, engine_cells):
        if cell is not None:
            _group(lines, cell, device)
        if plain_cell is not None and lines.wanted(plain_cell.key, seconds=SECONDS):
            with lines.trying(plain_cell.key):
                plain.measure(plain_cell, lines, device)


def groups(cells: Iterator[Cell]) -> list[list[Cell]]:
    """Neighbours that share a model."""
    return [list(members) for _, members in itertools.groupby(cells, key=lambda c: c.group)]


def _group(lines: Lines, cells: list[Cell], device: torch.device) -> None:
    left = [c for c in cells if lines.wanted(c.key, seconds=SECONDS)]
    if not left:
        return
    work = Path(tempfile.mkdtemp(prefix="loracle-gpu-"))
    gauges.tidy()
    stepper: EngineStep | None = None
    try:
        with lines.trying(f"{left[0].key}-build"):
            plan = plan_of(left[0].kind, left[0].method, checkpointing=left[0].checkpointing, **left[0].fields)
            try:
                model, task = built(left[0].kind, plan, device)
            except torch.OutOfMemoryError as error:
                for cell in left:
                    lines.write(cell.key, **_about(cell, plan), result="out_of_memory", error=str(error)[:200])
                return
            rows = _rows(left, task)
            stepper = _stepper(model, task, rows, work, packed=left[0].packed)
            del model
            for place, cell in enumerate(left):
                if lines.wanted(cell.key, seconds=SECONDS):
                    with lines.trying(cell.key):
                        _measure(lines, cell, plan, stepper, place)
    finally:
        stepper = None
        gauges.tidy()
        shutil.rmtree(work, ignore_errors=True)


def _stepper(model: Any, task: Task, rows: Encoded, work: Path, *, packed: bool) -> EngineStep:
    from engine.worker import causal

    real = causal.prepare
    if not packed:
        causal.prepare = lambda model: "it is to be padded"
    try:
        return EngineStep(model, task, rows, work)
    finally:
        causal.prepare = real


def _rows(cells: list[Cell], task: Task) -> Encoded:
    """The rows of all cells of a group, one after the other."""
    words = cells[0].kind.config().vocab_size
    ids: list[list[int]] = []
    targets: list[Any] = []
    for cell in cells:
        new, labels = rows_of(cell.counts(), words, seed=len(ids))
        ids += new
        targets += labels if cell.kind.decoder else [i % 2 for i in range(len(new))]
    return Encoded(ids, targets, [0] * len(ids))


def _about(cell: Cell, plan: Plan) -> dict[str, Any]:
    names = ("method", "precision", "gradient_checkpointing", "token_budget", "rank", "alpha", "target_modules", "dropout")
    dropout = 0.0 if cell.kind.decoder else float(cell.kind.config().hidden_dropout_prob)
    quantized = plan.method == "qlora"
    return {
        "loop": "engine",
        "model": cell.kind.name,
        "plan": {n: getattr(plan, n) for n in (*names, "optimizer")},
        "packed": cell.kind.decoder and cell.packed,
        "model_dropout": dropout,
        "rows": cell.counts(),
        "step": {
            "method": plan.method,
            "micro_batch_rows": cell.rows,
            "length": cell.length,
            "padded": not cell.even and not (cell.kind.decoder and cell.packed),
            "head": "causal_lm" if cell.kind.decoder else "classification",
            "labels": None if cell.kind.decoder else 2,
            "base_dtype": NAMES[weights_dtype(plan)],
            "autocast": {"bf16-mixed": "bfloat16", "fp16-mixed": "float16"}[plan.precision],
            "adapter_dtype": None if plan.method == "full" else "float32",
            "quantization": "nf4" if quantized else None,
            "double_quantization": True if quantized else None,
            "kbit_prepared": True if quantized else None,
            "rank": plan.rank,
            "target_modules": plan.target_modules,
            "lora_dropout": plan.dropout,
            "trained": None,
            "optimizer": plan.optimizer,
            "optimizer_implementation": "fused",
            "optimizer_state_dtype": "float32",
            "gradient_checkpointing": "layer" if plan.gradient_checkpointing else "none",
            "attention": "flash" if cell.kind.decoder and cell.packed else "efficient",
            "loss": "chunked" if cell.kind.decoder and cell.packed else "plain",
            "outputs_held": False,
            "devices": 1,
            "sharding": None,
        },
    }


def _measure(lines: Lines, cell: Cell, plan: Plan, stepper: EngineStep, place: int) -> None:
    """Three steps of one cell, of which the optimizer's moments are the first one's."""
    stepper.forget_optimizer()
    gauges.tidy()
    begin = _first_row(stepper, cell)
    which = list(range(begin, begin + cell.rows))
    about = _about(cell, plan)
    packed = bool(getattr(stepper.task, "packed", False))
    learned = [sum(x != -100 for x in t) if isinstance(t, list) else 1 for t in (stepper.rows.targets[i] for i in which)]
    about |= {"packed": packed, "learned": learned, "fresh": place == 0}
    load = gauges.allocated()
    first, peaks = gauges.Peaks(), gauges.Peaks()
    stepper.recovered.clear()
    try:
        stepper.mark = first.mark
        with gauges.Kernels() as kernels:
            stepper.step(which)
        resident = gauges.allocated()
        stepper.mark = peaks.mark
        peaks.begin()
        seconds = gauges.seconds(lambda: stepper.step(which), 2)
    except Exception as error:
        stepper.model.zero_grad()
        if not gauges.is_full(error):
            raise
        lines.write(cell.key, **about, result="out_of_memory", error=str(error)[:200])
        return
    measured = {
        "allocated": {"load": load} | peaks.allocated | {"peak": max(peaks.allocated.values(), default=0)},
        "first_step": first.allocated,
        "allocated_before": resident,
        "reserved": max(first.reserved, peaks.reserved),
        "device": gauges.used(),
        "seconds_per_step": [round(s, 5) for s in seconds],
    }
    about["step"]["attention"] = gauges.attention_of(kernels.names) or "math"
    about["step"]["padded"] = not cell.even and not packed
    about["step"]["loss"] = "chunked" if packed and cell.kind.decoder else "plain"
    about["remarks"] = stepper.task.remarks
    cut = "cut" if stepper.recovered else "ok"  # cut: it did not fit whole, and the engine halved the micro-batch
    lines.write(cell.key, **about, result=cut, kernels=sorted(kernels.names), measured=measured)


def _first_row(stepper: EngineStep, cell: Cell) -> int:
    """Where the rows of that cell begin among those of its group."""
    counts = cell.counts()
    for begin in range(len(stepper.rows)):
        if [len(x) for x in stepper.rows.input_ids[begin : begin + len(counts)]] == counts:
            return begin
    raise LookupError(cell.key)
