"""The held-out rows, scored twice only: before training and after, and by baselines beside."""

import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.files import read_json, write_json
from engine.metrics.kinds import Answers, Kind
from engine.rundir import RunDirectory
from engine.worker.budget import give_back, is_out_of_memory
from engine.worker.generating import Limits
from engine.worker.memory import host_room
from engine.worker.modeling import Built
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded
from recommender.errors import InputError, TrainingFailed
from recommender.facts import CLASSIFYING
from recommender.timing import PROBE_ROWS

PROBE_ROOM = 128 * 1024**2
"""Bytes that must be free for fitting the probe: where OpenBLAS gets none it asks for ever."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores of the held-out rows; what an earlier life of the run has kept is not scored again."""

    run: RunDirectory
    rows: Encoded
    reader: Reader
    tell: Narrator
    writing_seconds: float = math.inf
    """What answers may take that the untouched model writes out."""

    def unchanged(self) -> "HeldOut":
        """The same, of which an earlier life of the run has scored these very rows.

        Raises:
            InputError: it scored others; it may have learned from what is held out now.
        """
        task, file = self.reader.task, self.run.scores / "before.json"
        if task.plan.task in CLASSIFYING and file.exists():  # of texts that are written only some are kept
            now = json.loads(json.dumps(task.kind.compared(self.rows.truth, ())))  # as a file has it
            if read_json(file, None).get("truth", now) != now:
                raise InputError(
                    f"{task.plan.data.train}: other rows are held out than when this run began: another version of Loracle "
                    "split them. Resume it with that version, or begin a new run."
                )
        return self

    def score_before(self, built: Built, train: Encoded) -> None:
        """The untouched model with its new head, and the best answer that looks at no text.

        Raises:
            TrainingFailed: the model computes no numbers, or memory is too small even for one row.
        """
        if not len(self.rows):
            self.tell.warn("no_held_out", "There are no held-out rows, so the report cannot say what the training gained.")
            return
        if not self._has("before"):
            self._score("before", built.model)
        constant = self.reader.task.constant(train, self.rows)
        if constant is not None and not self._has("majority"):
            self._keep("majority", constant, seconds=0.0)

    def score_after(self, model: Any, step: int) -> None:
        """The saved result, trained up to `step`."""
        if not self.scored_after:
            self._score("after", model, step)

    @property
    def scored_after(self) -> bool:
        """Whether there is nothing more to score."""
        return not len(self.rows) or self._has("after")

    def _score(self, name: str, model: Any, step: int = 0) -> None:
        began = time.monotonic()
        said = self.reader.score(model, self.rows, self.tell.progress(name, len(self.rows)))
        if not math.isfinite(said.loss):
            when = "before any training: its weights are damaged" if name == "before" else "after training; lower learning_rate"
            said_so = f"The model's outputs are not numbers {when}, or too large for the plan's precision."
            wide = self.reader.task.plan.precision == "fp32"
            again = "Download the model again." if wide else "Download the model again, or use `--set precision=fp32`."
            if name == "after":
                raise TrainingFailed(said_so)
            raise TrainingFailed(said_so, again, None if wide else "precision=fp32")
        answers, came_to = self._written_out(name, model, said.answers)
        self._keep(name, answers, seconds=time.monotonic() - began, step=step, written=came_to)

    def _written_out(self, name: str, model: Any, said: Answers) -> tuple[Answers, Limits | None]:
        """What else the rows are worth, within the time there is; after the training as much as before it."""
        if name == "before":
            limits = Limits(self.writing_seconds)
            begin = partial(self.tell.progress, limit=self.writing_seconds)
        else:
            file = self.run.scores / "before.json"
            limits = Limits(**(read_json(file, None).get("written") or {}) if file.exists() else {})
            begin = partial(self.tell.progress)
        answers, came_to = self.reader.task.write_out(self.reader, model, self.rows, said, begin, limits=limits)
        if came_to is not None and name == "before":
            some = f"{came_to.answers} held-out rows are answered, in at most {came_to.tokens} tokens"
            if came_to.answers:
                text = f"Generation is slow here: {some}. Exact match and chrF are of those."
                self.tell.warn("few_answers", text, answers=came_to.answers, tokens=came_to.tokens)
            else:
                text = "Generation is too slow here for answers to held-out rows; there is neither exact match nor chrF."
                self.tell.warn("no_time_for_answers", text)
        return answers, came_to

    def score_probe(self, untouched: Callable[[], Built], train: Encoded, seed: int) -> None:
        """The probe, on a model of its own: reading thousands of rows for it would keep the first step waiting."""
        if not len(self.rows) or not self.reader.task.has_probe or self._has("probe"):
            return
        give_back()  # the result that was scored hangs in cycles, and would be held beside it
        self._probe(untouched, train, seed)
        give_back()  # as this one does, and the report needs memory too

    def _probe(self, untouched: Callable[[], Built], train: Encoded, seed: int) -> None:
        task, began = self.reader.task, time.monotonic()
        built = untouched()
        chosen = random.Random(seed).sample(range(len(train)), min(len(train), PROBE_ROWS))
        some = train.take(chosen)
        progress = self.tell.progress("probe", len(some) + len(self.rows))
        seen = self.reader.embed(built.body, some.input_ids, progress)
        shown = self.reader.embed(built.body, self.rows.input_ids, lambda n: progress(len(some) + n))
        try:
            if host_room() < PROBE_ROOM:
                raise MemoryError
            found = task.probe(seen, list(some.targets), shown, list(self.rows.targets))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.tell.warn("no_probe", "There is too little memory for the linear probe; the report goes without it.")
            return
        self._keep("probe", found, seconds=time.monotonic() - began)

    def _has(self, name: str) -> bool:
        return (self.run.scores / f"{name}.json").exists()

    def _keep(self, name: str, answers: Answers, *, seconds: float, step: int = 0, written: Limits | None = None) -> None:
        """Keep what the report and comparisons of runs are made of, and tell the viewers."""
        kind = self.reader.task.kind
        score = kind.full_score(self.rows.truth, answers)
        content = kept(kind, score, self.rows.truth, answers)
        if written is not None:
            content["written"] = {"answers": written.answers, "tokens": written.tokens, "cut": written.cut}
        write_json(self.run.scores / f"{name}.json", content, indent=None)
        shown = {k: score[k] for k in kind.measures if score.get(k) is not None}
        shown |= {"rows": len(self.rows), "seconds": seconds}
        self.tell.events.write("evaluation", step=step, split=name, metrics=shown)


def kept(kind: Kind, score: dict[str, Any], truth: Sequence[Any], answers: Answers) -> dict[str, Any]:
    """Scores as a file of the run keeps them: with every answer behind them, and what it is compared with."""
    return {
        "score": score,
        "truth": kind.compared(truth, answers.predicted),
        "predicted": answers.predicted,
        "losses": answers.losses,
        "weights": answers.weights,
        "groups": answers.groups,
    }


def answers_in(content: Mapping[str, Any]) -> Answers:
    """The answers that a file of scores holds."""
    return Answers(content["predicted"], content["losses"], content["weights"], content.get("groups"))
