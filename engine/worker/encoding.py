"""Texts as token ids."""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.worker.batches import typed
from engine.worker.token_rows import TokenRows

CHUNK = 1_000
NO_WORD = -1


@dataclass(slots=True)
class Tokens:
    """Token ids of texts, special tokens included, unpadded, and what was lost by cutting them."""

    input_ids: TokenRows = field(default_factory=TokenRows)
    """Of pairs with their types (`batches.typed`) where the model knows any."""
    words: TokenRows = field(default_factory=TokenRows)
    """The word that each token belongs to, where words were given; `NO_WORD` for special tokens."""
    lost: list[int] = field(default_factory=list)
    """Tokens that were cut off each text."""

    @property
    def rows_cut(self) -> int:
        """Texts that lost something."""
        return sum(n > 0 for n in self.lost)

    @property
    def tokens_cut(self) -> int:
        """Tokens lost in all."""
        return sum(self.lost)


def token_ids(
    tokenizer: Any,
    texts: list[Any],
    max_length: int,
    progress: Callable[[int], None] | None = None,
    *,
    words: bool = False,
    as_targets: bool = False,
) -> Tokens:
    """Texts, or lists of `words`, cut at `max_length`; `as_targets` where they are to be written by an encoder-decoder.

    Of those the whole ones end with the end token if there is room; one that was cut does not, or it would teach to stop there.
    """
    found = Tokens()
    end = tokenizer.eos_token_id if as_targets else None
    ended = end is not None and end in tokenizer(text_target="a")["input_ids"]  # mBART's are followed by the language
    # Said in full: tokenizer files carry the truncation and padding of their last user (128 in MiniLM's).
    options = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False, "is_split_into_words": words}
    for start in range(0, len(texts), CHUNK):
        given = {"text_target" if as_targets else "text": texts[start : start + CHUNK]}
        batch = tokenizer(**given, truncation=True, max_length=max_length, **options)
        if batch.encodings:
            lost = _overflow(batch, tokenizer.num_special_tokens_to_add())
        else:  # tokenizers written in Python keep no account of what they cut
            whole = tokenizer(**given, truncation=False, **options)["input_ids"]
            lost = [len(ids) - len(kept) for ids, kept in zip(whole, batch["input_ids"], strict=True)]
        for ids, cut in zip(batch["input_ids"], lost, strict=True):  # most tokenizers write the end themselves, behind a cut too
            if end is not None and cut and ids[-1:] == [end] and len(ids) > 1:
                ids.pop()
            elif end is not None and not ended and ids[-1:] != [end] and len(ids) < max_length:  # texts may say it themselves
                ids.append(end)
            found.input_ids.append(ids)
        for i in range(len(batch["input_ids"]) if words else 0):
            found.words.append(NO_WORD if word is None else word for word in batch.word_ids(i))
        found.lost += lost
        if progress is not None:
            progress(len(found.input_ids))
    return found


WORDS = ("say", "don't", "2024", "hello")
"""What shows how a tokenizer reads words apart."""


UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""What Unicode calls the letters of languages that put no spaces between words."""


def has_spaces(words: Iterable[str]) -> bool:
    """Whether most of the words are of languages that put spaces between them."""
    names = [unicodedata.name(word[0], "") for word in words if word[:1].isalpha()]
    return sum(name.startswith(UNSPACED) for name in names) <= len(names) / 2


def glues(tokenizer: Any) -> bool:
    """Whether words apart are read as if they were one, unless each begins with a space: as most byte-level tokenizers do
    (Llama 3, ModernBERT, Gemma), which know a word in a sentence by the space before it."""

    def read(given: Any, **how: bool) -> Any:
        return tokenizer(given, add_special_tokens=False, **how)["input_ids"]

    whole = read(" " + " ".join(WORDS))
    apart, spaced = (read(words, is_split_into_words=True) for words in ([*WORDS], [f" {word}" for word in WORDS]))
    return bool(apart != whole == spaced)


def parts_pairs(tokenizer: Any) -> bool:
    """Whether a tokenizer puts something between two texts; most decoders' run them into one another."""
    return bool(tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False))


def pair_ids(
    tokenizer: Any,
    pairs: list[tuple[str, ...]],
    max_length: int,
    progress: Callable[[int], None] | None = None,
    *,
    types: bool = False,
) -> Tokens:
    """Pairs of texts, cut at `max_length`, a token at a time off whichever is longer then; `types` as the model was given them
    when it was pretrained on pairs."""
    found = Tokens()
    options = {"padding": False, "return_attention_mask": False, "return_token_type_ids": types}

    def ids_of(batch: Any) -> Any:
        return typed(batch["input_ids"], batch["token_type_ids"]) if types else batch["input_ids"]

    for start in range(0, len(pairs), CHUNK):
        firsts, seconds = (list(side) for side in zip(*pairs[start : start + CHUNK], strict=True))
        whole = tokenizer(firsts, seconds, truncation=False, **options)
        for i, texts in enumerate(zip(firsts, seconds, strict=True)):
            ids = ids_of({name: values[i] for name, values in whole.items()})
            lost = max(len(ids) - max_length, 0)
            cut = ids_of(tokenizer(*texts, truncation="longest_first", max_length=max_length, **options)) if lost else ids
            found.input_ids.append(cut)
            found.lost.append(lost)
        if progress is not None:
            progress(len(found.input_ids))
    return found


def _overflow(batch: Any, special: int) -> list[int]:
    """Tokens that were cut off each row; what is cut comes in pieces, each with special tokens of its own."""
    return [sum(len(piece.ids) - special for piece in row.overflowing) for row in batch.encodings]
