"""What tasks share whose answers are texts: the loss of an answer, and the answers themselves on held-out rows."""

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from engine.examples.turns import THOUGHT_END
from engine.metrics.answers import WrittenAnswers
from engine.metrics.kinds import Answers, Kind
from engine.worker import causal
from engine.worker.generating import LEAST_TOKENS, Limits, Written, write_all
from engine.worker.inner import evaluating, inner_of
from engine.worker.packing import learned
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Answer, Begin, Task
from engine.worker.token_loss import before_head, head_apart, head_of, token_loss, token_losses
from recommender.answering import ANSWER_TOKENS, ANSWERS

Batch = tuple[dict[str, Any], tuple[torch.Tensor, ...], torch.Tensor]
"""Keywords of a model that is read padded, the places of its logits where a token is learned, and those tokens, (N,)."""


class Worded(Task):
    """A task that learns tokens: the cross-entropy of those of a micro-batch."""

    fresh_head = False

    chunked = False
    """Whether the head of a model that is read padded is put on the learned tokens only, a chunk at a time; else all logits are
    computed."""
    tokenizer: Any = None
    tastes: Mapping[str, Any] = MappingProxyType({})
    """What the model card tells `generate` so that others get the answers that were scored."""

    @abstractmethod
    def batch(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> Batch:
        """A micro-batch, padded."""

    def units(self, target: Any) -> int:
        """Tokens of a row that are learned."""
        return learned(target)

    def config_options(self) -> dict[str, Any]:
        """Nothing: labels are words of the vocabulary."""
        return {}

    def reads_learned_only(self, model: Any, rows: list[list[int]], targets: list[list[int]]) -> bool:
        """Whether the head may be put on some tokens only: both ways must give the same losses of these rows."""
        with evaluating(model), torch.no_grad():
            return head_apart(model, *self.batch(model, rows, targets)) <= causal.tolerance(inner_of(model))

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of the learned tokens."""
        batch, places, truth = self.batch(model, input_ids, targets)
        if self.chunked:
            return token_loss(before_head(model, batch, places), head_of(model), truth)
        return functional.cross_entropy(model(**batch).logits[places].float(), truth, reduction="sum")

    def token_losses(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of each learned token, (N,), row after row."""
        batch, places, truth = self.batch(model, input_ids, targets)
        if self.chunked:
            return token_losses(before_head(model, batch, places), head_of(model), truth)
        return functional.cross_entropy(model(**batch).logits[places].float(), truth, reduction="none")

    def weight(self, targets: Sequence[Any]) -> float:
        """Learned tokens of the logical batch."""
        return float(max(sum(map(self.units, targets)), 1))

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """Summed loss and learned tokens of each row."""
        losses = self.token_losses(model, input_ids, targets)
        return [answer_of(self.kind, part) for part in losses.split(list(map(self.units, targets)))]


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
