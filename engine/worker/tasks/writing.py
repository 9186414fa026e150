"""Models that write: the mean cross-entropy over the tokens that are learned, of the whole logical batch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.text import one_line
from engine.worker import causal
from engine.worker.batches import padded
from engine.worker.generating import Limits
from engine.worker.packing import IGNORED, learned, pack
from engine.worker.precision import autocast
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Answer, Begin, Encoded, Progress, Prompt, Task
from engine.worker.tasks.conversation import (
    Rendered,
    ends_of,
    give_template,
    prompt_of,
    rendered,
    unwritten_calls,
    unwritten_thoughts,
)
from engine.worker.tasks.written import answer_of, truth_of, with_texts
from engine.worker.token_loss import head_of, token_losses
from engine.worker.token_rows import TokenRows
from recommender.errors import InputError

TELL_EVERY = 200
UNUSED = (
    "temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff", "early_stopping",
    "length_penalty",
)  # fmt: skip
"""What transformers finds wrong in settings for greedy writing."""
PROMPT_SHARE = 0.5
"""Of a raw text's first piece, what a sample generation is given."""

THOUGHTS = {
    "never": "rows hold thoughts that the model's chat template does not write down: their answers are learned without them.",
    "earlier": "rows hold thoughts that the model's chat template leaves out once another turn follows: those answers are read,"
    " not learned.",
}
"""What becomes of thoughts that are left out, by when they are."""

CHAT = """\
import torch

model.eval()
messages = [{"role": "user", "content": "a question"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=200, do_sample=False, eos_token_id={end}, pad_token_id={pad})
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""
RAW = """\
import torch

model.eval()
inputs = tokenizer("The beginning of a text", return_tensors="pt", return_token_type_ids=False)
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=200, do_sample=False, eos_token_id={end}, pad_token_id={pad})
print(tokenizer.decode(written[0], skip_special_tokens=True))
"""


class Writing(Task):
    """Conversations and instructions (answers are learned), and raw text (everything is)."""

    auto_model = "AutoModelForCausalLM"
    adapter_type = "CAUSAL_LM"
    head_words = "language-model head"
    pipeline = "text-generation"
    purpose = "write text"
    fresh_head = False

    tokenizer: Any = None
    ends: tuple[int, ...] = ()
    """Tokens that end an answer: the tokenizer's end token, what the template closes a turn with, and what the model's own
    settings for writing name."""

    def config_options(self) -> dict[str, Any]:
        """Nothing: labels are words of the vocabulary."""
        return {}

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are labels a token, `IGNORED` where nothing is learned; rows from which nothing would be are left out.

        Raises:
            InputError: a conversation that the model's template does not take.
        """
        self.prepare_tokenizer(tokenizer)
        if self.plan.task == "continued_pretraining":
            return self._pieces(tokenizer, rows, progress)
        return self._conversations(tokenizer, rows, progress)

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Look at a tokenizer before its first use, and give it a chat template where one is needed and it has none.

        Raises:
            InputError: it does not tell which text a token comes from, or has neither template nor end token.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(f"{self.plan.model.id}: its tokenizer cannot tell where tokens stand (no tokenizer.json).")
        if self.tokenizer is tokenizer:
            return
        self.tokenizer = tokenizer
        self.ends = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        if self.plan.task != "continued_pretraining" and give_template(tokenizer):
            self.remark(
                "plain_template",
                "The model has no chat template; a plain one (### Instruction, ### Response) is used and saved with the result.",
            )

    def _conversations(self, tokenizer: Any, rows: Rows, progress: Progress | None) -> Encoded:
        most = self.plan.max_length
        input_ids, targets, wanted = TokenRows(), TokenRows(), []
        rows_cut = tokens_cut = uncalled = silent = 0
        thoughts = Counter[str | None]()
        untrained: dict[int, bool] = {}
        for i, (item, number) in enumerate(zip(rows.items or (), rows.numbers, strict=True)):
            row = rendered(tokenizer, item, rows.where(number))
            lost = max(len(row.ids) - most, 0)
            rows_cut += lost > 0
            tokens_cut += lost
            calls = unwritten_calls(tokenizer, item, rows.where(number))
            uncalled += calls
            thoughts[unwritten_thoughts(tokenizer, item, rows.where(number))] += 1
            if learned(row.labels[:most]):
                input_ids.append(row.ids[:most])
                targets.append(row.labels[:most])
                wanted.append(str(item["messages"][-1]["content"]) if not lost else None)
            else:
                untrained[number] = lost > 0
                silent += calls
            self.note_end(tokenizer, row)
            if progress is not None and (i + 1) % TELL_EVERY == 0:
                progress(i + 1)
        if progress is not None:
            progress(len(rows))
        if uncalled:
            self.remark(
                "calls_left_out",
                f"{rows.source}: {uncalled:,} of {len(rows):,} rows call tools, which the model's chat template does not write"
                " down: nothing is learned from those turns. Take a model whose template knows tools.",
            )
        for when, what in THOUGHTS.items():
            if thoughts[when]:
                self.remark(f"thoughts_{when}", f"{rows.source}: {thoughts[when]:,} of {len(rows):,} {what}")
        whole = "the model's chat template marks nothing of them as an answer."
        if silent > len(untrained) / 2:
            without = "which the model's chat template does not write down; take a model whose template knows tools."
            whole = f"they call tools, {without}"
        why = why_untrained(rows, untrained, cut=f"their answers begin behind max_length ({most} tokens)", whole=whole)
        return Encoded(input_ids, targets, truth_of(self.kind, wanted), rows_cut, tokens_cut, len(untrained), why)

    def _pieces(self, tokenizer: Any, rows: Rows, progress: Progress | None) -> Encoded:
        """One stream of all texts, each ended by the end token, in pieces of `max_length`: nothing is lost."""
        most, end = self.plan.max_length, tokenizer.eos_token_id
        pieces = TokenRows()
        stream: list[int] = []
        for i, text in enumerate(rows.items or ()):
            ids = tokenizer(text, truncation=False, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            stream += ids if end is None or ids[-1:] == [end] else [*ids, end]
            whole = len(stream) // most * most
            pieces.extend(stream[j : j + most] for j in range(0, whole, most))
            del stream[:whole]
            if progress is not None and (i + 1) % TELL_EVERY == 0:
                progress(i + 1)
        if progress is not None:
            progress(len(rows))
        if len(stream) > 1:  # one token alone has nothing before it that could predict it
            pieces.append(stream)
        return Encoded(pieces, pieces, [0] * len(pieces))  # everything is learned: nothing is held twice

    def note_end(self, tokenizer: Any, row: Rendered) -> None:
        """Remember what a row's answers are closed with: generation stops there."""
        self.ends = tuple(dict.fromkeys((*self.ends, *sorted(ends_of(tokenizer, row.labels)))))

    def adopt(self, model: Any) -> None:
        """Switch to the padding-free step where the model can do it, and say where it cannot."""
        inner = causal.inner_of(model)
        both_ways = type(inner.config) in AutoModelForMaskedLM._model_mapping and not getattr(inner.config, "is_decoder", False)
        if both_ways:
            raise InputError(f"{self.plan.model.id}: models of type {inner.config.model_type} read text and do not write it.")
        with autocast(next(model.parameters()).device, self.plan.precision):
            reason = causal.prepare(model)
            self.once = reason is None and causal.reads_once(model)
        self.packed = reason is None
        if reason is not None:
            self.remark("padded", f"Rows are padded to equal lengths, which is slower: {one_line(reason, 200)}.")
        self.hasten(model)
        generation = getattr(inner, "generation_config", None)
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
            device = next(model.parameters()).device
            return causal.packed_loss(causal.body_of(model), head_of(model), pack(input_ids, targets, device, once=self.once))
        logits, truth = self._padded(model, input_ids, targets)
        return functional.cross_entropy(logits, truth, reduction="sum")

    def weight(self, targets: Sequence[Any]) -> float:
        """Learned tokens of the logical batch."""
        return float(max(sum(map(learned, targets)), 1))

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """Summed loss and learned tokens of each row."""
        losses = self.token_losses(model, input_ids, targets)
        return [answer_of(self.kind, part) for part in losses.split([learned(row) for row in targets])]

    def token_losses(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Cross-entropy of each learned token, (N,), row after row."""
        if causal.is_packed(model):
            batch = pack(input_ids, targets, next(model.parameters()).device, once=self.once)
            hidden = causal.body_of(model)(**batch.inputs).last_hidden_state[0]
            return token_losses(hidden.index_select(0, batch.predicting), head_of(model), batch.targets)
        return functional.cross_entropy(*self._padded(model, input_ids, targets), reduction="none")

    def write_out(
        self, reader: Reader, model: Any, rows: Encoded, said: Answers, begin: Begin, *, limits: Limits
    ) -> tuple[Answers, Limits | None]:
        """Last answers of some conversations beside the losses, for exact match and chrF."""
        if self.plan.task == "continued_pretraining":
            return said, None
        begins = list(map(last_answer, rows.targets))
        prompts = [ids[:begin] for ids, begin in zip(rows.input_ids, begins, strict=True)]
        longest = max(len(ids) - begin for ids, begin in zip(rows.input_ids, begins, strict=True))
        return with_texts(
            reader, self.tokenizer, model, prompts, said, truth=rows.truth, longest=longest, begin=begin, limits=limits
        )

    def _padded(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits before learned tokens, (N, vocabulary), and those tokens, (N,), row by row."""
        batch = padded(input_ids, self.pad, next(model.parameters()).device)
        logits = model(**batch, use_cache=False).logits
        truth = torch.full(batch["input_ids"].shape, IGNORED, dtype=torch.long)
        for i, row in enumerate(targets):
            truth[i, : len(row)] = torch.tensor(row)
        truth = truth[:, 1:]
        rows, places = (where.to(logits.device) for where in (truth != IGNORED).nonzero(as_tuple=True))  # found on the host
        return logits[rows, places].float(), truth[truth != IGNORED].to(logits.device)

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterator[Prompt]:
        """Beginnings that fit into `most` tokens, to be gone on from."""
        for item, number in zip(rows.items or (), rows.numbers, strict=True):
            if self.plan.task == "continued_pretraining":
                ids = tokenizer(item, return_attention_mask=False, return_token_type_ids=False)["input_ids"][: most * 2]
                ids = ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids
                keep = max(1, int(len(ids) * PROMPT_SHARE))
                begun, rest = ids[:keep], ids[keep:]
                yield Prompt(tokenizer.decode(begun, skip_special_tokens=True), begun, tokenizer.decode(rest))
                continue
            asked, ids, wanted = prompt_of(tokenizer, item, rows.where(number))
            if len(ids) <= most:
                yield Prompt(asked, ids, wanted)

    def plain_text(self, tokenizer: Any, texts: Sequence[str]) -> Encoded:
        """As the tokenizer begins and ends a text, cut at the plan's length."""
        options = {"truncation": False, "return_attention_mask": False, "return_token_type_ids": False}
        ids = [tokenizer(text, **options)["input_ids"][: self.plan.max_length] for text in texts]
        return Encoded(ids, [list(row) for row in ids], [0] * len(ids))

    def about(self) -> str:
        """What is learned, and the form of the prompts."""
        if self.plan.task == "continued_pretraining":
            return f"It goes on writing texts like those it was trained on, in pieces of {self.plan.max_length} tokens.\n"
        return "It answers in conversations; the tokenizer's chat template writes them as the model has learned them.\n"

    def usage(self) -> str:
        """Write one answer."""
        form = RAW if self.plan.task == "continued_pretraining" else CHAT
        ends = list(self.ends) if len(self.ends) != 1 else self.ends[0]
        return form.replace("{end}", repr(ends or None)).replace("{pad}", str(self.pad))


def last_answer(labels: Sequence[int]) -> int:
    """Where the last run of learned tokens begins."""
    end = max(i for i, label in enumerate(labels) if label != IGNORED)
    return max((i + 1 for i, label in enumerate(labels[:end]) if label == IGNORED), default=0)


def why_untrained(rows: Rows, untrained: dict[int, bool], *, cut: str, whole: str) -> str:
    """Why rows leave nothing to learn, as a sentence; empty where all teach something.

    `untrained` tells of each such row by its number whether it was cut; `cut` says why those that were teach nothing, `whole` why
    the others do not.
    """
    if not untrained:
        return ""
    said = f"{rows.source}: {len(untrained)} of {len(rows)} rows (the first is row {min(untrained)}) leave nothing to learn"
    if sum(untrained.values()) < len(untrained) / 2:
        return f"{said}, though they are not cut: {whole} `loracle inspect data --tokens 3` shows what is learned."
    return f"{said}: {cut}. Raise max_length, or shorten the prompts."
