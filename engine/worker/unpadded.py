"""The padding-free pass of models with a head on their hidden states: encoders, and decoders that classify.

The body reads the real tokens laid end to end, and its hidden states are spread out again for the head, which is the
model's own. Whoever calls the model sees no difference but the time.
"""

from typing import Any

import torch

from engine.text import first_line
from engine.worker import attention, causal, first_token
from engine.worker.inner import body_of, evaluating, inner_of
from engine.worker.layout import spread

LENGTHS = (11, 7)
"""Of the made-up rows that a model must read both ways alike."""
FURTHER = 16
"""How far the first of them reaches beyond the window of a model that has one."""
MOST = 2048
"""A window wider than that is not tried: it would take seconds, and texts shorter than it never meet it."""


def prepare(model: Any) -> str | None:
    """Give a loaded model the padding-free pass; why it cannot have it, in words, with the model left as it was.

    To be called under the autocast of the run: precision decides which attention is computed. Families are not listed: made-up
    rows go through the model padded and unpadded, and the outputs must agree. Positions are counted from 0, or, as in RoBERTa,
    from behind the padding token's number.
    """
    inner = inner_of(model)
    if inner.config.is_encoder_decoder:
        return f"{inner.config.model_type} reads with one half and writes with the other"
    reason = attention.refusal(inner)
    if reason is not None:
        return reason
    body, before = body_of(model), inner.config._attn_implementation
    try:
        with evaluating(model):
            reason = _switched(model, inner, body)
        if reason is None:
            return None
    except first_token.UNFIT as error:
        reason = first_line(error)
    body.__dict__.pop("forward", None)  # the class's own shows again
    inner.set_attn_implementation(before)
    return reason


def _switched(model: Any, inner: Any, body: Any) -> str | None:
    """Give the model the pass whose outputs agree with its own; why none does, in words."""
    batch = _made_up(inner)
    expected = _read(model, batch)
    attention.register()
    usual = body.forward
    reason = None
    for first in (0, (inner.config.pad_token_id or 0) + 1):
        switch(inner, body, usual, first)
        reason = _difference(model, batch, expected)
        if reason is None:
            _narrow(model, batch, expected)
            break
    return reason


def _made_up(inner: Any) -> dict[str, torch.Tensor]:
    """Rows of unequal length, one of them longer than the model's window, padded on the right."""
    config = inner.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    longest = min(max(LENGTHS[0], window + FURTHER if window <= MOST else 0), getattr(config, "max_position_embeddings", 512) - 2)
    lengths = (longest, *LENGTHS[1:])
    draw = torch.Generator().manual_seed(0)
    ids = torch.full((len(lengths), longest), config.pad_token_id or 0)
    for i, n in enumerate(lengths):
        ids[i, :n] = torch.randint(5, min(config.vocab_size, 1000), (n,), generator=draw)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    device = next(inner.parameters()).device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _read(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of the real tokens, and the head's outputs: fresh heads are too small to show what is wrong before them."""
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        hidden, outputs = body_of(model)(**batch).last_hidden_state, model(**batch).logits
    return hidden[real].float(), (outputs[real] if outputs.dim() == 3 else outputs).float()


def _difference(model: Any, batch: dict[str, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> str | None:
    """What is wrong with the padding-free pass, in words."""
    inner = inner_of(model)
    pairs = zip(_read(model, batch), expected, strict=True)
    # By torch: Python's `max` passes over what is not a number.
    apart = float(torch.stack([(got - wanted).abs().max() / wanted.abs().max() for got, wanted in pairs]).max())
    if not apart <= causal.tolerance(inner):
        return f"{inner.config.model_type} read without padding gives other outputs (up to {apart:.3g} of the largest)"
    return None


def _narrow(model: Any, batch: dict[str, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Compute the last layer for first tokens only, where the head says the same though nothing but NaN stands elsewhere."""
    inner, body = inner_of(model), body_of(model)
    if not first_token.possible(inner, body):
        return
    try:
        first_token.put_in(inner, body, float("nan"))
        agrees = _difference(model, batch, expected) is None
    except first_token.UNFIT:
        agrees = False
    if agrees:
        first_token.put_in(inner, body, 0.0)
    else:
        first_token.undo(inner, body)


def switch(inner: Any, body: Any, usual: Any, first: int) -> None:
    """Give the body the padding-free pass, with positions from `first` on."""
    inner.set_attn_implementation(attention.NAME)
    body.forward = _forward_of(body, usual, first)


def real_tokens(attention_mask: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor]:
    """Lengths of the rows, and the places of the tokens that are not padding, (T,), in the flattened batch."""
    return tuple(attention_mask.sum(1).tolist()), attention_mask.flatten().nonzero().squeeze(1)


def _forward_of(body: Any, usual: Any, first: int) -> Any:
    def forward(
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        unread: float | None = None,
        **rest: Any,
    ) -> Any:
        given = {name: value for name, value in rest.items() if value is not None and value is not False}
        given.pop("return_dict", None)
        types = given.pop("token_type_ids", None)
        if given or input_ids is None or attention_mask is None or attention_mask.dim() != 2:
            return usual(input_ids, attention_mask=attention_mask, **rest)
        lengths, places = real_tokens(attention_mask)
        positions = (attention_mask.cumsum(1) - 1 + first).flatten().index_select(0, places)
        ids = input_ids.flatten().index_select(0, places)
        if hasattr(body.config, "use_cache"):
            given["use_cache"] = False
        if types is not None:
            given["token_type_ids"] = types.flatten().index_select(0, places)[None]
        told = attention.keywords(lengths, input_ids.device)
        if unread is not None:
            told["read"] = told["cu_seq_lens_q"][:-1]
            places = places.index_select(0, told["read"])
        found = usual(input_ids=ids[None], position_ids=positions[None], **given, **told)
        hidden = spread(found.last_hidden_state[0], places, input_ids.numel(), unread or 0.0).unflatten(0, input_ids.shape)
        found.last_hidden_state = hidden
        if getattr(body, "pooler", None) is not None:
            found.pooler_output = body.pooler(hidden)
        return found

    return forward
