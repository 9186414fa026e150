"""Conversations and instructions: answers are learned, all else is read."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.text import clean
from engine.worker.generating import Limits
from engine.worker.packing import IGNORED, learned
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Begin, Encoded, Progress, Prompt
from engine.worker.tasks.chat_template import (
    as_placed,
    give_template,
    unwritten_calls,
    unwritten_results,
    unwritten_thoughts,
    words_beside_calls,
)
from engine.worker.tasks.conversation import Rendered, ends_of, prompt_of, rendered
from engine.worker.tasks.writing import Writing, reported
from engine.worker.tasks.written import truth_of, with_texts
from engine.worker.token_rows import TokenRows
from recommender.errors import InputError

LEFT_OUT = {
    "calls_left_out": "rows call tools, which the model's chat template leaves out: nothing is learned from those turns. Use a "
    "model whose template supports tools.",
    "others_left_out": "rows call several tools at once, of which the model's chat template writes the first alone: the others "
    "are left out, and calls of different tools are read, not learned.",
    "words_left_out": "rows hold words beside a call of a tool, which the model's chat template leaves out or parts from it: "
    "these calls are learned without them.",
    "results_left_out": "rows hold what tools answered, which the model's chat template leaves out: the answers after it are "
    "learned as if made up. Use a model whose template supports tools.",
    "thoughts_never": "rows hold reasoning that the model's chat template leaves out: their answers are learned without it.",
    "thoughts_earlier": "rows hold reasoning that the model's chat template leaves out once another turn follows: those answers "
    "are read, not learned. To learn such an answer, let a row end with it.",
    "thoughts_said": "rows hold reasoning (<think>) in the text of answers, of which the model's chat template knows nothing: it "
    "is learned as a part of what is said.",
}
"""What becomes of what a template leaves out, or has no place for."""

SYSTEM_MOVED = (
    "The model's chat template has no place for system messages: they are written before the first question. Write them there"
    " when you use the model, too."
)
CHAT = """\
import torch

model.eval()
messages = {messages}
{tools}inputs = tokenizer.apply_chat_template({told}, add_generation_prompt=True, return_dict=True, return_tensors="pt")
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=200, do_sample=False, eos_token_id={end}, pad_token_id={pad})
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


LONGEST_SYSTEM = 4_000
"""Characters of a system message that others are told to use."""


class Chat(Writing):
    """A target is a label a token, `IGNORED` where nothing is learned."""

    own_usage = CHAT
    system: str | None = None
    """The system message of more than half of the training rows; empty where there is none."""
    tools: list[Any] | None = None
    """What most of those rows that bring tools bring; only where more than half do, and the template writes them."""

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are labels a token, `IGNORED` where nothing is learned; rows from which nothing would be are left out.

        Raises:
            InputError: a conversation that the model's template does not take.
        """
        self.prepare_tokenizer(tokenizer)
        most = self.plan.max_length
        input_ids, targets, wanted = TokenRows(), TokenRows(), []
        rows_cut = tokens_cut = silent = 0
        left = Counter[str]()
        refused: list[str] = []
        untrained: dict[int, bool] = {}
        for item, number in reported(zip(rows.items or (), rows.numbers, strict=True), progress):
            where, messages = rows.where(number), item["messages"]
            try:
                row = rendered(tokenizer, item, where)
            except InputError as error:
                untrained[number] = False
                refused.append(str(error))
                continue
            lost = max(len(row.ids) - most, 0)
            rows_cut += lost > 0
            tokens_cut += lost
            calls = unwritten_calls(tokenizer, item, where)
            left[f"{calls}_left_out"] += 1
            left["words_left_out"] += words_beside_calls(row.spoken) < words_beside_calls(messages)
            left["results_left_out"] += unwritten_results(tokenizer, item, where)
            left[f"thoughts_{unwritten_thoughts(tokenizer, item, where)}"] += 1
            self.note_system(tokenizer, messages, item["tools"])
            if learned(row.labels[:most]):
                input_ids.append(row.ids[:most])
                targets.append(row.labels[:most])
                wanted.append(str(row.spoken[-1]["content"]) if not lost else None)
            else:
                untrained[number] = lost > 0
                silent += calls == "calls"
            self.note_end(tokenizer, row)
        self.note_asking(tokenizer, rows)
        for code, what in LEFT_OUT.items():
            if left[code]:
                self.remark(code, f"{rows.source}: {left[code]:,} of {len(rows):,} {what}")
        whole = "the model's chat template marks nothing in them as an answer."
        if silent > len(untrained) / 2:
            without = "which the model's chat template leaves out; use a model whose template supports tools."
            whole = f"they call tools, {without}"
        cut = f"their answers begin after max_length ({most} tokens)"
        why = self.why_untrained(rows, untrained, refused, cut=cut, whole=whole)
        return Encoded(input_ids, targets, truth_of(self.kind, wanted), rows_cut, tokens_cut, untrained, why)

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Give it a chat template too where it has none.

        Raises:
            InputError: it does not tell which text a token comes from, or has neither template nor end token.
        """
        super().prepare_tokenizer(tokenizer)
        if give_template(tokenizer):
            self.remark(
                "plain_template",
                "The model has no chat template; a plain one (### Instruction, ### Response) is used and saved with the result.",
            )

    def why_untrained(
        self, rows: Rows, untrained: dict[int, bool], refused: Sequence[str], *, cut: str, whole: str
    ) -> str:
        """Why rows leave nothing to learn, as a sentence; empty where all teach something. What is `refused` of some is told.

        `untrained` tells of each such row by its number whether it was cut; `cut` says why those that were teach nothing, `whole`
        why the others do not.
        """
        if refused:
            self.remark(
                "rows_refused", f"{rows.source}: {len(refused):,} of {len(rows):,} rows are left out; the first: {refused[0]}"
            )
        if 2 * len(refused) > len(untrained):
            return refused[0]
        if not untrained:
            return ""
        said = f"{rows.source}: {len(untrained)} of {len(rows)} rows (the first is row {min(untrained)}) leave nothing to learn"
        if sum(untrained.values()) < len(untrained) / 2:
            return f"{said}, though they are not cut: {whole} `loracle inspect data --tokens 3` shows what is learned."
        return f"{said}: {cut}. Raise max_length if the model reads more, or shorten the prompts."

    def note_system(self, tokenizer: Any, messages: Sequence[Any], tools: Any) -> None:
        """Tell of a system message that the template has no place for."""
        if "system_moved" not in self.remarks and as_placed(tokenizer, messages, tools) is not messages:
            self.remark("system_moved", SYSTEM_MOVED)

    def note_asking(self, tokenizer: Any, rows: Rows) -> None:
        """Remember what most of the training rows, which are encoded first, are asked with."""
        if self.system is not None:
            return
        items = rows.items or ()
        systems = Counter(str(m["content"]) for item in items for m in item["messages"][:1] if m["role"] == "system")
        said, times = next(iter(systems.most_common(1)), ("", 0))
        self.system = said if 2 * times > len(rows) and len(said) <= LONGEST_SYSTEM else ""
        offered = Counter(json.dumps(item["tools"]) for item in items if item["tools"])
        if 2 * offered.total() > len(rows) and "tools" in str(tokenizer.chat_template):
            self.tools = json.loads(offered.most_common(1)[0][0])

    def note_end(self, tokenizer: Any, row: Rendered) -> None:
        """Remember what a row's answers are closed with: generation stops there."""
        self.ends = tuple(dict.fromkeys((*self.ends, *sorted(ends_of(tokenizer, row.labels)))))

    def write_out(
        self, reader: Reader, model: Any, rows: Encoded, said: Answers, begin: Begin, *, limits: Limits
    ) -> tuple[Answers, Limits | None]:
        """Last answers of some conversations beside the losses, for exact match and chrF."""
        begins = list(map(last_answer, rows.targets))
        prompts = [ids[:begin] for ids, begin in zip(rows.input_ids, begins, strict=True)]
        longest = max(len(ids) - begin for ids, begin in zip(rows.input_ids, begins, strict=True))
        return with_texts(
            reader, self.tokenizer, model, prompts, said, truth=rows.truth, longest=longest, begin=begin, limits=limits
        )

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterator[Prompt]:
        """Conversations up to their last answers that fit into `most` tokens."""
        for item, number in zip(rows.items or (), rows.numbers, strict=True):
            asked, ids, wanted = prompt_of(tokenizer, item, rows.where(number))
            if len(ids) <= most:
                yield Prompt(asked, ids, wanted)

    def about(self) -> str:
        """The form of the prompts."""
        words = "It answers in conversations; the tokenizer's chat template writes them as the model has learned them.\n"
        words += "Most of these began with one system message: begin with it, too, as below.\n" * bool(self.system)
        return words + "Most of these offered tools: offer yours, too, as below.\n" * bool(self.tools)

    def usage(self) -> str:
        """Answer a question, asked as those of the training rows were."""
        messages = asking(self.tokenizer, self.system or "", "a question")
        cleaned = [m | {"content": clean(m["content"])} for m in messages]
        tools = "tools = None  # the list of yours\n" if self.tools else ""
        told = "messages, tools=tools" if tools else "messages"
        text = super().usage().replace("{tools}", tools).replace("{told}", told)
        return text.replace("{messages}", json.dumps(cleaned, ensure_ascii=False))


def asking(tokenizer: Any, system: str, question: str) -> list[dict[str, Any]]:
    """The messages of a question behind a system message, if there is one, placed where the template takes it."""
    asked = {"role": "user", "content": question}
    return list(as_placed(tokenizer, [{"role": "system", "content": system}, asked], None)) if system else [asked]


def last_answer(labels: Sequence[int]) -> int:
    """Where the last run of learned tokens begins."""
    end = max(i for i, label in enumerate(labels) if label != IGNORED)
    return max((i + 1 for i, label in enumerate(labels[:end]) if label == IGNORED), default=0)
