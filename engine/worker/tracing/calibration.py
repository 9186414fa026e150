"""What this device does in a second and what a process holds on it, measured: for the time and the memory of a step."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

SECONDS = 0.4
"""Spent on each measurement."""
SHAPES = ((2048, 768, 768), (2048, 768, 3072), (2048, 2048, 2048), (2048, 4096, 4096), (2048, 4096, 14336))
"""(rows, in, out) of linear maps from BERT-base to an 8B model; those that take too long here are left out."""
COPIED = 256 * 2**20
"""Bytes that are copied to measure bandwidth: more than any cache holds."""
LAUNCHES = 200
UNDISTURBED = 0.85
"""Of the time of its processors, what a product must have got: else somebody else computes here too."""


def calibrate() -> dict[str, Any]:
    """Operations a second by precision, bytes a second, seconds an operation waits for the host, bytes of context."""
    cuda = torch.cuda.is_available()
    wall, worked = time.perf_counter(), time.process_time()
    device = torch.device("cuda" if cuda else "cpu")
    found: dict[str, Any] = {"name": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__}
    before = torch.cuda.mem_get_info()[0] if cuda else 0
    small = torch.ones(64, 64, device=device)
    flops: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rate = _products(device, dtype)
        if rate is not None:
            flops[name] = rate
    found["matmul_flops"] = flops
    got = (time.process_time() - worked) / (time.perf_counter() - wall) / torch.get_num_threads()
    found["busy"] = not cuda and got < UNDISTURBED
    source, target = (torch.empty(COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    found["bandwidth"] = 2 * COPIED / _fastest(lambda: target.copy_(source), device)
    found["launch"] = _fastest(lambda: _chain(small), device) / LAUNCHES
    if cuda:
        torch.cuda.synchronize()
        found["context"] = before - torch.cuda.mem_get_info()[0] - torch.cuda.memory_reserved()
    return found


def _products(device: torch.device, dtype: torch.dtype) -> float | None:
    """The median over the shapes; `None` where this device does not multiply such numbers."""
    rates = []
    for rows, width, out in SHAPES:
        try:
            left, right = torch.ones(rows, width, device=device, dtype=dtype), torch.ones(width, out, device=device, dtype=dtype)
            seconds = _fastest(partial(torch.matmul, left, right), device)
        except RuntimeError:
            return None
        rates.append(2 * rows * width * out / seconds)
        if seconds > SECONDS:
            break
    return sorted(rates)[len(rates) // 2]


def _chain(values: torch.Tensor) -> None:
    for _ in range(LAUNCHES):
        values = values + 1


def _fastest(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest call: the others were disturbed by somebody else."""
    call()
    fastest, end = float("inf"), time.perf_counter() + SECONDS
    while True:
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - begin)
        if time.perf_counter() >= end:
            return fastest
