"""Texts as token ids."""

from collections.abc import Callable
from typing import Any

CHUNK = 1_000


def token_ids(
    tokenizer: Any, texts: list[str], max_length: int, progress: Callable[[int], None] | None = None
) -> list[list[int]]:
    """Token ids of texts, special tokens included, cut at `max_length`, unpadded."""
    found: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        # Said in full: tokenizer files carry the truncation and padding of their last user (128 in MiniLM's).
        found += tokenizer(
            texts[start : start + CHUNK],
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        if progress is not None:
            progress(len(found))
    return found
