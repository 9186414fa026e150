"""What a run does when memory runs out: smaller micro-batches, then gradient checkpointing, then a clear end."""

import gc
from collections.abc import Callable

import torch

from engine.processes import trim_heap
from recommender.errors import TrainingFailed
from recommender.plan import Plan

MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc",
    "could not create a primitive", "could not create a memory", "failed to map segment", "cannot map zero-fill pages",
    "can't start new thread", "status_alloc_failed", "allocation_failed",
)  # fmt: skip
"""What torch and the system say when memory runs out, on a GPU and on a CPU. Those from the second line on were seen under a
limit: oneDNN's, the loader's where a library is loaded late, and Python's, whose threads need a stack. The last two are cuBLAS's
and cuDNN's, which take memory beside torch's allocator (pytorch issue 128601)."""
NOT_BEGUN = ("blas_status_not_initialized", "cudnn_status_not_initialized", "cudnn_status_internal_error")
"""What they say when they cannot begin: on a card that is nearly full that is for lack of memory (pytorch issue 81620)."""
NEARLY_FULL = 2**30
"""Bytes free on a card below which it is; cuDNN loads half as much with its kernels."""
LOST = (
    "device-side assert", "illegal memory access", "illegal instruction", "illegal address", "misaligned address",
    "unspecified launch failure", "launch timed out", "uncorrectable", "hardware stack error", "invalid program counter",
    "gpu is lost", "unknown error", "launch failure", "status_execution_failed",
)  # fmt: skip
"""What CUDA says of a GPU on which this process can compute nothing any more: every later call says the same."""
REFUSED_BY_THE_GPU = {
    "busy or unavailable":
        "Another program may have it to itself: `nvidia-smi` shows which, and whether its compute mode allows more.",
    "no kernel image":
        "The installed torch, or bitsandbytes, was built without kernels for this GPU: install a build that has them.",
}  # fmt: skip
"""What CUDA says of a GPU on which nothing can be begun, and what helps."""
BROKEN_KERNELS = ("could not create a primitive", "could not create a memory")
"""oneDNN writes a kernel for each new shape. Where it once found no room for one, it never writes another in that process,
whatever is free by then; torch's own operations take its place (seen with torch 2.13: `gelu` under RLIMIT_DATA)."""
LONE_TRIES = 3
"""How often a row that did not fit alone is tried again: what was held beside it may be free by then."""


class TokenBudget:
    """Padded tokens of a micro-batch: the first thing that gives when memory runs out.

    The result depends on it by what dropout draws, which goes by the cut, and by rounding.
    """

    def __init__(
        self,
        tokens: int,
        report: Callable[[int, int], None],
        *,
        relief: Callable[[], bool] | None = None,
        advice: str = "Close other programs, lower max_length, or choose LoRA or QLoRA.",
    ) -> None:
        """`report` is told the budget before and after each change.

        `relief` makes a step need less memory by other means, and says whether it could; `advice` is what a person can do.
        """
        self.tokens = tokens
        self._report = report
        self._relief = relief
        self._advice = advice
        self._alone = 0

    def worked(self) -> None:
        """What was tried last has gone through."""
        self._alone = 0

    def shrink(
        self, error: BaseException, *, longest: int, rows: int, tokens: int | None = None, training: bool = True
    ) -> None:
        """Make room after `error`, for lack of memory, came from a micro-batch of `rows` rows of at most `longest` tokens;
        `tokens` in all, where it was not cut by padded ones.

        To be called when `error` is no longer being handled: the frames it came through hold what is to be freed.

        Raises:
            TrainingFailed: one row alone does not fit, and nothing is left that would help.
        """
        give_back()
        if any(words in str(error) for words in BROKEN_KERNELS):
            torch.backends.mkldnn.set_flags(False)
        if rows > 1:
            before = self.tokens
            # From what was really tried: a budget far above what the rows fill would be halved many times for nothing.
            self.tokens = max(min(self.tokens, tokens or longest * rows) // 2, longest)
            self._report(before, self.tokens)
            return
        self._alone += 1
        if self._alone < LONE_TRIES:
            return
        if training and self._relief is not None and self._relief():
            self._alone = 0
            return
        raise TrainingFailed(f"There is not enough memory for even one row of {longest} tokens. {self._advice}") from error


def give_back() -> None:
    """Free what hangs in cycles, and return to the system what allocators keep of freed memory.

    Of main memory that is the end of the heap, which otherwise leaves no room for what is mapped beside it: kernels that oneDNN
    writes for a new shape, a library that is loaded late.
    """
    gc.collect()
    for device, there in (("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.backends.mps)):
        if there.is_available():
            getattr(torch, device).empty_cache()
    trim_heap()


def what_helps(plan: Plan, *, texts: bool = True) -> str:
    """What a person can change so that less memory is needed, the mildest first; where no `texts` take it, not their length."""
    found = ["close other programs"] + [f"lower max_length (it is {plan.max_length})"] * texts
    if plan.method == "full":
        if torch.cuda.is_available() and not plan.optimizer.startswith("adamw_8bit"):  # on a CPU it takes more, not less
            found.append("set optimizer to adamw_8bit")
        found.append("choose LoRA or QLoRA")
    elif plan.method == "lora":
        found.append("choose QLoRA")
    text = f"{', '.join(found[:-1])}, or {found[-1]}" if len(found) > 1 else found[0]
    return f"{text[0].upper()}{text[1:]}; or take a smaller model."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that error means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError | ImportError | OSError):
        return False
    said = str(error).lower()
    return any(words in said for words in MEMORY_WORDS) or (any(words in said for words in NOT_BEGUN) and _nearly_full())


def _nearly_full() -> bool:
    try:
        return bool(torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < NEARLY_FULL)
    except RuntimeError:  # it answers nothing any more
        return False


def has_lost_the_gpu(error: BaseException) -> bool:
    """Whether that error ends all computing of this process on its GPU."""
    return _is_of_the_gpu(error) and any(words in str(error).lower() for words in LOST)


def refused_by_the_gpu(error: BaseException) -> str:
    """What helps where that error says that nothing can be begun on the GPU; else nothing."""
    if not _is_of_the_gpu(error):
        return ""
    return next((cure for words, cure in REFUSED_BY_THE_GPU.items() if words in str(error).lower()), "")


def _is_of_the_gpu(error: BaseException) -> bool:
    said = str(error).lower()  # AMD's driver speaks as NVIDIA's does
    return isinstance(error, RuntimeError) and any(words in said for words in ("cuda", "cudnn", "hip error"))


def out_of_memory(error: BaseException) -> BaseException:
    """`error`, cleared of the frames that hold the memory; raised again as it is when memory was not the matter."""
    if not is_out_of_memory(error):
        raise error
    earlier: BaseException | None = error
    while earlier is not None:  # one that was raised while another was handled holds that one's frames too
        earlier = earlier.with_traceback(None).__cause__ or earlier.__context__
    return error
