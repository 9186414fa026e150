"""Texts as token ids."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

CHUNK = 1_000


@dataclass(slots=True)
class Tokens:
    """Token ids of texts, special tokens included, unpadded, and what was lost by cutting them."""

    input_ids: list[list[int]] = field(default_factory=list)
    words: list[list[int | None]] = field(default_factory=list)
    """The word that each token belongs to, where words were given; nothing for special tokens."""
    rows_cut: int = 0
    tokens_cut: int = 0


def token_ids(
    tokenizer: Any, texts: list[Any], max_length: int, progress: Callable[[int], None] | None = None, *, words: bool = False
) -> Tokens:
    """Texts, or lists of `words`, cut at `max_length`."""
    found = Tokens()
    special = tokenizer.num_special_tokens_to_add()
    for start in range(0, len(texts), CHUNK):
        # Said in full: tokenizer files carry the truncation and padding of their last user (128 in MiniLM's).
        batch = tokenizer(
            texts[start : start + CHUNK],
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            is_split_into_words=words,
        )
        found.input_ids += batch["input_ids"]
        if words:
            found.words += [batch.word_ids(i) for i in range(len(batch["input_ids"]))]
        for lost in _overflow(batch, special):
            found.rows_cut += lost > 0
            found.tokens_cut += lost
        if progress is not None:
            progress(len(found.input_ids))
    return found


def _overflow(batch: Any, special: int) -> Iterable[int]:
    """Tokens that were cut off each row; what is cut comes in pieces, each with special tokens of its own."""
    # Tokenizers written in Python keep no account of it.
    return (sum(len(piece.ids) - special for piece in row.overflowing) for row in batch.encodings or ())
