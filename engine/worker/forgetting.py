"""The forgetting check: how well the model guesses text that has nothing to do with its training, before and after."""

import math
from dataclasses import dataclass, replace
from typing import Any

from engine.files import read_json, write_json
from engine.metrics import bootstrap
from engine.metrics.tokens import Tokens
from engine.rundir import RunDirectory
from engine.worker.generic_head import guessing
from engine.worker.generic_text import TEXTS
from engine.worker.held_out import answers_in, kept
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader

KIND = Tokens([])


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Perplexity of the embedded generic text, where the plan asks for it and the model was pretrained to guess words."""

    run: RunDirectory
    reader: Reader
    tokenizer: Any
    tell: Narrator
    base: str
    """The folder of the untouched model, whose own head guesses where the task put another in its place."""

    @property
    def scored_after(self) -> bool:
        """Whether there is nothing more to score."""
        return not self.reader.task.plan.forgetting_check or self._file("after").exists() or not self._file("before").exists()

    def score(self, name: str, model: Any, step: int = 0) -> None:
        """Score the text; `name` is before or after. What an earlier life of the run has kept is not scored again."""
        if not self.reader.task.plan.forgetting_check or self._file(name).exists() or (name == "after" and self.scored_after):
            return
        rows, judge, hidden = self.reader.task.plain_text(self.tokenizer, TEXTS), None, False
        if rows is None:
            found = guessing(self.reader.task.plan, self.base, model, self.tokenizer, TEXTS)
            if isinstance(found, str):
                self.tell.warn("no_forgetting_check", f"The forgetting check does not apply: {found}.")
                return
            rows, judge, hidden = found
        said = self.reader.score(model, rows, self.tell.progress("forgetting", len(rows)), judge=judge)
        if not math.isfinite(said.loss):
            self.tell.warn(
                "no_forgetting_check", "On generic text the model's outputs are not numbers, so forgetting is not judged."
            )
            return
        # Of answers that may hold a text too, what they cost and their tokens.
        answers = replace(said.answers, predicted=[answer[:2] for answer in said.answers.predicted])
        score = KIND.full_score(rows.truth, answers)
        write_json(self._file(name), kept(KIND, score, rows.truth, answers) | {"hidden": hidden}, indent=None)
        metrics = {"perplexity": score["perplexity"], "loss": score["loss"], "rows": len(rows), "seconds": said.seconds}
        self.tell.events.write("evaluation", step=step, split=f"generic_{name}", metrics=metrics)

    def _file(self, name: str) -> Any:
        return self.run.scores / f"generic-{name}.json"


def compared(run: RunDirectory, seed: int) -> dict[str, Any] | None:
    """Perplexity and loss of the generic text before and after, with the paired bootstrap's interval of their difference."""
    files = {name: run.scores / f"generic-{name}.json" for name in ("before", "after")}
    if not all(file.exists() for file in files.values()):
        return None
    both = {name: read_json(file, None) for name, file in files.items()}
    gains = bootstrap.gain(KIND, both["after"]["truth"], answers_in(both["before"]), answers_in(both["after"]), seed)
    return {"texts": len(both["after"]["truth"]), "hidden": both["after"].get("hidden", False)} | {
        measure: {"before": both["before"]["score"][measure], "after": both["after"]["score"][measure], **gains[measure]}
        for measure in KIND.measures
    }


def statement(found: dict[str, Any]) -> str:
    """What it means, in a sentence."""
    p = found["perplexity"]
    told = (
        f"{'words hidden in ' if found.get('hidden') else ''}generic text that has nothing to do with the task: perplexity"
        f" {p['before']:.3g} before and {p['after']:.3g} after"
        f" ({p['gain']:+.2g}, 95% interval {p['low']:+.2g} to {p['high']:+.2g})"
    )
    if p["low"] > 0:
        return f"Forgotten: {told}. A lower learning_rate, fewer epochs or LoRA forget less."
    if p["high"] < 0:
        return f"Nothing forgotten: {told}."
    return f"No forgetting shown: {told}; the interval contains zero."
