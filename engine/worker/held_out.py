"""The held-out rows, scored twice only: before training and after, and by two baselines beside."""

import math
import random
import time
from dataclasses import dataclass
from typing import Any

from engine import metrics
from engine.files import write_json
from engine.rundir import RunDirectory
from engine.worker import baselines
from engine.worker.encoding import Encoded
from engine.worker.modeling import Built
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader
from recommender.errors import TrainingFailed


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores of the held-out rows; what an earlier life of the run has kept is not scored again."""

    run: RunDirectory
    rows: Encoded
    labels: list[str]
    reader: Reader
    tell: Narrator

    def score_before(self, built: Built, train: Encoded, seed: int) -> None:
        """The untouched model with its new head, the majority class, and the probe.

        Raises:
            TrainingFailed: the model computes no numbers, or memory is too small even for one row.
        """
        if not len(self.rows):
            self.tell.warn("no_held_out", "There are no held-out rows, so the report cannot say what the training gained.")
            return
        if not self._has("before"):
            self._score("before", built.model)
        if not self._has("majority"):
            self._keep("majority", baselines.majority(train.labels, len(self.rows)), None, seconds=0.0)
        if not self._has("probe"):
            self._score_probe(built, train, seed)

    def score_after(self, model: Any, step: int) -> None:
        """The saved result, trained up to `step`."""
        self._score("after", model, step)

    @property
    def scored_after(self) -> bool:
        """Whether there is nothing more to score."""
        return not len(self.rows) or self._has("after")

    def _score(self, name: str, model: Any, step: int = 0) -> None:
        said = self.reader.score(model, self.rows.input_ids, self.rows.labels, self.tell.progress(name, len(self.rows)))
        if not math.isfinite(said.loss):
            when = "before any training: its weights are damaged" if name == "before" else "after training; lower learning_rate"
            raise TrainingFailed(f"What the model computes is not a number {when}, or too large for the plan's precision.")
        self._keep(name, said.predicted, said.loss, losses=said.losses, seconds=said.seconds, step=step)

    def _score_probe(self, built: Built, train: Encoded, seed: int) -> None:
        began = time.monotonic()
        chosen = random.Random(seed).sample(range(len(train)), min(len(train), baselines.PROBE_ROWS))
        progress = self.tell.progress("probe", len(chosen) + len(self.rows))
        seen = self.reader.embed(built.body, [train.input_ids[i] for i in chosen], progress)
        shown = self.reader.embed(built.body, self.rows.input_ids, lambda n: progress(len(chosen) + n))
        known = [train.labels[i] for i in chosen]
        predicted, loss = baselines.probe(seen, known, shown, self.rows.labels, len(self.labels))
        self._keep("probe", predicted, loss, seconds=time.monotonic() - began)

    def _has(self, name: str) -> bool:
        return (self.run.scores / f"{name}.json").exists()

    def _keep(
        self,
        name: str,
        predicted: list[int],
        loss: float | None,
        *,
        seconds: float,
        step: int = 0,
        losses: list[float] | None = None,
    ) -> None:
        """Keep what the report and comparisons of runs are made of, and tell the viewers."""
        score = metrics.full_score(self.rows.labels, predicted, self.labels, loss)
        content = {"score": score, "truth": self.rows.labels, "predicted": predicted, "losses": losses}
        write_json(self.run.scores / f"{name}.json", content)
        shown = {k: score[k] for k in ("accuracy", "macro_f1", "loss") if score[k] is not None}
        shown |= {"rows": len(self.rows), "seconds": seconds}
        self.tell.events.write("evaluation", step=step, split=name, metrics=shown)
