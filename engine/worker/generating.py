"""Whole answers, written greedily: for samples, and for tasks that are scored by what the model writes."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from engine.worker.budget import give_back, out_of_memory, trim_heap
from engine.worker.precision import autocast
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Progress
from recommender.timing import ANSWERS_AT_ONCE

GIVEN_BACK_EVERY = 64
"""Tokens. The cache is copied into a slightly larger one at each token, and the pieces of before fit nothing: without this a
CPU's heap grew by 0.9 GB while SmolLM2 wrote 32 answers."""


OF_THE_MODEL = (
    "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
"""What a model's own settings say of how answers begin and end and what none may hold. Its tastes do not count (repetition
penalty, beams, least lengths): they hide what was learned, and a wanted answer that repeats a word could never be met."""


class _Interrupted(StoppingCriteria):  # type: ignore[misc]  # mypy does not read transformers here
    """Asks after every token whether to leave, and now and then gives back what the growing cache left behind."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._tokens = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **rest: Any) -> torch.Tensor:
        self._reader.interrupt()
        self._tokens += 1
        if self._tokens % GIVEN_BACK_EVERY == 0 and input_ids.device.type == "cpu":
            trim_heap()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def write(reader: Reader, tokenizer: Any, model: Any, input_ids: Sequence[Sequence[int]], new_tokens: int) -> list[str]:
    """What a model writes behind each of `input_ids`, at most `new_tokens` each; all of them at once.

    A decoder goes on from them, padded on the left; an encoder-decoder reads them, padded on the right.

    Raises:
        RuntimeError, MemoryError: memory is too small for so many at once.
    """
    device = next(model.parameters()).device
    reads = bool(model.config.is_encoder_decoder)
    longest = max(map(len, input_ids))
    pad = reader.task.pad
    ids = torch.full((len(input_ids), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(input_ids):
        place = slice(0, len(row)) if reads else slice(longest - len(row), longest)
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = inner.generation_config
    settings = GenerationConfig(**{name: value for name in OF_THE_MODEL if (value := getattr(own, name, None)) is not None})
    before = 0 if reads else longest
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or before + new_tokens
    settings.update(max_new_tokens=max(1, min(new_tokens, positions - before)), pad_token_id=pad, use_cache=True)
    was_training = model.training
    model.eval()
    inner.generation_config = settings  # or `generate` takes from it whatever these leave open
    try:
        with torch.inference_mode(), autocast(device, reader.task.plan.precision):
            found = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([_Interrupted(reader)]),
            )
    finally:
        inner.generation_config = own
        model.train(was_training)
    return [str(tokenizer.decode(row[before:], skip_special_tokens=True)).strip() for row in found]


def write_all(
    reader: Reader, tokenizer: Any, model: Any, input_ids: Sequence[Sequence[int]], *, new_tokens: int, progress: Progress
) -> list[str]:
    """`write`, in pieces of several token budgets, of one where memory is too small for that, of less where it still is.

    Raises:
        TrainingFailed: memory is too small even for one row.
    """
    found: dict[int, str] = {}
    left = sorted(range(len(input_ids)), key=lambda i: -len(input_ids[i]))
    times = ANSWERS_AT_ONCE
    while left:
        longest = len(input_ids[left[0]]) + new_tokens
        piece = left[: max(1, times * reader.budget.tokens // longest)]
        failure: BaseException | None = None
        texts: list[str] = []
        try:
            texts = write(reader, tokenizer, model, [input_ids[i] for i in piece], new_tokens)
        except (RuntimeError, MemoryError) as error:
            failure = out_of_memory(error)
        if failure is not None and len(piece) > 1 and times > 1:
            times = 1  # the budget itself is the training's, which may have been right
            give_back()
            continue
        if failure is not None:
            reader.budget.shrink(failure, longest=longest, rows=len(piece), training=False)
            continue
        reader.budget.worked()
        found.update(zip(piece, texts, strict=True))
        left = left[len(piece) :]
        progress(len(found))
    return [found[i] for i in range(len(input_ids))]
