"""The kernel table: what one operation keeps for its backward, and what it needs beside that on the way there and back.

Each is called once alone: bytes kept after the forward call beside its output, and the most above that in both
directions. The rates of matrix products and of copying, the context and the workspaces stand beside it.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import gauges
from benchmarks.gpu.card import device_itself, rates
from benchmarks.gpu.results import Lines

BF16, FP32 = torch.bfloat16, torch.float32
PINNED = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "default": None,
}
Call = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """One operation on tensors of these shapes, the first `trained` of which want a gradient."""

    name: str
    call: Call
    shapes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    trained: int = 1
    pinned: str = "default"
    integers: int = 0
    """The last so many arguments are indices below this many."""
    autocast: bool = False


def cases(smoke: bool) -> Iterator[Case]:
    """The operations of training steps, in the shapes of BERT and Llama."""
    yield from _attention(smoke)
    for dtype in (BF16, FP32):
        tag = str(dtype).removeprefix("torch.")
        scores = (2, 8, 512, 512)
        yield Case(f"softmax-{tag}", lambda x: torch.softmax(x, -1), (scores,), dtype)
        yield Case(f"softmax-to-fp32-{tag}", lambda x: torch.softmax(x, -1, dtype=FP32), (scores,), dtype)
        yield Case(f"log_softmax-{tag}", lambda x: torch.log_softmax(x, -1), ((1024, 4096),), dtype)
        yield Case(f"dropout-{tag}", lambda x: functional.dropout(x, 0.1, True), ((8, 512, 1024),), dtype)
        yield Case(f"layer_norm-{tag}", _layer_norm, ((8, 512, 1024), (1024,), (1024,)), dtype, trained=3)
        yield Case(f"rms_norm-{tag}", _rms_norm, ((8, 512, 1024), (1024,)), dtype, trained=2)
        yield Case(f"gelu-{tag}", functional.gelu, ((8, 512, 1024),), dtype)
        yield Case(f"silu-{tag}", functional.silu, ((8, 512, 1024),), dtype)
        yield Case(f"linear-{tag}", functional.linear, ((4096, 1024), (1024, 1024)), dtype, trained=2)
        yield Case(f"linear-bias-{tag}", functional.linear, ((4096, 1024), (1024, 1024), (1024,)), dtype, trained=3)
    for tokens in (2048, 8192):
        yield Case(f"embedding-{tokens}", _embedding, ((30522, 768), (tokens,)), FP32, integers=30522)
        yield Case(f"embedding-bf16-{tokens}", _embedding, ((30522, 768), (tokens,)), BF16, integers=30522)
    yield Case("cross_entropy-float-of-bf16", _loss, ((2048, 32000), (2048,)), BF16, integers=32000)
    yield Case("cross_entropy-fp32", _loss, ((2048, 32000), (2048,)), FP32, integers=32000)
    yield Case("linear-autocast-fp32-weights", functional.linear, ((4096, 1024), (1024, 1024)), FP32, trained=2, autocast=True)
    yield Case("layer_norm-autocast", _layer_norm, ((8, 512, 1024), (1024,), (1024,)), BF16, trained=3, autocast=True)
    for double, rows in itertools.product((True, False), (256, 4096)):
        yield Case(f"nf4-linear-{rows}{'-double' if double else ''}", _nf4(double), ((rows, 4096),), BF16)


def _attention(smoke: bool) -> Iterator[Case]:
    lengths = (16,) if smoke else (512, 1024)
    for name, dtype, length, width in itertools.product(PINNED, (BF16, FP32), lengths, (64, 128)):
        tag = str(dtype).removeprefix("torch.")
        if dtype is FP32 and name in ("flash", "cudnn"):
            continue
        q, kv = (2, 8, length, width), (2, 2, length, width)
        more = {"dtype": dtype, "trained": 3, "pinned": name}
        yield Case(f"sdpa-{name}-{tag}-{length}x{width}-causal", _sdpa(is_causal=True), (q, q, q), **more)
        if width == 128 and length != lengths[0]:
            continue
        yield Case(f"sdpa-{name}-{tag}-{length}x{width}-gqa", _sdpa(is_causal=True, enable_gqa=True), (q, kv, kv), **more)
        yield Case(f"sdpa-{name}-{tag}-{length}x{width}-dropout", _sdpa(dropout_p=0.1), (q, q, q), **more)
        yield Case(f"sdpa-{name}-{tag}-{length}x{width}-mask", _masked(length), (q, q, q), **more)
    for length, heads in itertools.product(lengths, (8, 2)):
        shapes = ((2 * length, 8, 64), (2 * length, heads, 64), (2 * length, heads, 64))
        yield Case(f"varlen-bfloat16-{length}x64-{8 // heads}to1", _varlen(length), shapes, BF16, trained=3)


def _sdpa(**options: Any) -> Call:
    return lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, **options)


def _masked(length: int) -> Call:
    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(2, 1, length, length, dtype=torch.bool, device=q.device).tril()
        return functional.scaled_dot_product_attention(q, k, v, mask)

    return call


def _varlen(length: int) -> Call:
    from engine.worker.attention import _variable_length

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([0, length, 2 * length], dtype=torch.int32, device=q.device)
        options: dict[str, Any] = {"scaling": None, "causal": True, "window": None}
        rows = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
        return _variable_length(*rows, cumulative=ends, longest=length, **options)

    return call


def _layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x, weight.shape, weight)


def _embedding(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return functional.embedding(ids, table)


def _loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), truth)


def _nf4(double: bool) -> Call:
    made: dict[torch.device, Any] = {}

    def call(x: torch.Tensor) -> torch.Tensor:
        if x.device not in made:
            layer: Any = import_module("bitsandbytes.nn").Linear4bit(
                4096, 4096, bias=False, compute_dtype=BF16, quant_type="nf4", compress_statistics=double
            )
            made[x.device] = layer.to(x.device)
        found: torch.Tensor = made[x.device](x)
        return found

    return call


def run(lines: Lines, smoke: bool) -> None:
    """Everything that is not known yet."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        device_itself(lines)
    for case in cases(smoke):
        if lines.wanted(case.name, seconds=2):
            with lines.trying(case.name):
                try:
                    lines.write(case.name, result="ok", **measure(case, device))
                except RuntimeError as error:
                    if "No available kernel" not in str(error) and "No viable backend" not in str(error):
                        raise
                    lines.write(case.name, result="no such kernel")
    for name, make in optimizers().items():
        if lines.wanted(f"optimizer-{name}", seconds=3):
            with lines.trying(f"optimizer-{name}"):
                lines.write(f"optimizer-{name}", result="ok", **_optimizer(make, device, smoke))
    if lines.wanted("rates", seconds=10):
        with lines.trying("rates"):
            lines.write("rates", result="ok", **rates(device, smoke))


def measure(case: Case, device: torch.device) -> dict[str, Any]:
    """Bytes that one call keeps and needs, and seconds there and back."""

    def arguments() -> list[torch.Tensor]:
        found = []
        for place, shape in enumerate(case.shapes):
            if case.integers and place == len(case.shapes) - 1:
                found.append(torch.randint(0, case.integers, shape, device=device))
            else:
                found.append(torch.randn(shape, device=device, dtype=case.dtype).requires_grad_(place < case.trained))
        return found

    def once(given: list[torch.Tensor]) -> dict[str, int]:
        for t in given:
            t.grad = None
        gauges.wait()
        before = gauges.allocated()
        peaks = gauges.Peaks()
        with sdpa_kernel(backend) if backend is not None else nullcontext():
            with torch.autocast(device.type, BF16) if case.autocast else nullcontext():
                out = case.call(*given)
            kept = gauges.allocated() - before - out.untyped_storage().nbytes()
            peaks.mark("forward")
            gradient = torch.ones_like(out)
            middle = gauges.allocated()
            peaks.begin()
            out.backward(gradient)
            peaks.mark("backward")
        most = peaks.allocated or {"forward": 0, "backward": 0}
        return {
            "output": out.untyped_storage().nbytes(),
            "saved": kept,  # beside inputs and output, which autograd may hold too
            "temporary_forward": most["forward"] - before - out.untyped_storage().nbytes() - kept,
            "temporary_backward": most["backward"] - middle,  # gradients of the inputs included
            "gradients": sum(t.grad.untyped_storage().nbytes() for t in given if t.grad is not None),
        }

    def bare() -> None:
        with sdpa_kernel(backend) if backend is not None else nullcontext():
            with torch.autocast(device.type, BF16) if case.autocast else nullcontext():
                out = case.call(*given)
            out.backward(torch.ones_like(out))

    backend = PINNED[case.pinned]
    gauges.tidy()
    given = arguments()
    with gauges.Kernels() as kernels:
        once(given)  # workspaces and handles are made now
    found = once(given)
    seconds = sorted(gauges.seconds(bare, 5))[2]
    shapes = [list(s) for s in case.shapes]
    about = {"shapes": shapes, "dtype": str(case.dtype).removeprefix("torch."), "autocast": case.autocast}
    return about | found | {"kernels": sorted(kernels.names), "seconds": seconds}


def optimizers() -> dict[str, Callable[[list[torch.nn.Parameter]], Any]]:
    """By name, what makes one for some parameters."""

    def adamw(**how: bool) -> Callable[[list[torch.nn.Parameter]], Any]:
        return lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, **how)

    def eight_bit(name: str) -> Callable[[list[torch.nn.Parameter]], Any]:
        def make(parameters: list[torch.nn.Parameter]) -> Any:
            return getattr(import_module("bitsandbytes.optim"), name)(parameters, lr=1e-4)

        return make

    single = {"foreach": False, "fused": False}
    return {
        "adamw-default": adamw(),
        "adamw-foreach": adamw(foreach=True),
        "adamw-fused": adamw(fused=True),
        "adamw-single": adamw(**single),
        "adamw_8bit": eight_bit("AdamW8bit"),
        "paged_adamw_8bit": eight_bit("PagedAdamW8bit"),
    }


def _optimizer(make: Callable[[list[torch.nn.Parameter]], Any], device: torch.device, smoke: bool) -> dict[str, Any]:
    """Bytes of states and temporaries for 64 MiB of fp32 parameters in five tensors, one of them half of all."""
    gauges.tidy()
    total = 2**14 if smoke else 2**24
    sizes = [total // 2, total // 4, total // 8, total // 16, total // 16]
    found: dict[str, Any] = {"parameters": total, "largest": sizes[0]}
    for dtype in (FP32, BF16):
        parameters = [torch.nn.Parameter(torch.randn(n, device=device, dtype=dtype)) for n in sizes]
        for p in parameters:
            p.grad = torch.ones_like(p)
        optimizer = make(parameters)
        before = gauges.allocated()
        optimizer.step()
        states = gauges.allocated() - before
        resident = gauges.allocated()
        peaks = gauges.Peaks()
        optimizer.step()
        peaks.mark("step")
        seconds = sorted(gauges.seconds(optimizer.step, 5))[2]
        name = str(dtype).removeprefix("torch.")
        temporary = peaks.allocated.get("step", resident) - resident
        found[name] = {"states": states, "temporary": temporary, "seconds": seconds}
        norm = gauges.Peaks()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        norm.mark("clip")
        found[name]["clip_temporary"] = norm.allocated.get("clip", resident) - resident
        del optimizer, parameters
        gauges.tidy()
    return found
