"""What kernels of a device do with memory that a trace on the meta device cannot see: one table, each line with its source.

Sizes are bytes of blocks that a kernel asks for while it runs and gives back. Sources are torch's own files unless another
library is named. `benchmarks/prediction/` measures each line on a device.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import torch

from engine.worker import products
from engine.worker.tracing import scratch
from engine.worker.tracing.operations import once

aten = torch.ops.aten
Line = Callable[..., list[int]]
"""From an operation's arguments, keywords and result to the bytes of its temporaries."""
MIB = 2**20
WORKSPACE = dict.fromkeys((9, 10, 12), 32 * MIB)
"""cuBLAS's workspace of a handle by compute capability; forward and backward threads have a handle each (CublasHandlePool.cpp,
`parseChosenWorkspaceSize`: 32 MiB on Hopper and Blackwell, `:4096:2:16:8` elsewhere)."""
WORKSPACE_ELSEWHERE = 8 * MIB + 128 * 1024
BLACKWELL = (10, 12)
"""By the first number of their compute capability. Before torch 2.12 their workspaces were as large as elsewhere (pytorch, pull
request 175344)."""
THREADS = {(7, 5): 1024, (8, 6): 1536, (8, 7): 1536, (8, 9): 1536, (12, 0): 1536}
"""That a multiprocessor runs at once, where it is not 2,048 (CUDA's programming guide, compute capabilities)."""
UNTIL_SORTED = 3072
"""Tokens up to which the gradient of an embedding needs no sorting (Embedding.cu)."""


class Card(NamedTuple):
    """The device whose kernels are meant."""

    kind: str = "cuda"
    """cuda or cpu."""
    capability: tuple[int, int] = (8, 0)
    processors: int = 108
    """Streaming multiprocessors; they decide when 4-bit maps are multiplied without unpacking them."""
    repacks: bool = False
    """Whether it is a CPU with AVX512-BF16, for which bitsandbytes lays out 4-bit maps anew when they are first evaluated."""
    onednn: bool = False
    """Whether it is a CPU whose products in fp32 are oneDNN's (`products.py`)."""
    here: bool = False
    """Whether it is this processor, whose kernels can be watched (`scratch.py`)."""
    older: bool = False
    """Whether the step's torch is said to be one before 2.12."""
    cache: int = 0
    """Bytes that its cache keeps; of a CPU's nothing is counted."""

    @property
    def has_flash(self) -> bool:
        """Whether torch's flash attention runs on it (sdp_utils.cpp, `check_flash_attention_hardware_support`)."""
        return self.kind == "cuda" and self.capability >= (8, 0)

    @property
    def workspace(self) -> int:
        """Bytes of cuBLAS's workspace, for one thread."""
        if self.kind != "cuda":
            return 0
        small = self.older and self.capability[0] in BLACKWELL
        return WORKSPACE_ELSEWHERE if small else WORKSPACE.get(self.capability[0], WORKSPACE_ELSEWHERE)


def repacks_here() -> bool:
    """Whether bitsandbytes does so on this machine (`Card.repacks`)."""
    try:
        return bool(import_module("bitsandbytes.functional").has_avx512bf16())
    except ImportError:
        return False


def temporaries_on(card: Card) -> Callable[[Any, tuple[Any, ...], dict[str, Any], Any], list[int]]:
    """The table's lines for a card: bytes of temporaries by operation."""
    table: dict[Any, Line] = _CUDA if card.kind == "cuda" else _CPU

    @once
    def line_of(func: Any) -> Line | None:
        name = str(func)  # bitsandbytes registers its operations when it is imported, which may be in the middle of a trace
        if func in table:
            return table[func]
        if func is aten.mm.default and card.onednn:
            return lambda args, kwargs, out: products.copies(args[0], args[1])
        if card.here and scratch.depends(func):
            return partial(scratch.asked, func)
        if func is aten._scaled_dot_product_flash_attention.default and card.kind == "cuda":
            return partial(_flash_forward, card)
        if name == "bitsandbytes.gemm_4bit.default":
            return lambda args, kwargs, out: _four_bit_forward(card, args, kwargs)
        if name == "bitsandbytes.gemv_4bit.default" and card.kind == "cpu":
            return _repacked_forward
        if func is aten.sum.dim_IntList and card.kind == "cuda":
            return lambda args, kwargs, out: _sum_over_rows(card, args)
        return None

    def found(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
        line = line_of(func)
        return line(args, kwargs, out) if line is not None else []

    return found


# CUDA


def _sum_over_rows(card: Card, args: tuple[Any, ...]) -> list[int]:
    """Reduce.cuh, `setReduceConfig` and `global_memory_size`: where many rows are summed into few columns, as for the gradient of
    a bias or of a norm's weight, blocks share a column, and every lane of each leaves its sum in memory (H100: 32 MiB for 4,096
    rows of 1,024)."""
    values, dims = args[0], args[1]
    kept = values.dim() - len(dims or ())
    if not dims or sorted(d % values.dim() for d in dims) != list(range(len(dims))) or not kept or not values.is_contiguous():
        return []
    columns = math.prod(values.shape[len(dims) :])
    rows = values.numel() // max(columns, 1)
    if not rows or values.dtype == torch.float64:
        return []
    together = next(n for n in (4, 2, 1) if columns % n == 0)
    threads = 512 // together
    wide, high = (min(1 << (n.bit_length() - 1), threads) for n in (columns // together, rows))
    width = min(wide, 32)
    height = min(high, threads // width)
    width = min(wide, threads // height)
    if rows < min(16 * height, 256):
        return []
    each = -(-rows // height)
    grid = -(-(columns // together) // width)
    most = card.processors * (THREADS.get(card.capability, 2048) // (width * height))
    if each < 256 or grid > most:
        return []
    blocks = max(min(-(-most // grid), -(-each // 16)), -(-each // 256))
    return [4 * columns * blocks * width * together, 4 * grid] if blocks > 1 else []


def _softmax_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """SoftMax.cu, `softmax_backward_cuda_out`: `grad * output` is a tensor of its own."""
    return [args[0].nbytes]


def _safe_softmax(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """SoftMax.cpp, `_safe_softmax`: which scores are minus infinity, one byte each."""
    return [int(out.numel())]


def _flash_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """flash_attn/flash_api.cpp, `mha_bwd`: softmax_d and dq in fp32, rounded to 128 rows and 32 columns; with grouped heads
    dk and dv of every query head."""
    query, key = args[1], args[2]  # (B, heads, S, width)
    b, h, s, d = query.shape
    rows, width = _up(s, 128), _up(d, 32)
    blocks = [4 * b * h * rows, 4 * b * rows * h * width]
    if key.shape[1] != h:
        blocks += 2 * [query.element_size() * b * key.shape[2] * h * _up(d, 8)]
    return blocks


def _flash_forward(card: Card, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """flash_attn/flash_api.cpp, `set_params_splitkv`: where rows and heads leave multiprocessors idle, the keys are divided,
    and each part's result and log-sum-exp are kept in fp32 until they are added up; never with dropout."""
    query, key = args[0], args[1]
    b, h, s, d = query.shape
    if len(args) > 3 and args[3] > 0:
        return []
    parts = _splits(b * h * -(-s // 64), 2 * card.processors, -(-key.shape[2] // (256 if d <= 64 else 128 if d <= 128 else 64)))
    return [4 * parts * b * h * s, 4 * parts * b * h * s * _up(d, 32)] if parts > 1 else []


def _splits(blocks: int, processors: int, key_blocks: int) -> int:
    """`num_splits_heuristic`: the fewest parts that keep the multiprocessors 85% as busy as the best number would."""
    if blocks >= 0.8 * processors:
        return 1
    most = min(128, processors, key_blocks)
    useful = [n for n in range(1, most + 1) if n == 1 or -(-key_blocks // n) != -(-key_blocks // (n - 1))]
    busy = {n: (blocks * n / processors) / math.ceil(blocks * n / processors) for n in useful}
    return next(n for n in useful if busy[n] >= 0.85 * max(busy.values()))


def _variable_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """flash_attn/flash_api.cpp, `mha_varlen_bwd`: the same with rows of all sequences, 128 more for each."""
    query, key, cumulative = args[1], args[2], args[6]
    t, h, d = query.shape
    rows, width = t + 128 * (len(cumulative) - 1), _up(d, 32)
    blocks = [4 * h * rows, 4 * rows * h * width]
    if key.shape[1] != h:
        blocks += 2 * [query.element_size() * key.shape[0] * h * _up(d, 8)]
    return blocks


def _efficient_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """attention_backward.cu, `_efficient_attention_backward`: `delta` in fp32, which fp32 kernels make from a product as large
    as the output; 16-bit kernels add up dq in fp32 in a workspace (kernel_backward.h, `workspace_elements_gq`)."""
    query, value = args[1], args[3]
    b, h, s, d = query.shape
    if query.dtype == torch.float32:
        return [4 * b * h * s * value.shape[-1], 4 * b * h * s]
    return [4 * b * h * _up(s, 32), 4 * b * h * _up(s, 64) * _up(d, 64)]


def _embedding_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """Embedding.cu and EmbeddingBackwardKernel.cu: above 3,072 tokens they are sorted, and runs of ten are summed in fp32;
    taken for the worst case, tokens that are all different."""
    grad, indices = args[0], args[1]
    n = indices.numel()
    if n <= UNTIL_SORTED:
        return []
    width = grad.shape[-1]
    return [8 * n] * 4 + [4 * width * min(n, args[2] + -(-n // 10))]


def _unaligned(*operands: torch.Tensor) -> list[int]:
    """Blas.cpp, `prepare_matrix_for_cublas`: what has its numbers side by side neither in rows nor in columns is copied first, as
    the gradient of a sum, which is one number expanded."""
    return [t.numel() * t.element_size() for t in operands if not _for_cublas(t)]


def _for_cublas(matrix: torch.Tensor) -> bool:
    (m, n), (down, across) = matrix.shape[-2:], matrix.stride()[-2:]
    lies = (down == 1 and across >= max(1, m)) or (across == 1 and down >= max(1, n))
    return lies or bool(matrix.is_contiguous())


def _norm_backward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """layer_norm_kernel.cu: partial sums of the weight's and bias's gradients, one row a block."""
    rows = math.prod(args[1].shape[: -len(args[2])])
    width = math.prod(args[2])
    return [4 * width * min(-(-rows // 64), 128)] * 2 if rows > 128 else []


_CUDA: dict[Any, Line] = {
    aten._softmax_backward_data.default: _softmax_backward,
    aten._safe_softmax.default: _safe_softmax,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten.native_layer_norm_backward.default: _norm_backward,
    aten.mm.default: lambda args, kwargs, out: _unaligned(args[0], args[1]),
    aten.addmm.default: lambda args, kwargs, out: _unaligned(args[1], args[2]),
    aten.bmm.default: lambda args, kwargs, out: _unaligned(args[0], args[1]),
}
if hasattr(torch.ops.torch_attn, "_varlen_attn_backward"):
    _CUDA[torch.ops.torch_attn._varlen_attn_backward.default] = _variable_backward


def _four_bit_forward(card: Card, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    """bitsandbytes 0.50, backends/cuda/ops.py: the weight unpacked in the input's dtype, unless the rows are few; with double
    quantisation the scales too, twice."""
    rows, shape = args[0], args[2]
    m = rows.numel() // rows.shape[-1]
    if card.kind == "cuda" and multiplies_packed(card, rows.dtype, m, shape[0], shape[1]):
        return []
    blocks = [rows.element_size() * math.prod(shape)]
    return blocks + ([4 * (math.prod(shape) // args[4])] * 2 if kwargs.get("absmax_8bit") is not None else [])


def multiplies_packed(card: Card, dtype: torch.dtype, m: int, n: int, k: int) -> bool:
    """Whether bitsandbytes multiplies m rows with a 4-bit weight (n, k) without unpacking it, asked of the library itself."""
    ops = _choosing()
    if ops is None:
        return False
    asked, ops._gpu_dispatch_props = ops._gpu_dispatch_props, lambda _: (card.processors, *card.capability)
    try:
        return bool(ops._gemm_4bit_use_custom_cuda.__wrapped__(0, dtype, m, n, k))
    finally:
        ops._gpu_dispatch_props = asked


@cache
def _choosing() -> Any:
    """bitsandbytes' module that chooses, looked for once: a build without CUDA's code fails late in it. `None` there, and of a
    version without such a kernel."""
    try:
        ops = import_module("bitsandbytes.backends.cuda.ops")
    except (ImportError, AttributeError):
        return None
    return ops if hasattr(ops, "_gpu_dispatch_props") and hasattr(ops, "_gemm_4bit_use_custom_cuda") else None


# The CPU


def _mixed(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """TensorIterator.cpp, `compute_types`: on a CPU operands of several types are copied to the common one first, and a result of
    another type than that is made in it; adapters in fp32 over a base in bf16 add up so."""
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if len({t.dtype for t in tensors}) < 2:
        return []
    wide = [t for t in tensors if t.dim()] or tensors  # a number of another type changes nothing
    common = wide[0].dtype
    for t in wide[1:]:
        common = torch.promote_types(common, t.dtype)
    size = torch.empty((), dtype=common).element_size()
    copies = [size * t.numel() for t in tensors if t.dtype != common]
    return copies + ([size * out.numel()] if isinstance(out, torch.Tensor) and out.dtype != common else [])


def _summed(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """ReduceOpsUtils.h, `make_reduction`: on a CPU what is summed into another type is copied to it first, as Trainer's label
    smoothing sums 16 bit into fp32."""
    return [out.element_size() * args[0].numel()] if args[0].dtype != out.dtype and args[0].is_floating_point() else []


def _scattered(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """ScatterGatherKernel.cpp, `create_acc_buffer`: in 16 bit all of what is written to has a copy in fp32."""
    return [4 * out.numel()] if out.dtype in (torch.bfloat16, torch.float16) else []


def _repacked_forward(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """bitsandbytes 0.50, backends/cpu/ops.py, `gemv_4bit`: multiplies in bf16, and copies what is not."""
    rows = args[0]
    return [] if rows.dtype == torch.bfloat16 else [2 * rows.numel(), 2 * out.numel()]


_CPU: dict[Any, Line] = {
    getattr(getattr(aten, name), overload): _mixed
    for name in ("add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_")
    for overload in ("Tensor",)
} | dict.fromkeys((aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim), _summed) | dict.fromkeys(
    (
        aten.scatter_add.default, aten.scatter_add_.default, aten.scatter.src, aten.scatter_.src, aten.scatter.value,
        aten.scatter_.value, aten.gather.default,
    ), _scattered,
)  # fmt: skip
"""All else the trace sees by itself, but for what depends on processor and threads (`scratch.py`): for a product of 2,048 rows of
1,536 by 384 in bf16 that is 1,730,304 bytes, 0.57% of a step of MiniLM."""


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
