"""Encoder-decoders: one text is read, another is written; the mean cross-entropy over the tokens of the written ones."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker import causal
from engine.worker.batches import padded
from engine.worker.encoding import token_ids
from engine.worker.generating import Limits, as_keywords, tastes_off
from engine.worker.inner import inner_of
from engine.worker.packing import IGNORED
from engine.worker.precision import autocast
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Begin, Encoded, Progress, Prompt
from engine.worker.tasks.written import Batch, Worded, truth_of, with_texts
from engine.worker.token_rows import lengths_of
from recommender.errors import InputError

USE = """\
import torch

model.eval()
inputs = tokenizer("a text", truncation=True, max_length={length}, return_token_type_ids=False, return_tensors="pt")
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens={new}, do_sample=False{tastes})
print(tokenizer.decode(written[0], skip_special_tokens=True))
"""


class Seq2Seq(Worded):
    """Sequence to sequence: source and target are each cut at the plan's `max_length`."""

    auto_model = "AutoModelForSeq2SeqLM"
    adapter_type = "SEQ_2_SEQ_LM"
    head_words = "encoder-decoder with a language-model head"
    pipeline = "text2text-generation"
    purpose = "write one text from another"

    longest = 1
    """Tokens of the longest target."""
    target: Sequence[int] = ()
    """One of them."""

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are the token ids of what is to be written, its end included.

        Raises:
            InputError: a conversation of several turns.
        """
        self.tokenizer = tokenizer
        if settle_languages(tokenizer):
            self.remark(
                "languages",
                f"The tokenizer marks sources as {tokenizer.src_lang} and targets as {tokenizer.tgt_lang}. If your texts are in"
                " other languages, stop, and set src_lang and tgt_lang in the model's tokenizer_config.json.",
            )
        items = list(zip(rows.items or (), rows.numbers, strict=True))
        pairs = [pair_of(item, rows.where(number)) for item, number in items]
        most = self.plan.max_length
        read = token_ids(tokenizer, [source for source, _ in pairs], most, progress)
        said = token_ids(tokenizer, [target for _, target in pairs], most, as_targets=True)
        lost = [a + b for a, b in zip(read.lost, said.lost, strict=True)]
        self.longest = max([self.longest, *said.input_ids.lengths()])
        self.target = self.target or next(iter(said.input_ids), ())
        truth = truth_of(self.kind, [target for _, target in pairs])
        return Encoded(read.input_ids, said.input_ids, truth, sum(n > 0 for n in lost), sum(lost))

    def adopt(self, model: Any) -> None:
        """See whether the head can be put on the learned tokens only."""
        self.hasten(model)
        inner = inner_of(model)
        self._settle(inner)
        rows = causal.made_up(inner, 9, 6)
        with autocast(next(model.parameters()).device, self.plan.precision):
            self.chunked = self.reads_learned_only(model, rows, rows[::-1])

    def _settle(self, inner: Any) -> None:
        """Have the model's own settings for writing, which are saved with it, say what is trained and scored.

        They are of another work (BART-CNN's least 56 tokens, and no three words twice), and without a number of tokens `generate`
        ends after 20.
        """
        generation = inner.generation_config
        self.tastes = {**self.tastes, **tastes_off(generation)}
        if generation.decoder_start_token_id is None and self.target:  # mBART begins with the language of the answer
            begun = read_by_decoder(inner, torch.tensor([[*self.target]], device=inner.device))
            self.tastes = {**self.tastes, "decoder_start_token_id": int(begun[0, 0])}
        generation.update(**self.tastes, max_new_tokens=self.longest, max_length=None, early_stopping=None, length_penalty=None)

    def lengths(self, input_ids: Sequence[Sequence[int]], targets: Sequence[Any]) -> list[int]:
        """The longer of what is read and what is written: to either all rows of a micro-batch may be padded."""
        return list(map(max, lengths_of(input_ids), lengths_of(targets)))

    def units(self, target: Any) -> int:
        """All of them are written."""
        return len(target)

    def write_out(
        self, reader: Reader, model: Any, rows: Encoded, said: Answers, begin: Begin, *, limits: Limits
    ) -> tuple[Answers, Limits | None]:
        """Answers beside the losses, for exact match and chrF."""
        asked = rows.input_ids
        return with_texts(
            reader, self.tokenizer, model, asked, said, truth=rows.truth, longest=self.longest, begin=begin, limits=limits
        )

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterator[Prompt]:
        """Texts to be read, of at most `most` tokens."""
        for item, number in zip(rows.items or (), rows.numbers, strict=True):
            source, target = pair_of(item, rows.where(number))
            ids = tokenizer(source, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            if len(ids) <= most:
                yield Prompt(source, list(ids), target)

    def about(self) -> str:
        """What is read and what is written."""
        return f"It reads a text of at most {self.plan.max_length} tokens and writes another.\n"

    def usage(self) -> str:
        """Write one text."""
        use = USE.replace("{length}", str(self.plan.max_length)).replace("{new}", str(self.longest))
        return use.replace("{tastes}", as_keywords(self.tastes))

    def batch(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> Batch:
        """What is read, and what the decoder begins each answer with."""
        device = next(model.parameters()).device
        labels = padded(targets, IGNORED, "cpu")["input_ids"]
        batch: dict[str, Any] = padded(input_ids, self.pad, device)
        batch["decoder_input_ids"] = read_by_decoder(inner_of(model), labels.to(device))
        carrying = labels != IGNORED
        places = tuple(where.to(device) for where in carrying.nonzero(as_tuple=True))
        return batch | {"use_cache": False}, places, labels[carrying].to(device)


def settle_languages(tokenizer: Any) -> bool:
    """Whether a tokenizer marks the languages of texts; targets are marked as sources are where it names no other language for
    them, without which M2M100's writes none."""
    if not getattr(tokenizer, "src_lang", None):
        return False
    tokenizer.tgt_lang = getattr(tokenizer, "tgt_lang", None) or tokenizer.src_lang
    return True


def read_by_decoder(inner: Any, labels: torch.Tensor) -> torch.Tensor:
    """The labels, (rows, longest) and `IGNORED` behind their ends, moved by one behind the token that answers begin with."""
    start = getattr(inner.config, "decoder_start_token_id", None)
    if start is None:  # mBART begins with what an answer ends with, its language
        rolled: torch.Tensor = inner.prepare_decoder_input_ids_from_labels(labels=labels)
        return rolled
    # Not by the model's own method: NLLB has none, and mBART-50's takes the last word of a cut answer for the start.
    moved = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
    return moved.masked_fill(moved == IGNORED, inner.config.pad_token_id or 0)


def pair_of(item: dict[str, Any], where: str) -> tuple[str, str]:
    """What is read and what is written of one row.

    Raises:
        InputError: the model would have to answer more than once.
    """
    *before, answer = item["messages"]
    if any(message["role"] == "assistant" for message in before):
        raise InputError(
            f"{where}: an encoder-decoder reads one text and writes one, and this is a conversation of several turns; use a "
            "decoder."
        )
    return "\n\n".join(message["content"] for message in before), answer["content"]
