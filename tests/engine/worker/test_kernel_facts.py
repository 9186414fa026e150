"""The table of kernels against an H100 (torch 2.11, benchmarks/gpu/kernels.py): bytes kept, and asked for on the way."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from engine.worker.tracing.kernels import Card, temporaries_on
from engine.worker.tracing.live import Live
from engine.worker.tracing.pretend import pretending

H100 = Card("cuda", (9, 0), 132)
BF16, FP32 = torch.bfloat16, torch.float32


def told(
    call: Callable[..., torch.Tensor], shapes: list[tuple[int, ...]], dtype: torch.dtype, pinned: str | None
) -> tuple[int, int]:
    """(kept beside the output, asked for beyond that on the way)."""
    live = Live(temporaries_on(H100))
    with pretending(H100, pinned), live:
        inputs = [torch.empty(s, dtype=dtype, device="meta", requires_grad=True) for s in shapes]
        live.phase("forward")
        out = call(*inputs)
        live.phase("kept")
        torch.empty(0, device="meta")
    found = live.recorded
    phases = found.phase_of()
    alive, total = found.live(granule=512), found.live(granule=512) + found.extra(granule=512)
    before = int(alive[phases.index("forward") - 1])
    kept = int(alive[phases.index("kept")]) - before
    most = max(int(b) for b, p in zip(total, phases, strict=True) if p == "forward") - before
    return kept - out.numel() * out.element_size(), most - kept


def sdpa(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, **options)


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(2, 1, q.shape[2], q.shape[2], dtype=torch.bool, device="meta").tril()
    return functional.scaled_dot_product_attention(q, k, v, mask)


SHORT, LONG, WIDE = (2, 8, 512, 64), (2, 8, 1024, 64), (2, 8, 512, 128)
FEW = (2, 2, 512, 64)


@pytest.mark.parametrize(
    ("pinned", "dtype", "call", "shapes", "kept", "forward"),
    [
        ("flash", BF16, sdpa(is_causal=True), [SHORT] * 3, 33_792, 4_259_840),
        ("flash", BF16, sdpa(is_causal=True), [WIDE] * 3, 33_792, 8_454_144),
        ("flash", BF16, sdpa(is_causal=True), [LONG] * 3, 66_560, 0),
        ("flash", BF16, sdpa(is_causal=True, enable_gqa=True), [SHORT, FEW, FEW], 33_792, 4_259_840),
        ("flash", BF16, sdpa(dropout_p=0.1), [SHORT] * 3, 33_792, 512),
        ("efficient", BF16, sdpa(is_causal=True), [SHORT] * 3, 32_768, 0),
        ("efficient", BF16, masked, [SHORT] * 3, 1_081_344, 524_288),
        ("efficient", FP32, masked, [LONG] * 3, 8_454_144, 2_097_152),
        ("math", BF16, sdpa(is_causal=True), [SHORT] * 3, 23_068_672, 25_174_528),
        ("math", BF16, sdpa(dropout_p=0.1), [SHORT] * 3, 44_040_192, 14_680_064),
        ("math", FP32, sdpa(is_causal=True, enable_gqa=True), [SHORT, FEW, FEW], 23_068_672, 22_028_800),
    ],
)
def test_attention_keeps_and_needs_what_the_card_shows(
    pinned: str, dtype: torch.dtype, call: Callable[..., torch.Tensor], shapes: list[tuple[int, ...]], kept: int, forward: int
) -> None:
    """Within 4 kB, the seeds' own blocks; on the way within 10%, which for the math path is the order of its temporaries."""
    found = told(call, shapes, dtype, pinned)
    assert found[0] == pytest.approx(kept, abs=4096)
    assert found[1] == pytest.approx(forward, rel=0.1, abs=4096)


@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_the_gradient_of_a_bias_leaves_every_lanes_sum_in_memory(dtype: torch.dtype) -> None:
    """`linear-bias` of the same file: 33,554,944 bytes beyond the gradients; rows without a bias need none."""
    live = Live(temporaries_on(H100))
    with pretending(H100), live:
        shapes = ((4096, 1024), (1024, 1024), (1024,))
        x, weight, bias = (torch.empty(s, dtype=dtype, device="meta", requires_grad=True) for s in shapes)
        torch.autograd.backward([functional.linear(x, weight, bias).square().sum()])
    blocks = [b for of in live.recorded.temporaries.values() for b in of]
    assert sum(-(-b // 512) * 512 for b in blocks) == 33_554_944


def test_cross_entropy_under_autocast_keeps_log_probabilities_in_both_types() -> None:
    """2 bytes a logit of log_softmax, which is told its type, and 4 of nll_loss, which autocast makes fp32."""
    live = Live(temporaries_on(H100))
    with pretending(H100), live:
        logits = torch.empty((512, 2000), dtype=BF16, device="meta", requires_grad=True)
        labels = torch.zeros(512, dtype=torch.long, device="meta")
        live.phase("loss")
        with torch.autocast("cuda", BF16):
            loss = functional.cross_entropy(logits, labels)
        live.phase("kept")
        torch.empty(0, device="meta")
    alive, phases = live.recorded.live(), live.recorded.phase_of()
    assert loss.dtype == FP32
    assert alive[phases.index("kept")] - alive[phases.index("loss") - 1] == pytest.approx(6 * 512 * 2000, abs=4096)


def test_ligers_kernels_keep_less_than_transformers_own() -> None:
    """A norm in bf16: its input and 4 bytes a row instead of two copies in fp32; a gated map two factors instead of three."""
    from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP, LlamaRMSNorm

    from engine.worker.tracing import liger

    config = LlamaConfig(hidden_size=256, intermediate_size=1024)
    x = (4, 128, 256)
    rows, size = 512, 4 * 128 * 256 * 2

    def kept(kind: type, *given: Any, kernels: bool) -> int:
        with torch.device("meta"):
            module = kind(*given).to(BF16)
        with liger.kernels_in(module, 132) if kernels else contextlib.nullcontext():
            return told(module, [x], BF16, "flash")[0]

    assert kept(LlamaRMSNorm, 256, kernels=True) == 4 * rows
    assert kept(LlamaRMSNorm, 256, kernels=False) >= 2 * size
    saved = kept(LlamaMLP, config, kernels=False) - kept(LlamaMLP, config, kernels=True)
    assert saved == rows * 1024 * 2


@pytest.mark.parametrize("pinned", [None, "flash", "efficient", "flash 2"])
def test_values_may_be_narrower_than_queries(pinned: str | None) -> None:
    """As in DeepSeek's attention: torch's flash attention does not take them, FlashAttention 2 is given wider ones."""
    rows, heads, length, wide, narrow = 2, 4, 256, 96, 64
    shapes: list[tuple[int, ...]] = [(rows, heads, length, width) for width in (wide, wide, narrow)]
    kept, _ = told(sdpa(is_causal=True), shapes, BF16, pinned)
    sums = 4 * rows * heads * length
    filled = 2 * rows * heads * length * (wide + wide - narrow) if pinned == "flash 2" else 0
    assert kept == pytest.approx(sums + filled, abs=2048)


def test_a_product_copies_what_lies_neither_in_rows_nor_in_columns() -> None:
    """Blas.cpp, `prepare_matrix_for_cublas`: the gradient of a sum is one number, expanded."""
    rows = torch.empty(64, 32, dtype=BF16, device="meta")
    sum_of = torch.empty((), dtype=BF16, device="meta").expand(16, 64)
    copied = temporaries_on(H100)
    product = torch.ops.aten.mm.default
    assert copied(product, (sum_of, rows), {}, None) == [16 * 64 * 2]
    assert copied(product, (rows.t(), rows), {}, None) == copied(product, (rows[:, :8].t(), rows), {}, None) == []
    bias = torch.empty((), dtype=BF16, device="meta").expand(16, 32)
    assert copied(torch.ops.aten.addmm.default, (bias, sum_of, rows), {}, None) == [16 * 64 * 2], "it is not multiplied"
    batch = torch.ops.aten.bmm.default
    assert copied(batch, (sum_of.expand(4, 16, 64), rows.expand(4, 64, 32)), {}, None) == [4 * 16 * 64 * 2]
