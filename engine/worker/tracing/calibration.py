"""What this device does in a second and what a process holds on it, measured: for the time and the memory of a step."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.inspection.kernels import DEVICES
from engine.worker import products
from engine.worker.tracing.work import VIEW

SECONDS = 0.4
"""Spent on each measurement."""
SHAPES = ((2048, 768, 768), (2048, 768, 3072), (2048, 2048, 2048), (2048, 4096, 4096), (2048, 4096, 14336))
"""(rows, in, out) of linear maps from BERT-base to an 8B model; those that take too long here are left out."""
COPIED = 256 * 2**20
"""Bytes that are copied to measure bandwidth: more than any cache holds."""
TURN = 0.01
"""Seconds of a turn on a GPU, about."""
UNDISTURBED = 0.85
"""Of the time of its processors, what a product must have got: else somebody else computes here too."""
CONTEXTS = (5e7, 5e9)
"""Bytes between which a context may lie; else somebody else took or gave back memory meanwhile."""
TINY = {
    "hidden_size": 32, "num_hidden_layers": 8, "intermediate_size": 64, "vocab_size": 100, "num_attention_heads": 4,
    "num_key_value_heads": 2, "use_cache": False,
}  # fmt: skip
"""A Llama of next to nothing: a card does its operations faster than any host starts them."""
MAKES = ("detach", "_unsafe_view", "empty", "empty_like", "empty_strided")
"""What starts no kernel, beside views."""


def calibrate(backend: str, uuid: str | None = None) -> dict[str, Any]:
    """Operations a second by precision, bytes a second, bytes of context, and how fast the host of a card is.

    Of the first device of that backend that this process sees; `uuid` names it to NVIDIA's driver.
    """
    device = torch.device(DEVICES.get(backend, "cpu"))
    cuda = device.type == "cuda"
    before = _in_use(uuid) if backend == "cuda" else None  # torch's own count begins with a context that is there already
    if device.type == "cpu":
        products.take_faster()  # as a run does
    wall, worked = time.perf_counter(), time.process_time()
    found: dict[str, Any] = {"name": torch.cuda.get_device_name() if cuda else device.type, "torch": torch.__version__}
    flops: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        rate = None if name == "fp16" and device.type == "cpu" else _products(device, dtype)  # no plan computes in it there
        if rate is not None:
            flops[name] = rate
    found["matmul_flops"] = flops
    got = (time.process_time() - worked) / (time.perf_counter() - wall) / torch.get_num_threads()
    found["busy"] = device.type == "cpu" and got < UNDISTURBED
    source, target = (torch.empty(COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    found["bandwidth"] = 2 * COPIED / _fastest(lambda: target.copy_(source), device)
    if before is not None and (now := _in_use(uuid)) is not None:
        context = now - before - torch.cuda.memory_reserved()
        if CONTEXTS[0] < context < CONTEXTS[1]:
            found["context"] = context
    if cuda:
        found["launch"] = host_pace(device)
    return found


def _in_use(uuid: str | None) -> int | None:
    """Bytes of an NVIDIA card that are taken, as its driver says, which makes no context for it; `None` where it does not say."""
    with contextlib.suppress(Exception):  # no driver's library, no such name, a slice that it does not count
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    return None


class Count(TorchDispatchMode):  # type: ignore[misc]  # mypy does not read torch here
    """Operations that start a kernel on a card, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.looks = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.is_view or func.__name__.split(".")[0] in MAKES:
            self.looks += 1
        else:
            self.started += 1
        return func(*args, **(kwargs or {}))


def host_pace(device: torch.device) -> float:
    """Seconds that the host needs for an operation of a forward pass, in the median."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY)).to(device).train()
    ids = torch.zeros(1, 4, dtype=torch.long, device=device)
    with Count() as count:
        model(input_ids=ids)
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < end:
        if device.type != "cpu":
            torch.accelerator.synchronize()
        begin = time.perf_counter()
        model(input_ids=ids)
        taken.append(time.perf_counter() - begin)
    return median(taken) / float(count.started + VIEW * count.looks)


def _products(device: torch.device, dtype: torch.dtype) -> float | None:
    """The median over the shapes; `None` where this device does not multiply such numbers."""
    rates = []
    for rows, width, out in SHAPES:
        try:
            # At random: equal numbers take less current, and a card at its limit multiplies them a tenth faster.
            left, right = (torch.randn(shape, device=device).to(dtype) for shape in ((rows, width), (width, out)))
            seconds = _fastest(partial(torch.matmul, left, right), device)
        except RuntimeError:
            return None
        rates.append(2 * rows * width * out / seconds)
        if seconds > SECONDS:
            break
    return sorted(rates)[len(rates) // 2]


def _fastest(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call in the fastest turn: the others were disturbed by somebody else.

    A GPU is asked for so many calls in a turn that starting and waiting, tens of microseconds, are little beside them.
    """
    call()
    fastest, end, times = float("inf"), time.perf_counter() + SECONDS, 1
    while True:
        begin = time.perf_counter()
        for _ in range(times):
            call()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        took = time.perf_counter() - begin
        fastest = min(fastest, took / times)
        if time.perf_counter() >= end:
            return fastest
        if device.type != "cpu" and took < TURN:
            times *= 2
