"""What differs between kinds of work: the model's head, a row's target, the loss of a step, and what an answer is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import transformers

from engine.metrics.kinds import Answers, Kind
from engine.metrics.registry import kind_of
from engine.rows import Rows
from engine.worker import dropout, fused_lora, unpadded
from engine.worker.batches import OVERHEAD, cut
from engine.worker.inner import turns_at
from engine.worker.packing import cut_packed
from engine.worker.precision import autocast
from engine.worker.token_rows import lengths_of, taken
from recommender.facts import Family
from recommender.plan import Plan

if TYPE_CHECKING:
    from engine.worker.generating import Limits
    from engine.worker.scoring import Reader

Progress = Callable[[int], None]
Begin = Callable[[str, int], Progress]
"""Begins a phase of that name, of so many rows."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as the model reads them."""

    input_ids: Sequence[list[int]]
    """Cut at the plan's `max_length`, unpadded; of many rows `TokenRows`."""
    targets: Sequence[Any]
    """What the task's loss compares with: a class, a number, a label a token, ..."""
    truth: Sequence[Any]
    """What the task's metrics compare with, as JSON; often the targets."""
    rows_cut: int = 0
    """Rows longer than `max_length`."""
    tokens_cut: int = 0
    """Tokens lost by that."""
    untrained: Collection[int] = ()
    """Numbers of the rows that are left out because nothing would be learned from them."""
    why_untrained: str = ""
    """A sentence about those: how many of how many, the first, the cause and what to do."""
    groups: Sequence[int] | None = None
    """Which rows are drawn together (`Answers.groups`), where they are scored."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """A row as the trainer's loader reads it."""
        return {"input_ids": self.input_ids[i], "targets": self.targets[i]}

    @property
    def rows_untrained(self) -> int:
        """How many rows are left out because nothing would be learned from them."""
        return len(self.untrained)

    def take(self, indices: Sequence[int]) -> "Encoded":
        """The rows at `indices`, in that order."""
        input_ids, targets, truth = (taken(values, indices) for values in (self.input_ids, self.targets, self.truth))
        groups = None if self.groups is None else [self.groups[i] for i in indices]
        return Encoded(input_ids, targets, truth, groups=groups)


class Prompt(NamedTuple):
    """What a sample generation goes on from."""

    text: str
    """What is shown of it."""
    input_ids: list[int]
    wanted: str
    """What the data says there."""


class Answer(NamedTuple):
    """What a model said about one row."""

    predicted: Any
    """As JSON; what the task's metrics understand."""
    loss: float
    """Mean over the row's units."""
    weight: float = 1.0
    """Units of the row: 1, or its trained tokens."""


class Task(ABC):
    """One kind of work, for one run."""

    auto_model: ClassVar[str]
    """The transformers class that loads a model with this task's head."""
    adapter_type: ClassVar[str]
    """peft's name for it."""
    head_words: ClassVar[str]
    """What a model must have for it, in words."""
    pipeline: ClassVar[str]
    """The hub's name for it, for the model card."""
    purpose: ClassVar[str]
    """What the model is fine-tuned to do, in words."""
    has_probe: ClassVar[bool] = False
    """Whether a linear model on embeddings is something to compare with."""
    fresh_head: ClassVar[bool] = True
    """Whether the head may start from random weights."""
    has_reference: ClassVar[bool] = False
    """Whether rows are compared with what the untouched model says of them; `reference.py` fills that in."""

    tells_texts_apart = False
    """Whether the model is told of which text of a pair a token is; `modeling.load_config` looks."""
    packed = False
    """Whether the models of this run read sequences laid end to end, without padding."""
    turn: int | None = None
    """Tokens above which rows are read apart from shorter ones; `inner.turns_at` looks."""
    once = False
    """Whether what rows of a micro-batch begin with alike is then read once."""

    def __init__(self, plan: Plan, labels: list[str], pad: int, family: Family | None = None) -> None:
        self.plan = plan
        self.labels = labels
        self.pad = pad
        self.family = family
        self.kind: Kind = kind_of(plan.task, labels)
        self.remarks: dict[str, str] = {}
        """What the person should know, by code."""

    def remark(self, code: str, text: str) -> None:
        """Something to warn of, once."""
        self.remarks.setdefault(code, text)

    def model_class(self) -> Any:
        """The class named by `auto_model`."""
        return getattr(transformers, self.auto_model)

    @abstractmethod
    def config_options(self) -> dict[str, Any]:
        """What the model's configuration must say about this run."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Token ids and targets of rows."""

    def prepare(self, train: Encoded, device: torch.device) -> None:  # noqa: B027 - most tasks have nothing to prepare
        """Look at the training rows before the first step: class weights, means, ..."""

    def adopt(self, model: Any) -> None:
        """Look at a model that was loaded for this run before it reads anything: the padding-free pass, where it can do it."""
        with autocast(next(model.parameters()).device, self.plan.precision):
            self.packed = unpadded.prepare(model) is None
        self.turn = turns_at(model)
        self.hasten(model)

    def hasten(self, model: Any) -> None:
        """What makes a model's layers cheaper and leaves what they compute."""
        fused_lora.fuse(model)
        dropout.hasten(model)

    def lengths(self, input_ids: Sequence[Sequence[int]], targets: Sequence[Any]) -> list[int]:
        """Tokens of each row that micro-batches are cut by: what is read."""
        return lengths_of(input_ids)

    def cut(self, lengths: Sequence[int], token_budget: int, device: str) -> list[list[int]]:
        """Indices of the micro-batches of a logical batch: without padding as few as the budget allows. No row that is longer
        than `turn` is beside one that is not."""
        pieces: list[list[int]] = []
        for rows in self.apart(lengths):
            own, overhead = [lengths[i] for i in rows], OVERHEAD.get(device, OVERHEAD["cuda"])
            found = cut_packed(own, token_budget) if self.packed else cut(own, token_budget, overhead)
            pieces += [[rows[i] for i in piece] for piece in found]
        return pieces

    def apart(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the rows longer than `turn`, where there are such, and of the others."""
        long = [i for i, tokens in enumerate(lengths) if self.turn is not None and tokens > self.turn]
        beyond = set(long)
        return [rows for rows in (long, [i for i in range(len(lengths)) if i not in beyond]) if rows]

    def held(self, lengths: Sequence[int]) -> int:
        """Tokens of a micro-batch of rows of those lengths, as `cut` counts them."""
        return sum(lengths) if self.packed else len(lengths) * max(lengths)

    @abstractmethod
    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """The loss of a micro-batch, summed over its units; a scalar with gradients."""

    def likelihoods(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Log-likelihoods, (rows, k), that a row is compared with; for tasks that `has_reference`."""
        raise NotImplementedError

    def weight(self, targets: Sequence[Any]) -> float:
        """What the sum over a logical batch is divided by: its rows, or what they count."""
        return float(len(targets))

    @abstractmethod
    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """What the model says about a micro-batch; called without gradients."""

    def finish(self, model: Any) -> None:  # noqa: B027 - most tasks have nothing to add
        """Write into the configuration of a trained model, which is about to be saved, what its user must know."""

    def write_out(
        self, reader: "Reader", model: Any, rows: Encoded, said: Answers, begin: Begin, *, limits: "Limits"
    ) -> "tuple[Answers, Limits | None]":
        """`said` with what only the held-out rows are worth: whole answers written by the model; and what these came to where
        `limits` kept them from being whole or all."""
        return said, None

    @abstractmethod
    def about(self) -> str:
        """A paragraph of Markdown for the model card; foreign text in it cleaned."""

    @abstractmethod
    def usage(self) -> str:
        """Lines of Python for the model card that use `model` and `tokenizer`."""

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterable[Prompt]:
        """Beginnings of at most `most` tokens for sample generations; none where nothing is written."""
        return ()

    def plain_text(self, tokenizer: Any, texts: Sequence[str]) -> Encoded | None:
        """Texts of which every token is to be predicted, for the forgetting check; `None` where the model has another head."""
        return None

    def constant(self, train: Encoded, held_out: Encoded) -> Answers | None:
        """The best answer that looks at no text, for all held-out rows; `None` where there is none worth comparing with."""
        return None

    def probe(self, seen: Any, train: list[Any], shown: Any, held_out: list[Any]) -> Answers:
        """A linear model on the untouched model's embeddings, (rows, hidden); for tasks that `has_probe`."""
        raise NotImplementedError
