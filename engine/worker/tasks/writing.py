"""Models that write: the cross-entropy of the tokens that are learned, whatever rows they are of."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from transformers import AutoModelForMaskedLM

from engine.text import one_line
from engine.worker import causal
from engine.worker.batches import padded
from engine.worker.generating import as_keywords, tastes_off
from engine.worker.inner import inner_of, turns_at
from engine.worker.packing import IGNORED, Packed, pack
from engine.worker.precision import autocast
from engine.worker.tasks.base import Encoded, Progress
from engine.worker.tasks.written import Batch, Worded
from recommender.errors import InputError

Row = TypeVar("Row")
TELL_EVERY = 200
"""Rows."""
UNUSED = (
    "temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff", "early_stopping",
    "length_penalty",
)  # fmt: skip
"""What transformers finds wrong in settings for greedy writing."""


class Writing(Worded):
    """A language model that learns tokens of its rows: `chat.py` and `raw_text.py` say which."""

    auto_model = "AutoModelForCausalLM"
    adapter_type = "CAUSAL_LM"
    head_words = "language-model head"
    pipeline = "text-generation"
    purpose = "write text"
    own_usage: ClassVar[str]
    """Lines of Python that write a text, for the model card."""

    ends: tuple[int, ...] = ()
    """Tokens that end an answer: the tokenizer's end token, what the template closes a turn with, and what the model's own
    settings for writing name."""

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Look at a tokenizer before its first use.

        Raises:
            InputError: it does not tell which text a token comes from.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(f"{self.plan.model.id}: its tokenizer cannot give the positions of tokens (no tokenizer.json).")
        if self.tokenizer is not tokenizer:
            self.tokenizer = tokenizer
            self.ends = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)

    def adopt(self, model: Any) -> None:
        """Switch to the padding-free step where the model can do it, and say where it cannot."""
        inner = inner_of(model)
        both_ways = type(inner.config) in AutoModelForMaskedLM._model_mapping and not getattr(inner.config, "is_decoder", False)
        if both_ways:
            raise InputError(f"{self.plan.model.id}: models of type {inner.config.model_type} read text and do not generate it.")
        with autocast(next(model.parameters()).device, self.plan.precision):
            reason = causal.prepare(model)
            self.once = reason is None and causal.reads_once(model)
            rows = [] if reason is None else causal.made_up(inner, 9, 6)
            self.chunked = bool(rows) and self.reads_learned_only(model, rows, rows)
        self.packed, self.turn = reason is None, turns_at(model)
        if reason is not None:
            self.remark("padded", f"Rows are padded to equal lengths, which is slower: {one_line(reason, 200)}.")
        self.hasten(model)
        generation = getattr(inner, "generation_config", None)
        if generation is not None:
            self.tastes = tastes_off(generation)
        if generation is not None and self.ends:
            own = generation.eos_token_id  # the model's own ends stay: Llama 3's and Gemma's have several, some for turns
            self.ends = tuple(dict.fromkeys((*self.ends, *([own] if isinstance(own, int) else own or ()))))
            generation.eos_token_id = list(self.ends) if len(self.ends) > 1 else self.ends[0]
            try:
                generation.validate(strict=True)
            except ValueError:
                # Many are published with settings that go with sampling, switched off; changed, they could not be saved. What
                # belongs to the other way of writing is not used, so nothing is lost with it.
                generation.update(**dict.fromkeys(UNUSED), pad_token_id=self.pad)

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of the learned tokens; logits exist for those only."""
        if causal.is_packed(model):
            return causal.packed_loss(model, self._packed(model, input_ids, targets))
        return super().total(model, input_ids, targets)

    def token_losses(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of each learned token, (N,), row after row."""
        if causal.is_packed(model):
            return causal.packed_losses(model, self._packed(model, input_ids, targets))
        return super().token_losses(model, input_ids, targets)

    def _packed(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> Packed:
        return pack(input_ids, targets, next(model.parameters()).device, once=self.once)

    def batch(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> Batch:
        """A token is told at the place before it."""
        batch: dict[str, Any] = padded(input_ids, self.pad, next(model.parameters()).device)
        truth = torch.full(batch["input_ids"].shape, IGNORED, dtype=torch.long)
        for i, row in enumerate(targets):
            truth[i, : len(row)] = torch.tensor(row)
        truth = truth[:, 1:]
        device = batch["input_ids"].device
        places = tuple(where.to(device) for where in (truth != IGNORED).nonzero(as_tuple=True))  # found on the host
        return batch | {"use_cache": False}, places, truth[truth != IGNORED].to(device)

    def plain_text(self, tokenizer: Any, texts: Sequence[str]) -> Encoded:
        """As the tokenizer begins and ends a text, cut at the plan's length."""
        options = {"truncation": False, "return_attention_mask": False, "return_token_type_ids": False}
        ids = [tokenizer(text, **options)["input_ids"][: self.plan.max_length] for text in texts]
        return Encoded(ids, [list(row) for row in ids], [0] * len(ids))

    def usage(self) -> str:
        """Write one text."""
        ends = list(self.ends) if len(self.ends) != 1 else self.ends[0]
        return self.own_usage.replace("{end}", repr(ends or None)).replace("{pad}", f"{self.pad}{as_keywords(self.tastes)}")


def reported(rows: Iterable[Row], progress: Progress | None) -> Iterator[Row]:
    """The rows, one after the other; `progress` hears how many are done, now and then and at the end."""
    done = 0
    for done, row in enumerate(rows, 1):
        yield row
        if progress is not None and done % TELL_EVERY == 0:
            progress(done)
    if progress is not None:
        progress(done)
