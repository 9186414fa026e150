"""What the card takes for itself, and how fast it multiplies and copies."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.gpu import gauges
from benchmarks.gpu.results import Lines

BF16, FP32 = torch.bfloat16, torch.float32


def device_itself(lines: Lines) -> None:
    """Context and workspaces; only in a process that has not used the GPU yet."""
    if not lines.wanted("device"):
        return
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def told() -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used)

    before = told()
    torch.ones(1, device="cuda")
    gauges.wait()
    found: dict[str, int] = {"used_before": before, "context": told() - before - int(torch.cuda.memory_reserved())}
    steps: dict[str, Callable[[], Any]] = {
        "matmul_forward": lambda: (a @ b).sum(),
        "matmul_backward": lambda: (a @ b).sum().backward(),
        "addmm_gelu": lambda: functional.gelu(torch.addmm(bias, a, b)).sum().backward(),
        "fp32_matmul": lambda: (a.float() @ b.float()).sum().backward(),
    }
    a, b = (torch.randn(512, 512, device="cuda", dtype=BF16, requires_grad=True) for _ in range(2))
    bias = torch.zeros(512, device="cuda", dtype=BF16, requires_grad=True)
    for t in (a, b, bias):
        t.grad = torch.zeros_like(t)
    for name, act in steps.items():
        resident = gauges.allocated()
        act()
        gauges.wait()
        found[f"workspace_{name}"] = gauges.allocated() - resident
    found["context_after"] = told() - before - int(torch.cuda.memory_reserved())
    lines.write("device", result="ok", **found)


def rates(device: torch.device, smoke: bool) -> dict[str, Any]:
    """Operations a second of matrix products, bytes a second of copying; the median of several, on random numbers."""
    side = 256 if smoke else 8192
    found: dict[str, Any] = {"matmul": {}}
    for name, dtype, shape in (
        ("bfloat16", BF16, (side, side, side)),
        ("float16", torch.float16, (side, side, side)),
        ("float32", FP32, (side // 2, side // 2, side // 2)),
        ("bfloat16-4096x4096x4096", BF16, (side // 2,) * 3),
        ("bfloat16-2048x4096x14336", BF16, (2048, side // 2, side)),
        ("bfloat16-512x768x3072", BF16, (512, 768, 3072)),
    ):
        m, k, n = shape
        a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
        took = sorted(gauges.seconds(lambda a=a, b=b: a @ b, 12))[6]  # type: ignore[misc]
        found["matmul"][name] = 2 * m * k * n / took
    buffer = torch.randn(2**20 if smoke else 2**28, device=device)
    other = torch.empty_like(buffer)
    took = sorted(gauges.seconds(lambda: other.copy_(buffer), 12))[6]
    found["copy_bytes_per_second"] = 2 * buffer.numel() * 4 / took
    if device.type == "cuda":
        host = torch.randn(2**24).pin_memory()
        took = sorted(gauges.seconds(lambda: buffer[: 2**24].copy_(host), 6))[3]
        found["host_to_device_bytes_per_second"] = host.numel() * 4 / took
        took = sorted(gauges.seconds(lambda: torch.ones(1, device=device), 50))[25]
        found["launch_seconds"] = took
    return found
