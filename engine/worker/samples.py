"""Samples: the same few held-out prompts before training and after, decoded the same way; of tasks whose answers are short, the
same few validation rows at every evaluation."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.files import read_json, write_json
from engine.rows import Rows
from engine.rundir import RunDirectory
from engine.worker.budget import is_out_of_memory
from engine.worker.generating import LEAST_TOKENS, readable, write
from engine.worker.mistakes import in_words
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Prompt
from recommender.answering import SAMPLE_TOKENS, SAMPLES, SAMPLES_SECONDS
from recommender.facts import CLASSIFYING

MOST_WHILE_LEARNING = 2
FEW_TOKENS = 32
"""Of answers at an evaluation; `SAMPLE_TOKENS` before and after."""
SHARE = 0.02
OFF = "LORACLE_SAMPLES"
LONGEST_PROMPT = 1024
"""Tokens; longer ones take long and show no more."""
SHOWN = 2_000
"""Characters kept of a prompt or an answer: three of them fit into one event however they are written."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Prompts, and what the model writes behind them; what an earlier life of the run has kept is not written again."""

    run: RunDirectory
    prompts: list[Prompt]
    tokenizer: Any
    reader: Reader
    tell: Narrator

    @property
    def written_after(self) -> bool:
        """Whether there is nothing more to write."""
        return not self.prompts or (self.run.scores / "samples-after.json").exists()

    def write(self, name: str, model: Any, step: int = 0) -> None:
        """Let the model go on from every prompt; `name` is before or after."""
        file, before = (self.run.scores / f"samples-{n}.json" for n in (name, "before"))
        if file.exists() or not self.prompts:
            return
        first = read_json(before) if before.exists() else None
        seconds, most = (math.inf, first.get("tokens", SAMPLE_TOKENS)) if first else (SAMPLES_SECONDS, SAMPLE_TOKENS)
        asked = [p.input_ids for p in self.prompts]
        asked = asked[: len(first["samples"]) if first else readable(self.reader, asked, seconds)]
        told = self.tell.progress("samples", most, "tokens", None if first else seconds)
        began = time.monotonic()
        try:
            said = write(self.reader, self.tokenizer, model, asked, most, until=began + seconds, told=told) if asked else None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.tell.warn("no_samples", "There is too little memory for sample answers; the report has none.")
            return
        answers = said.texts if said is not None and said.tokens >= LEAST_TOKENS else []
        content = [
            {"prompt": p.text[:SHOWN], "wanted": p.wanted[:SHOWN], "answer": answer[:SHOWN]}
            for p, answer in zip(self.prompts, answers, strict=False)
        ]
        tokens = said.tokens if said is not None else 0
        if first is None and (len(answers) < len(self.prompts) or tokens < SAMPLE_TOKENS):
            self._tell_short(len(answers), tokens)
        write_json(file, {"samples": content, "tokens": tokens, "seconds": time.monotonic() - began})
        for i, sample in enumerate(content):
            self.tell.events.write("sample", split=name, step=step, number=i, **sample)

    def _tell_short(self, answers: int, tokens: int) -> None:
        if answers:
            text = f"Generation is slow here: there are {answers} sample answers of at most {tokens} tokens."
            self.tell.warn("few_samples", text, answers=answers, tokens=tokens)
        else:
            text = "Generation is too slow here for sample answers; there are none in the report."
            self.tell.warn("no_time_for_samples", text)


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """What the model says of the same few validation rows at every evaluation: the scoring knows it, so it costs nothing."""

    task: str
    labels: Sequence[str]
    rows: Rows
    truth: Sequence[Any]
    tell: Narrator

    def say(self, predicted: Sequence[Any], step: int) -> None:
        """Tell the viewers; nothing of tasks whose answers are texts, or where rows were cut into pieces."""
        if self.task not in CLASSIFYING or not len(self.rows) == len(self.truth) == len(predicted):
            return
        for number, i in enumerate(self._chosen()):
            item = self.rows.items[i] if self.rows.items else None
            wanted, answer = (in_words(self.task, self.labels, said, item)[:SHOWN] for said in (self.truth[i], predicted[i]))
            text = self.rows.texts[i][:SHOWN]
            self.tell.events.write(
                "sample", split="validation", step=step, number=number, prompt=text, wanted=wanted, answer=answer
            )

    def _chosen(self) -> list[int]:
        """The first rows of different answers, then the first of all."""
        first = {repr(truth): i for i, truth in reversed(list(enumerate(self.truth)))}
        return list(dict.fromkeys([*sorted(first.values()), *range(len(self.rows))]))[:SAMPLES]


@dataclass(slots=True)
class WhileLearning:
    """What a model that writes has learned so far: short answers to the first prompts at each evaluation but the first.

    They are left out where they would take more than `SHARE` of the time between two evaluations, as far as the answers before
    the training tell, and where `LORACLE_SAMPLES=0`, or `samples` in config.toml, says so. Their cost stands in their events.
    """

    samples: Samples
    _before: float | None = None
    """When the evaluation before this one was over."""
    _cost: float | None = None

    def write(self, model: Any, step: int) -> None:
        """Write them, if they cost little."""
        before, now = self._before, time.monotonic()
        self._before = now
        prompts, cost = self.samples.prompts[:MOST_WHILE_LEARNING], self._expected()
        if not prompts or before is None or cost is None or cost > SHARE * (now - before) or is_off():
            return
        try:
            asked = [p.input_ids for p in prompts]
            answers = write(self.samples.reader, self.samples.tokenizer, model, asked, FEW_TOKENS).texts
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._cost = math.inf  # no more of them
            return
        self._before = time.monotonic()
        self._cost = self._before - now
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            self.samples.tell.events.write(
                "sample", split="learning", step=step, number=i, prompt=prompt.text[:SHOWN], wanted=prompt.wanted[:SHOWN],
                answer=answer[:SHOWN], seconds=self._cost / len(prompts),
            )  # fmt: skip

    def _expected(self) -> float | None:
        """Seconds; of the first ones by those before the training, which had more tokens."""
        if self._cost is None:
            file = self.samples.run.scores / "samples-before.json"
            known = read_json(file) if file.exists() else {}
            seconds = known.get("seconds")
            self._cost = seconds * FEW_TOKENS / max(known.get("tokens", SAMPLE_TOKENS), 1) if seconds is not None else None
        return self._cost


def is_off() -> bool:
    """Whether nobody wants answers while the model learns."""
    return os.environ.get(OFF, "1") in ("0", "")


def chosen(reader: Reader, tokenizer: Any, rows: Rows) -> list[Prompt]:
    """The first prompts of the held-out rows that are short enough, no two the same."""
    most = min(reader.task.plan.max_length, LONGEST_PROMPT)
    found: dict[str, Prompt] = {}
    for prompt in reader.task.prompts(tokenizer, rows, most):
        found.setdefault(prompt.text, prompt)
        if len(found) == SAMPLES:
            break
    return list(found.values())


def side_by_side(run: RunDirectory) -> list[dict[str, str]]:
    """What was kept of both: prompt, wanted, before, after; for the report."""
    files = {name: run.scores / f"samples-{name}.json" for name in ("before", "after")}
    kept = {name: read_json(file)["samples"] for name, file in files.items() if file.exists()}
    if "after" not in kept:
        return []
    before = [sample["answer"] for sample in kept.get("before", ())] or [None] * len(kept["after"])
    return [
        {"prompt": s["prompt"], "wanted": s["wanted"], "before": b, "after": s["answer"]}
        for s, b in zip(kept["after"], before, strict=True)
    ]
