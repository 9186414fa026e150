"""How many padded tokens go through the model at once: the only thing that running out of memory changes."""

from collections.abc import Callable

import torch

from recommender.errors import TrainingFailed

MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says when memory runs out, on a GPU and on a CPU."""


class TokenBudget:
    """Padded tokens of a micro-batch; halved whenever that was too much."""

    def __init__(self, tokens: int, report: Callable[[int, int], None]) -> None:
        """`report` is told the budget before and after each change."""
        self.tokens = tokens
        self._report = report

    def shrink(self, error: BaseException, *, longest: int, rows: int) -> None:
        """Halve the budget after `error` came from a micro-batch of `rows` rows of at most `longest` tokens.

        Raises:
            TrainingFailed: one row alone does not fit.
            BaseException: `error` itself, when memory was not the matter.
        """
        if not is_out_of_memory(error):
            raise error
        if rows == 1:
            raise TrainingFailed(
                f"There is not enough memory for even one row of {longest} tokens. Close what else uses the memory, lower"
                " max_length, turn on gradient_checkpointing, or choose LoRA or QLoRA."
            ) from error
        before = self.tokens
        # From what was really tried: a budget far above what the rows fill would be halved many times for nothing.
        self.tokens = max(min(self.tokens, longest * rows) // 2, longest)
        self._report(before, self.tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that error means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY_WORDS)
