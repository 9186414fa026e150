"""Where a step's time goes: the operations that take most of it, on the GPU and on the processor that launches them."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import gauges
from benchmarks.gpu.models import Kind, built, device_of, lengths, plan_of, rows_of
from benchmarks.gpu.peers import BATCH
from benchmarks.gpu.results import Lines
from benchmarks.gpu.step import EngineStep
from engine.worker.tasks.base import Encoded

MOST = 25


def run(lines: Lines, smoke: bool) -> None:
    """A step of each method."""
    device = device_of(smoke)
    kind = Kind("llama-0.5b" if smoke else "llama-1b", smoke)
    for method in ("lora", "full", "qlora"):
        key = f"{kind.name}-{method}"
        if lines.wanted(key, seconds=8):
            with lines.trying(key):
                lines.write(key, result="ok", **_profiled(kind, method, device))
            gauges.tidy()


def _profiled(kind: Kind, method: str, device: torch.device) -> dict[str, Any]:
    model, task = built(kind, plan_of(kind, method, token_budget=16_384), device)
    ids, labels = rows_of(lengths(BATCH, longest=64 if kind.smoke else 1024), kind.config().vocab_size)
    with tempfile.TemporaryDirectory() as work:
        stepper = EngineStep(model, task, Encoded(ids, labels, [0] * len(ids)), Path(work))
        which = list(range(BATCH))
        seconds = gauges.seconds(lambda: stepper.step(which), 3)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        with profile(activities=activities) as seen:
            stepper.step(which)
            gauges.wait()
    events = seen.key_averages()
    on_device = sorted(events, key=lambda e: -e.self_device_time_total)[:MOST]
    on_host = sorted(events, key=lambda e: -e.self_cpu_time_total)[:MOST]
    return {
        "seconds": seconds,
        "tokens": sum(map(len, ids)),
        "device_seconds": sum(e.self_device_time_total for e in events) / 1e6,
        "host_seconds": sum(e.self_cpu_time_total for e in events) / 1e6,
        "launches": sum(e.count for e in events if "LaunchKernel" in e.key),
        "device": [[e.key[:90], e.count, round(e.self_device_time_total / 1e3, 2)] for e in on_device],
        "host": [[e.key[:90], e.count, round(e.self_cpu_time_total / 1e3, 2)] for e in on_host],
    }
