"""Whole answers, written greedily: for samples, and for tasks that are scored by what the model writes.

Before the training they may take so many seconds and no more, so that a slow machine gets fewer or shorter ones; after it the
model writes as many, as long.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from engine.processes import trim_heap
from engine.worker.budget import give_back, out_of_memory
from engine.worker.inner import evaluating, inner_of
from engine.worker.precision import autocast
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Progress
from recommender.answering import ANSWERS_AT_ONCE

GIVEN_BACK_EVERY = 64
"""Tokens. The cache is copied into a slightly larger one at each token, and the pieces of before fit nothing: without this a
CPU's heap grew by 0.9 GB while SmolLM2 wrote 32 answers."""


OF_THE_MODEL = (
    "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
"""What a model's own settings say of how answers begin and end and what none may hold. Its tastes do not count (repetition
penalty, beams, least lengths): they hide what was learned, and a wanted answer that repeats a word could never be met."""


PLAIN = {
    "num_beams": 1, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": 0,
}  # fmt: skip
"""Those tastes, switched off: who does not say so to `generate` gets other answers than were scored."""
LEAST_TOKENS = 8
"""Of an answer that there was no time for: fewer show nothing."""
READING = 1 / 3
"""Of the time, at most, for reading what comes before the answers."""


class Limits(NamedTuple):
    """What may be written: as much as there is time for, or as much as the time before."""

    seconds: float = math.inf
    answers: int | None = None
    tokens: int | None = None
    """Of each."""
    cut: bool = False
    """Whether an answer may want more than those."""


class Written(NamedTuple):
    """Answers to the first prompts, to as many as there was time for."""

    texts: list[str]
    tokens: int
    """Most that each of them could have."""


class _Interrupted(StoppingCriteria):  # type: ignore[misc]  # mypy does not read transformers here
    """After every token: asks whether to leave, ends all answers when time is up, and now and then gives back what the growing
    cache left behind."""

    def __init__(self, reader: Reader, until: float, told: Callable[[int], None] | None) -> None:
        self._reader, self._until, self._told = reader, until, told
        self.tokens = 0
        self.time_is_up = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **rest: Any) -> torch.Tensor:
        self._reader.interrupt()
        self.tokens += 1
        if self.tokens % GIVEN_BACK_EVERY == 0 and input_ids.device.type == "cpu":
            trim_heap()
        if self._told is not None:
            self._told(self.tokens)
        self.time_is_up = time.monotonic() > self._until
        return torch.full((len(input_ids),), self.time_is_up, dtype=torch.bool, device=input_ids.device)


def write(
    reader: Reader,
    tokenizer: Any,
    model: Any,
    input_ids: Sequence[Sequence[int]],
    new_tokens: int,
    *,
    until: float = math.inf,
    told: Callable[[int], None] | None = None,
) -> Written:
    """What a model writes behind each of `input_ids`, at most `new_tokens` each; all of them at once.

    A decoder goes on from them, padded on the left; an encoder-decoder reads them, padded on the right. At the time `until`, of
    the monotonic clock, all answers end where they are. `told` hears of every token.

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
    inner = inner_of(model)
    own = inner.generation_config
    settings = GenerationConfig(**{name: value for name in OF_THE_MODEL if (value := getattr(own, name, None)) is not None})
    before = 0 if reads else longest
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or before + new_tokens
    settings.update(max_new_tokens=max(1, min(new_tokens, positions - before)), pad_token_id=pad, use_cache=True)
    watched = _Interrupted(reader, until, told)
    inner.generation_config = settings  # or `generate` takes from it whatever these leave open
    try:
        with evaluating(model), torch.inference_mode(), autocast(device, reader.task.plan.precision), _matrices(inner):
            found = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([watched]),
            )
    finally:
        inner.generation_config = own
    texts = [str(tokenizer.decode(row[before:], skip_special_tokens=True)).strip() for row in found]
    return Written(texts, min(watched.tokens, new_tokens) if watched.time_is_up else new_tokens)


@contextmanager
def _matrices(model: Any) -> Iterator[None]:
    """Within it the head reads the last tokens of prompts as a matrix. As they lie torch makes of a 16-bit head a copy for each
    row: 1.8 GB where SmolLM2 writes 32 answers on a CPU."""
    head = model.get_output_embeddings()
    hook = None if head is None else head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def tastes_off(own: GenerationConfig) -> dict[str, Any]:
    """What `generate` must be told so that a model with such settings of its own writes as it is scored here."""
    return {name: plain for name, plain in PLAIN.items() if getattr(own, name, None) not in (None, plain)}


def as_keywords(settings: Mapping[str, Any]) -> str:
    """Settings as what more a call is given, for model cards."""
    return "".join(f", {name}={value!r}" for name, value in settings.items())


def readable(reader: Reader, input_ids: Sequence[Sequence[int]], seconds: float) -> int:
    """How many of the first prompts are read together in their share of so many seconds; one always is."""
    longest = 0
    for n, ids in enumerate(input_ids, 1):
        longest = max(longest, len(ids))
        if n > 1 and reader.speed.time_for(n * longest) > READING * seconds:
            return n - 1
    return len(input_ids)


def write_all(
    reader: Reader,
    tokenizer: Any,
    model: Any,
    input_ids: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    progress: Progress,
    seconds: float = math.inf,
) -> Written:
    """`write`, in pieces of several token budgets, of one where memory is too small for that, of less where it still is.

    When the first piece takes `seconds`, its answers end there and are all; when another one would go beyond them, it is left.

    Raises:
        TrainingFailed: memory is too small even for one row.
    """
    give_back()  # what was read before leaves pieces that a growing cache does not fit into
    began, times, found = time.monotonic(), ANSWERS_AT_ONCE, list[str]()
    while len(found) < len(input_ids):
        left = input_ids[len(found) :]
        longest = max(map(len, left)) + new_tokens
        piece = left[: max(1, times * reader.budget.tokens // longest)]
        if seconds < math.inf:
            piece = piece[: readable(reader, piece, seconds)]
        spent = time.monotonic() - began
        if found and spent * (1 + len(piece) / len(found)) > seconds:
            break
        failure: BaseException | None = None
        said = Written([], new_tokens)
        try:
            said = write(reader, tokenizer, model, piece, new_tokens, until=began + seconds)
        except Exception as error:
            failure = out_of_memory(error)
        if failure is not None and len(piece) > 1 and times > 1:
            times = 1  # the budget itself is the training's, which may have been right
            give_back()
            continue
        if failure is not None:
            reader.budget.shrink(failure, longest=longest, rows=len(piece), training=False)
            continue
        reader.budget.worked()
        if said.tokens < new_tokens:  # time is up: shorter than those before, these would not be comparable with them
            return Written(found, new_tokens) if found else said
        found += said.texts
        progress(len(found))
    return Written(found, new_tokens)
