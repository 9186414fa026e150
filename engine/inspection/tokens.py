"""Token counts with the model's own tokenizer, before truncation."""

import random
from pathlib import Path
from typing import Literal

from recommender.errors import InputError

COUNT_ALL_UP_TO = 200_000
"""Rows; beyond it a sample is counted and the numbers are marked as estimated."""
CHARACTERS_PER_TOKEN = 4
"""Of usual English text, for models whose tokenizer is not a tokenizer.json."""


def token_lengths(texts: list[str], model: str | None) -> tuple[list[int], Literal["measured", "estimated", "assumed"]]:
    """Tokens of each text (of a sample beyond `COUNT_ALL_UP_TO`), special tokens included, never truncated.

    Raises:
        InputError: the tokenizer file is damaged.
    """
    origin: Literal["measured", "estimated"] = "measured"
    if len(texts) > COUNT_ALL_UP_TO:
        texts = random.Random(0).sample(texts, COUNT_ALL_UP_TO)
        origin = "estimated"
    file = Path(model) / "tokenizer.json" if model else None
    if file is None or not file.is_file():
        return [len(t) // CHARACTERS_PER_TOKEN + 2 for t in texts], "assumed"
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{file}: not readable as a tokenizer: {str(error).splitlines()[0]}.") from None
    # Files often carry the length their last user wanted; counting must not be cut or padded by it.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths: list[int] = []
    for start in range(0, len(texts), 2_000):
        lengths += [len(e.ids) for e in tokenizer.encode_batch_fast(texts[start : start + 2_000])]
    return lengths, origin
