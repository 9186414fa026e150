"""A tag a word: the mean cross-entropy over words."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker.batches import padded
from engine.worker.encoding import NO_WORD, glues, has_spaces, token_ids
from engine.worker.tasks.base import Answer, Encoded, Progress, Task
from engine.worker.tasks.heads import by_rarity, listed, names
from engine.worker.token_rows import Records, TokenRows
from recommender.errors import InputError
from recommender.facts import Family

FIRST_ROWS = 1000
"""Rows that tell how their words are written."""
UNREAD = -1
"""The answer for a word that the model never saw."""
USE = """\
import re

import torch

model.eval()
words = re.findall(r"\\w+|[^\\w\\s]", "Some words, as they come.")  # or your own list of words
inputs = tokenizer([{words}], is_split_into_words=True, truncation=True, max_length={length}, return_tensors="pt")
with torch.no_grad():
    best = model(**inputs).logits[0].argmax(-1).tolist()
tags = {}  # of each word, told at its {which} token; words beyond the length get none
for place, word in enumerate(inputs.word_ids(0)):
    if word is not None{first}:
        tags[word] = model.config.id2label[best[place]]
for place, word in enumerate(words):
    print(word, tags.get(place, ""), sep="\\t")
"""


class TaggedWords(Task):
    """Token classification: a word's tag is learned and told at its first token; by a decoder, which has not read the rest of
    the word there, at its last.

    A row's target holds, of the words that are read, the `places` where they are told, which `words` they are, and their
    `tags`; and the `count` of all words.
    """

    auto_model = "AutoModelForTokenClassification"
    adapter_type = "TOKEN_CLS"
    head_words = "token classifier"
    pipeline = "token-classification"
    purpose = "tag words"

    class_weights: torch.Tensor | None = None
    """One a tag, of mean 1 over the training words."""
    spaced: bool | None = None
    """Whether words are given to the tokenizer with a space before each; told by the first rows that are encoded."""

    def config_options(self) -> dict[str, Any]:
        """Number and names of the tags."""
        return names(self.labels)

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets say where words begin and what they are; truth is a tag index a word.

        Raises:
            InputError: the tokenizer does not tell which word a token belongs to, or no word is read at that length.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(f"{self.plan.model.id}: its tokenizer cannot map tokens to words (it has no tokenizer.json).")
        index = {label: i for i, label in enumerate(self.labels)}
        truth = TokenRows([index[tag] for tag in item["tags"]] for item in rows.items or ())
        words = [item["words"] for item in rows.items or ()]
        if self.spaced is None:
            self.spaced = glues(tokenizer) and has_spaces(chain.from_iterable(words[:FIRST_ROWS]))
        words = [[f" {word}" for word in row] for row in words] if self.spaced else words
        found = token_ids(tokenizer, words, self.plan.max_length, progress, words=True)
        where, told, tags = TokenRows(), TokenRows(), TokenRows()
        for of_row, of_words in zip(truth, found.words, strict=True):
            first = places(of_words, self.family)
            where.append(first.values())
            told.append(first)
            tags.append(of_row[word] for word in first)
        targets = Records(places=where, words=told, tags=tags, count=truth.lengths())
        every = sum(truth.lengths())
        if all(label.isdigit() for label in self.labels):
            self.remark(
                "numbered_tags",
                "The tags are numbers without names: spans cannot be told, and every word counts by itself. Write names such as"
                " B-person into the data.",
            )
        lost = every - sum(tags.lengths())
        if lost == every > 0:
            most = self.plan.max_length
            raise InputError(f"{rows.source}: no word fits within max_length ({most} tokens); raise max_length.")
        if lost:
            self.remark("words_lost", f"{lost:,} of {every:,} words are not read; in scores their tags count as wrong.")
        return Encoded(found.input_ids, targets, truth, found.rows_cut, found.tokens_cut)

    def prepare(self, train: Encoded, device: torch.device) -> None:
        """Weights of the tags, where the plan wants them."""
        if self.plan.class_weights:
            tags = (tag for target in train.targets for tag in target["tags"])
            self.class_weights = by_rarity(tags, len(self.labels), device)

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of the words, weighted by tag and smoothed as the plan says."""
        logits, truth = self._words(model, input_ids, targets)
        smoothing = self.plan.label_smoothing
        return functional.cross_entropy(logits, truth, weight=self.class_weights, label_smoothing=smoothing, reduction="sum")

    def weight(self, targets: Sequence[Any]) -> float:
        """What an uncut mean would divide by: words, or the sum of their tags' weights."""
        tags = [tag for target in targets for tag in target["tags"]]
        # A batch without a word has a sum of 0, whatever it is divided by.
        return max(float(len(tags)) if self.class_weights is None else float(self.class_weights[tags].sum()), 1e-6)

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """The most likely tag of each word, and the mean cross-entropy of the row's words."""
        logits, truth = self._words(model, input_ids, targets)
        losses = functional.cross_entropy(logits, truth, reduction="none")
        sizes = [len(target["tags"]) for target in targets]
        found = []
        for target, best, loss in zip(targets, logits.argmax(-1).split(sizes), losses.split(sizes), strict=True):
            said = [UNREAD] * target["count"]
            for word, tag in zip(target["words"], best.tolist(), strict=True):
                said[word] = tag
            found.append(Answer(said, float(loss.mean()) if len(loss) else 0.0, float(len(loss))))
        return found

    def constant(self, train: Encoded, held_out: Encoded) -> Answers:
        """The most common tag for every word."""
        ((usual, _),) = Counter(tag for row in train.truth for tag in row).most_common(1)
        return Answers([[usual] * len(row) for row in held_out.truth], None)

    def about(self) -> str:
        """The tags, as a list."""
        return listed(f"A word's tag is told at its {'last' if self._at_end else 'first'} token. Tags", self.labels)

    @property
    def _at_end(self) -> bool:
        return self.family == "decoder"

    def usage(self) -> str:
        """Words with their tags."""
        first = "" if self._at_end else " and word not in tags"
        use = USE.replace("{which}", "last" if self._at_end else "first").replace("{first}", first)
        words = "[f\" {word}\" for word in words]" if self.spaced else "words"  # as in a sentence
        return use.replace("{length}", str(self.plan.max_length)).replace("[{words}]", f"[{words}]")

    def _words(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, (words, tags), and tags, (words,), of a micro-batch, row after row."""
        device = next(model.parameters()).device
        logits = model(**padded(input_ids, self.pad, device)).logits
        rows = [i for i, target in enumerate(targets) for _ in target["places"]]
        places = [place for target in targets for place in target["places"]]
        tags = [tag for target in targets for tag in target["tags"]]
        return logits[rows, places].float(), torch.tensor(tags, dtype=torch.long, device=device)


def places(words: Sequence[int | None], family: Family | None) -> dict[int, int]:
    """Where each word that is read is told: at its first token, by a decoder at its last. `words` are those of the tokens."""
    told: dict[int, int] = {}
    for place, word in enumerate(words):
        if word is not None and word != NO_WORD and (family == "decoder" or word not in told):
            told[word] = place
    return told
