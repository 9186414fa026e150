"""What tasks share whose answers are texts: the loss of an answer, and the answers themselves on held-out rows."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from engine.examples.turns import THOUGHT_END
from engine.metrics.answers import WrittenAnswers
from engine.metrics.kinds import Answers, Kind
from engine.worker.generating import LEAST_TOKENS, Limits, Written, write_all
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Answer, Begin
from recommender.answering import ANSWER_TOKENS, ANSWERS


def truth_of(kind: Kind, wanted: Sequence[str | None]) -> list[Any]:
    """What the metrics compare with: the wanted texts where they look at any, `None` where there is none."""
    return list(wanted) if isinstance(kind, WrittenAnswers) else [0] * len(wanted)


def answer_of(kind: Kind, losses: torch.Tensor) -> Answer:
    """The answer of a row from the losses of its tokens, (N,)."""
    total, count = float(losses.cpu().double().sum()), len(losses)  # on the CPU: Apple's GPUs have no fp64
    texts = [None] if isinstance(kind, WrittenAnswers) else []
    return Answer([total, count, *texts], total / max(count, 1), float(count))


def behind_thought(text: str, wanted: str) -> str:
    """What is answered, where the model begins with a thought (under Qwen3's template with an empty one) and none is wanted."""
    return text if THOUGHT_END in wanted else text.rpartition(THOUGHT_END)[2].strip()


def with_texts(
    reader: Reader,
    tokenizer: Any,
    model: Any,
    prompts: Sequence[Sequence[int]],
    said: Answers,
    *,
    truth: Sequence[str | None],
    longest: int,
    begin: Begin,
    limits: Limits,
) -> tuple[Answers, Limits | None]:
    """`said` with the texts that the model writes behind some of the `prompts`, where the metrics look at any; and what they came
    to where `limits` kept them from being whole or all.

    `truth` is what is wanted there; rows without it are not asked.

    Raises:
        TrainingFailed: memory is too small even for one row.
    """
    if not isinstance(reader.task.kind, WrittenAnswers):
        return said, None
    plan, known = reader.task.plan, [i for i, wanted in enumerate(truth) if wanted]
    # The same rows for all runs on the same split, whatever there is time for: the first of one order.
    wanted = random.Random(plan.data.split_seed).sample(known, min(len(known), ANSWERS[plan.task]))
    chosen, most = wanted[: limits.answers], min(longest, ANSWER_TOKENS)
    if not chosen:
        return said, None
    found = write_all(
        reader, tokenizer, model, [prompts[i] for i in chosen],
        new_tokens=min(most, limits.tokens or most), progress=begin("answers", len(chosen)), seconds=limits.seconds,
    )  # fmt: skip
    if found.tokens < min(most, LEAST_TOKENS):
        found = Written([], 0)
    predicted = list(said.predicted)
    for i, text in zip(chosen, found.texts, strict=False):
        predicted[i] = [*predicted[i][:2], behind_thought(text, truth[i] or "")]
    came_to = Limits(answers=len(found.texts), tokens=found.tokens, cut=found.tokens < most)
    whole = len(found.texts) == len(wanted) and not came_to.cut
    return replace(said, predicted=predicted), None if whole else came_to
