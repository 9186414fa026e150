"""What kernels of this very processor ask for while they run: oneDNN and attention choose that by sizes, processor and threads,
so that each kind of call is made here once, and watched.
"""

from itertools import accumulate
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from engine.worker.tracing.shapes import flops_of
from engine.worker.tracing.timed import Outline

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}
"""oneDNN's in 16 bit; in fp32 they are MKL's, which asks for nothing."""
OTHERS = {
    aten.convolution.default, aten.convolution_backward.default, aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}  # fmt: skip
MOST_FLOPS, MOST_BYTES = 10**10, 3 * 10**8
"""Of a call that is made: 0.1 seconds on two cores. What larger ones ask for is little beside what they compute."""
_KNOWN: dict[Any, list[int]] = {}


def depends(func: Any) -> bool:
    """Whether it is an operation whose kernels here are to be asked."""
    return func in PRODUCTS or func in OTHERS


def asked(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """Bytes of the blocks beside the results of such a call, of tensors without contents."""
    if func in PRODUCTS and not _are_onednns(args[0].dtype):
        return []
    leaves, spec = pytree.tree_flatten((args, kwargs))
    outlines = [Outline(x) if isinstance(x, torch.Tensor) else x for x in leaves]
    key = func, str(spec), tuple((x.size, x.stride, x.dtype) if isinstance(x, Outline) else str(x) for x in outlines)
    if key not in _KNOWN:
        results = [Outline(x) for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        size = sum(x.bytes for x in (*outlines, *results) if isinstance(x, Outline))
        small = size <= MOST_BYTES and flops_of(func, args, kwargs, out) <= MOST_FLOPS
        _KNOWN[key] = _seen(func, outlines, spec) if small else []
    return _KNOWN[key]


def _are_onednns(dtype: torch.dtype) -> bool:
    """Whether products of that type are oneDNN's here. torch's own in 16 bit take seconds, and ask for nothing."""
    known = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return dtype in known and bool(getattr(torch.ops.mkldnn, known[dtype])())


def _seen(func: Any, outlines: list[Any], spec: Any) -> list[int]:
    """By torch's older profiler: the other takes a second to begin."""
    try:
        from torch._C._profiler import _ExperimentalConfig
        from torch.autograd import ProfilerConfig, ProfilerState, _disable_profiler_legacy, _enable_profiler_legacy
    except ImportError:
        return []
    with _disable_current_modes(), torch.no_grad():
        args, kwargs = pytree.tree_unflatten([x.made() if isinstance(x, Outline) else x for x in outlines], spec)
        _enable_profiler_legacy(ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()))
        try:
            held = func(*args, **kwargs)
        except RuntimeError:  # no such kernel on this processor
            held = None
        finally:
            records = _disable_profiler_legacy()
    changes = [e.cpu_memory_usage() for thread in records for e in thread if e.kind() == "memory_alloc"]
    del held  # until here: results are no temporaries
    extra = max(accumulate(changes), default=0) - sum(changes)
    return [extra] if extra > 0 else []
