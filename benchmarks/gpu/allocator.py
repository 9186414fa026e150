"""What the caching allocator makes of a step: the stream of requests, to be replayed, and reserved memory with either setting."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import gauges, plain
from benchmarks.gpu.memory import Cell, _rows, _stepper
from benchmarks.gpu.models import Kind, built, device_of, plan_of
from benchmarks.gpu.results import Lines

CODES = {"alloc": "a", "free_requested": "f", "segment_alloc": "S", "segment_free": "F", "segment_map": "M", "segment_unmap": "U"}


def cells(smoke: bool) -> list[Cell]:
    """Some of the grid's."""
    if smoke:
        return [Cell(Kind("llama-0.5b", True), "lora", 2, 32)]
    return [
        Cell(Kind("llama-0.5b"), "full", 8, 1024),
        Cell(Kind("llama-0.5b"), "lora", 8, 1024, checkpointing=True),
        Cell(Kind("bert-base"), "full", 32, 256, even=False),
        Cell(Kind("llama-1b"), "qlora", 8, 512),
    ]


def run(lines: Lines, smoke: bool) -> None:
    """Each cell in a fresh allocator, under the setting that this process was started with."""
    device = device_of(smoke)
    setting = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    name = "expandable" if "expandable_segments:True" in setting else "plain"
    for cell in cells(smoke):
        key = f"{name}-{cell.key}"
        if lines.wanted(key, seconds=6):
            with lines.trying(key):
                lines.write(key, result="ok", setting=setting, **_engine(cell, device))
    for one in list(plain.grid(smoke))[:2]:
        key = f"{name}-{one.key}"
        if lines.wanted(key, seconds=6):
            with lines.trying(key):
                lines.write(key, result="ok", setting=setting, **_plain(one, device))


def _engine(cell: Cell, device: torch.device) -> dict[str, Any]:
    gauges.tidy()
    work = Path(tempfile.mkdtemp(prefix="loracle-gpu-"))
    try:
        _record(device)
        plan = plan_of(cell.kind, cell.method, checkpointing=cell.checkpointing)
        model, task = built(cell.kind, plan, device)
        stepper = _stepper(model, task, _rows([cell], task), work, packed=cell.packed)
        del model
        for _ in range(3):
            stepper.step(list(range(cell.rows)))
        return _told(device)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _plain(cell: plain.PlainCell, device: torch.device) -> dict[str, Any]:
    gauges.tidy()
    _record(device)
    model = plain.build(cell, device)
    optimizer, batch = plain.optimizer_of(model, cell.step), plain.batch_of(cell, device)
    for _ in range(3):
        plain._step(cell.step, model, optimizer, batch, gauges.Peaks())
    return _told(device)


def _record(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.memory._record_memory_history(max_entries=400_000, context=None, stacks="python")


def _told(device: torch.device) -> dict[str, Any]:
    """The stream as [code, address as a small number, bytes], and the peaks that it led to."""
    if device.type != "cuda":
        return {"events": [], "allocated": 0, "reserved": 0}
    gauges.wait()
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    torch.cuda.memory._record_memory_history(enabled=None)
    places: dict[int, int] = {}
    events = [
        [CODES[e["action"]], places.setdefault(e["addr"], len(places)), e["size"]] for e in trace if e["action"] in CODES
    ]
    stats = torch.cuda.memory_stats()
    return {"events": events, "allocated": stats["allocated_bytes.all.peak"], "reserved": stats["reserved_bytes.all.peak"]}
