"""Token counts with the model's own tokenizer, before truncation."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.examples.turns import THOUGHT_END
from engine.files import read_json, sha256_of
from engine.inspection import templates
from engine.inspection.record import Record
from engine.text import first_line
from recommender.errors import InputError
from recommender.facts import Task

COUNT_ALL_UP_TO = 200_000
COUNT_ALL_CHARACTERS = 50_000_000
"""Rows and characters up to which every row is counted; beyond either a sample is, and its numbers are marked as estimated."""
SAMPLE_ROWS = 30_000
SAMPLE_CHARACTERS = 10_000_000
LONGEST_ROWS = 100
"""Rows with most characters that are always counted: a sample alone would miss the longest row."""
CHARACTERS_PER_TOKEN = 4
"""Of usual English text, for models whose tokenizer is not a tokenizer.json."""
CHUNK = 2_000


class Counts(NamedTuple):
    """Tokens of rows, a number each."""

    whole: list[int]
    """Of an encoder-decoder, which reads and writes apart, the longer side."""
    learned: list[int]
    """That carry loss; zeros for tasks that do not write."""
    before: list[int]
    """In front of what is learned first; zeros where something is learned whatever is cut."""
    read: Sequence[int] = ()
    """By an encoder-decoder; other models read all of it."""


class Counter:
    """Counts tokens of texts."""

    def __init__(self, model: str | None) -> None:
        """`model` is a folder.

        Raises:
            InputError: its tokenizer file is damaged.
        """
        self._tokenizer: Any = None
        self._unknown: int | None = None
        self._counted = self._not_known = 0
        self._apart, self._model = reads_apart(model), model
        file = tokenizer_file(model)
        if file is None:
            return
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{file}: not readable as a tokenizer: {first_line(error)}.") from None
        # Files often carry the length their last user wanted; counting must not be cut or padded by it.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown = self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", None) or "<unk>")

    @property
    def own(self) -> bool:
        """Whether it is the model's own tokenizer that counts."""
        return self._tokenizer is not None

    @property
    def unknown_share(self) -> float | None:
        """Of the tokens counted so far those that stand for what the tokenizer has no piece for; `None` where there are none."""
        return self._not_known / self._counted if self._not_known else None

    @cached_property
    def writes_calls(self) -> bool | None:
        """Whether the model's chat template writes down the tools that answers call; `None` where that is not known."""
        return None if self._tokenizer is None or self._model is None else templates.writes_calls(self._model)

    @property
    def thoughts(self) -> templates.Thoughts | None:
        """What becomes of thoughts under it, which tokenizers may know too."""
        found = None if self._tokenizer is None or self._model is None else templates.thoughts(self._model)
        return found and found._replace(known=found.known or self._tokenizer.token_to_id(THOUGHT_END) is not None)

    @cached_property
    def _around(self) -> templates.Around:
        """What a message costs beside its words, and a conversation."""
        if self._tokenizer is None:
            return templates.USUAL
        return templates.around(self._model, lambda text, special: self.lengths([text], special=special)[0])

    def lengths(self, texts: Sequence[str], *, special: bool) -> list[int]:
        """Tokens of each text, `special` ones (start, end) included or not."""
        if self._tokenizer is None:
            return [len(t) // CHARACTERS_PER_TOKEN + (2 if special else bool(t)) for t in texts]
        found: list[int] = []
        for start in range(0, len(texts), CHUNK):
            encoded = self._tokenizer.encode_batch_fast(list(texts[start : start + CHUNK]), add_special_tokens=special)
            found += [len(e.ids) for e in encoded]
            if self._unknown is not None:
                self._not_known += sum(e.ids.count(self._unknown) for e in encoded)
        around = self._tokenizer.num_special_tokens_to_add(False) if special else 0
        self._counted += sum(found) - around * len(found)
        return found

    def rows(self, rows: Sequence[Record], task: Task) -> Counts:
        """A row of preferences is as long as its longer answer makes it; both answers carry loss."""
        none = [0] * len(rows)
        if task in ("classification", "multi_label", "regression", "token_classification"):
            return Counts(self.lengths([r.text for r in rows], special=True), none, none)
        if task == "continued_pretraining":
            whole = self.lengths([r.text for r in rows], special=True)
            return Counts(whole, whole, none)
        read = self.lengths([r.text for r in rows], special=True)
        said = [n + 1 for n in self.lengths([r.target for r in rows], special=False)]  # and the end that is to be learned
        if any(r.called for r in rows) and self.writes_calls is False:
            calls = self.lengths([r.called for r in rows], special=False)
            said = [max(n - c, 1) for n, c in zip(said, calls, strict=True)]
        once, turn, (list_, tool) = templates.Around(0, 0.0) if self._apart else self._around
        lists = sorted({r.tools for r in rows} - {""}) if list_ or tool else []  # most rows have the same
        listed = dict(zip(lists, self.lengths(lists, special=False), strict=True))
        tools = [round(list_ + tool * listed[r.tools]) if r.tools in listed else 0 for r in rows]
        # With a system message of its own, which makes their number odd, a row does without the template's.
        own = (round(turn * r.turns) + (once if r.turns % 2 == 0 or once < 0 else 0) for r in rows)
        around = [a + b for a, b in zip(own, tools, strict=True)]
        if task == "preference":
            other = [n + 1 for n in self.lengths([r.other for r in rows], special=False)]
            whole = [a + max(b, c) + w for a, b, c, w in zip(read, said, other, around, strict=True)]
            return Counts(whole, [b + c for b, c in zip(said, other, strict=True)], read)
        if self._apart:
            return Counts([max(a, b) for a, b in zip(read, said, strict=True)], said, none, read)
        begun = self.lengths([r.begin if r.begin is not None else "" for r in rows], special=True)
        first = max(once, 0) + 2 * round(turn)
        wraps = (w if r.begin is None else first + n for r, w, n in zip(rows, around, tools, strict=True))
        before = [w + (a if r.begin is None else b) for r, a, b, w in zip(rows, read, begun, wraps, strict=True)]
        return Counts([a + b + w for a, b, w in zip(read, said, around, strict=True)], said, before)


def tokenizer_file(model: str | None) -> Path | None:
    """The file of a model folder that can count; `None` when it has none."""
    file = Path(model) / "tokenizer.json" if model else None
    return file if file is not None and file.is_file() else None


def reads_apart(model: str | None) -> bool:
    """Whether the model in that folder is an encoder-decoder."""
    file = Path(model) / "config.json" if model else None
    return file is not None and file.is_file() and bool(read_json(file).get("is_encoder_decoder"))


def tokenizer_fingerprint(model: str | None) -> list[str] | None:
    """SHA-256 of that file, and of those of the chat template."""
    file = tokenizer_file(model)
    return [sha256_of(name) for name in (file, *templates.files(model))] if file is not None else None
