"""How well a model that judges texts still knows language: the head it was pretrained with, put back on the body of this run.

A classifier is built without that head. Where the checkpoint has it, generic text shows what the body has forgotten: a masked
language model guesses hidden tokens, a decoder the next ones.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import transformers
from torch.nn import functional
from transformers import AutoConfig

from engine.worker.batches import padded
from engine.worker.inner import body_of
from engine.worker.modeling import weights_dtype
from engine.worker.scoring import Judge
from engine.worker.stored import new_modules
from engine.worker.tasks.base import Answer, Encoded
from recommender.errors import InputError
from recommender.plan import Plan

HIDDEN = 0.15
"""Share of the tokens that are hidden, as in pretraining (Devlin et al. 2019); all of them by the mask token."""


class Guessing(NamedTuple):
    """Generic text to be guessed, and by what."""

    rows: Encoded
    """Targets are pairs of a place, whose output guesses, and the token that is right."""
    judge: Judge
    hidden: bool
    """Whether tokens in the text are hidden; else each next one is guessed."""


def guessing(plan: Plan, folder: str, model: Any, tokenizer: Any, texts: Sequence[str]) -> Guessing | str:
    """`texts` for the body of `model`, whose checkpoint lies in `folder`; why that cannot be, in words, where it cannot."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.is_encoder_decoder:
        return "an encoder-decoder goes on from a source, and generic text has none"
    hidden = type(config) in transformers.AutoModelForMaskedLM._model_mapping
    auto = transformers.AutoModelForMaskedLM if hidden else transformers.AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        return f"models of type {config.model_type} were not pretrained to guess words"
    if hidden and tokenizer.mask_token_id is None:
        return "the tokenizer has no token that hides a word"
    try:
        lacking = new_modules(config, folder, auto).new
    except InputError:
        lacking = ["head"]
    if lacking:
        return "the checkpoint comes without the head that guesses words"
    whole = auto.from_pretrained(folder, trust_remote_code=False, use_safetensors=True, dtype=weights_dtype(plan))
    setattr(whole, whole.base_model_prefix, body_of(model))
    whole.tie_weights()  # where input and output share a matrix, with the one of this run
    whole = whole.to(next(model.parameters()).device).eval()

    def judge(model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        logits = whole(**padded(input_ids, config.pad_token_id or 0, next(model.parameters()).device)).logits
        found = []
        for row, wanted in zip(logits, targets, strict=True):
            places, tokens = (torch.tensor(part, device=row.device) for part in zip(*wanted, strict=True))
            losses = functional.cross_entropy(row[places].float(), tokens, reduction="none")
            found.append(Answer([float(losses.sum()), len(wanted)], float(losses.mean()), float(len(wanted))))
        return found

    ids = tokenizer(list(texts), truncation=True, max_length=plan.max_length, return_attention_mask=False)["input_ids"]
    made = [_with_gaps(row, i, tokenizer) if hidden else _next_tokens(row) for i, row in enumerate(ids)]
    made = [(row, targets) for row, targets in made if targets]
    rows = Encoded([row for row, _ in made], [targets for _, targets in made], [0] * len(made))
    return Guessing(rows, judge, hidden)


def _with_gaps(ids: list[int], number: int, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """The text with some tokens hidden, the same in every run."""
    places = [i for i, token in enumerate(ids) if token not in tokenizer.all_special_ids]
    chosen = sorted(random.Random(number).sample(places, min(len(places), max(1, round(HIDDEN * len(places))))))
    gone = set(chosen)
    return [tokenizer.mask_token_id if i in gone else token for i, token in enumerate(ids)], [(i, ids[i]) for i in chosen]


def _next_tokens(ids: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
    return ids, [(i, token) for i, token in enumerate(ids[1:])]
