"""The training of a run: steps up to its end, a pause or a stop, and the best weights of it."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine import checkpoints
from engine.files import json_object, read_json, write_json
from engine.rundir import RunDirectory
from engine.text import one_line
from engine.worker.arguments import CHOICE, choice_of, training_arguments
from engine.worker.batches import TYPE
from engine.worker.control import Control
from engine.worker.faster import Faster
from engine.worker.health import Health
from engine.worker.held_out import kept
from engine.worker.modeling import Built
from engine.worker.narrator import Narrator
from engine.worker.patience import EarlyStopping, patience_ended
from engine.worker.resuming import environment_note
from engine.worker.samples import OnTheWay, WhileLearning
from engine.worker.schedule import Schedule, moments
from engine.worker.scoring import Reader, Scored
from engine.worker.tasks.base import Encoded
from engine.worker.trainer import LogicalBatchTrainer
from engine.worker.watch import Watch
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Candidate
from recommender.timing import FIT_ROWS


@dataclass(frozen=True, slots=True)
class Training:
    """What a training needs, beside its model."""

    run: RunDirectory
    plan: Plan
    tell: Narrator
    control: Control
    reader: Reader
    rows: dict[str, Encoded]
    """By use: `train` and `validation`."""
    total_steps: int
    on_the_way: OnTheWay
    while_learning: WhileLearning
    faster: Faster

    @property
    def over(self) -> bool:
        """Whether an earlier life of the run came to its last step."""
        return (self.run.checkpoints / checkpoints.FINISHED).exists()

    def go(
        self, trainer: LogicalBatchTrainer, checkpoint: Path | None, trained: Callable[[], None] = lambda: None
    ) -> dict[str, Any] | None:
        """Train to the end and load the best weights; facts about the training, or `None` when stopped or paused before.

        `trained` is called between the two.

        Raises:
            TrainingFailed: it cannot go on.
            InputError: it was over, and no checkpoint of it is left.
        """
        pause = self.control.stop_at
        step, over = self._take_steps(trainer, checkpoint)
        if pause is not None and (over or step >= pause):
            known = step in moments(self.plan, self.total_steps)
            self._score_pause(trainer.model, step, known=known)
        if pause is not None or not over:
            return None
        trained()
        return self._load_best(trainer)

    def _load_best(self, trainer: LogicalBatchTrainer) -> dict[str, Any]:
        """Put the best weights into the model, unless they are saved and nothing more is to be known of them; what was noted
        when the training was over."""
        done_file = self.run.checkpoints / checkpoints.FINISHED
        facts = dict(read_json(done_file))
        if "fit" in facts and self.run.model.exists():
            return facts
        best = checkpoints.folder_of(self.run.checkpoints, facts["best_step"])
        wrong = checkpoints.damage(best)
        if wrong is not None:
            newest, _ = checkpoints.newest_sound(self.run.checkpoints)
            if newest is None:
                done_file.unlink()
                raise InputError(f"{best}: {wrong}, and no other checkpoint is intact; start the run again.")
            self.tell.warn("best_lost", f"The best checkpoint is damaged ({wrong}); {newest.name} is used instead.")
            best, facts["best_step"] = newest, checkpoints.step_of(newest)
            facts.pop("fit", None)
        self.tell.now = "best"  # quicker than anybody could look; named where there is no memory for it
        trainer.let_go()  # weights on their way from the disk beside all of a step's memory would be more than any step takes
        trainer.load_weights(best)
        return facts

    def _take_steps(self, trainer: LogicalBatchTrainer, checkpoint: Path | None) -> tuple[int, bool]:
        """Train until the end, early stopping, a pause or a stop; the last step, of which the model has the weights, and
        whether the training is over, which is then noted."""
        step = checkpoints.step_of(checkpoint) if checkpoint else 0
        # Whoever saved the last step may not have come to note it; the Trainer would take one more.
        over = self.over or (checkpoint is not None and (step >= self.total_steps or patience_ended(checkpoint, self.plan)))
        pause = self.control.stop_at
        if checkpoint is not None and (over or (pause is not None and step >= pause)):
            trainer.load_weights(checkpoint)
        elif not over:
            self.tell.phase("train", step, self.total_steps, "steps")
            if trainer.watch is not None:
                trainer.watch.begin(step)
            with self.control.steps():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            step = int(trainer.state.global_step)
            checkpoint = checkpoints.folder_of(self.run.checkpoints, step)
            over = step >= self.total_steps or patience_ended(checkpoint, self.plan)
        if over and checkpoint is not None and not self.over:
            best = read_json(checkpoint / "trainer_state.json")["best_global_step"]
            facts = {"steps": step, "best_step": best or step, "stopped_early": step < self.total_steps}
            if facts["stopped_early"]:
                self.tell.events.write("stopped_early", step=step)
            write_json(self.run.checkpoints / checkpoints.FINISHED, facts)
        return step, over

    def _score_pause(self, model: Any, step: int, *, known: bool) -> None:
        """Keep what the model says about each validation row at a pause, for comparing runs; `known`: it was told already.

        Apart from the trainer's own evaluations, which choose the best checkpoint and end a training: a run that was
        paused and one that was not are to be the same.

        Raises:
            TrainingFailed: the loss is not a number, so that there is nothing to compare.
        """
        rows = self.rows["validation"]
        if not len(rows) or self.control.stop_at is None:
            return
        said = self.reader.score(model, rows, self.tell.progress("pause", len(rows)))
        found = self.reader.task.kind.summary(rows.truth, said.answers)
        if not known:
            self._tell_evaluation(step, said)
        if not math.isfinite(said.loss):
            self._watch().not_a_number("validation loss", step)
        content = {"step": step, **kept(self.reader.task.kind, found, rows.truth, said.answers)}
        write_json(self.run.validation_scores(self.control.stop_at), content, indent=None)

    def _tell_evaluation(self, step: int, said: Scored) -> dict[str, float]:
        """Tell the viewers what the validation rows showed; the metrics."""
        rows = self.rows["validation"]
        found = self.reader.task.kind.summary(rows.truth, said.answers) | {"rows": float(len(rows)), "seconds": said.seconds}
        self.tell.events.write("evaluation", step=step, split="validation", metrics=found)
        return found

    def fit(self, model: Any, trained: Mapping[str, Any]) -> dict[str, float]:
        """Loss of the best weights on rows that were trained on, without dropout: beside the validation loss it shows
        overfitting, which the losses of the steps do not (they are computed with dropout, by a model still changing).

        It is noted with what is known of the `trained` model, whose weights, once saved, are not needed again.

        Raises:
            TrainingFailed: it is not a number: the last step has ruined the weights.
        """
        if "fit" in trained:
            return dict(trained["fit"])
        train = self.rows["train"]
        chosen = random.Random(self.plan.seed).sample(range(len(train)), min(len(train), FIT_ROWS))
        said = self.reader.score(model, train.take(chosen), self.tell.progress("after", len(chosen)))
        if not math.isfinite(said.loss):
            self._watch().not_a_number("loss", self.total_steps)
        found = {"training_loss": said.loss, "rows": len(chosen)}
        write_json(self.run.checkpoints / checkpoints.FINISHED, {**trained, "fit": found})
        return found

    def _beginning(self, ids: Sequence[int]) -> str:
        """What a row begins with, as text."""
        words = self.while_learning.samples.tokenizer.decode([i % TYPE for i in ids], skip_special_tokens=True)
        return one_line(words, 60)

    def _watch(self) -> Watch:
        return Watch(self.run, Health(self.plan, suggested_rate(self.run, self.plan.method)), self.tell)

    def trainer(self, built: Built) -> LogicalBatchTrainer:
        """The trainer of this run; nothing is trained yet."""
        plan, validation, watch = self.plan, self.rows["validation"], self._watch()

        def evaluate(model: Any, step: int) -> dict[str, float]:
            progress = self.tell.progress("evaluate", len(validation))
            said = self.reader.score(model, validation, progress)
            found = self._tell_evaluation(step, said)
            self.on_the_way.say(said.answers.predicted, step)
            self.while_learning.write(model, step)
            watch.evaluated(step, found["loss"])
            self.tell.phase("train", step, self.total_steps, "steps")
            return found | {CHOICE: choice_of(plan, found)}

        scored = len(validation) > 0
        trainer = LogicalBatchTrainer(
            built.model,
            training_arguments(plan, self.run.checkpoints, self.total_steps, scored=scored),
            self.rows["train"],
            validation,
            task=self.reader.task,
            budget=self.reader.budget,
            evaluate_rows=evaluate,
            events=self.tell.events,
            watch=watch,
            faster=self.faster,
            checkpoint_note=environment_note(self.rows["train"]),
            interrupt=self.reader.interrupt,
            show=self._beginning,
        )
        trainer.add_callback(Schedule(moments(plan, self.total_steps), self.control, scores=scored))
        if plan.early_stopping and scored:
            trainer.add_callback(EarlyStopping(plan.patience))
        return trainer


def advised(run: RunDirectory, method: str) -> tuple[Facts, Candidate] | None:
    """The facts of a run and what was, or would have been, advised for that method; `None` where they are not known."""
    try:
        facts = Facts.model_validate(json_object(run.path / "facts.json"))
        told = [Candidate.model_validate(known) for known in (run.recommendation() or {}).get("candidates") or []]
    except ValidationError:
        return None
    return next(((facts, c) for c in told or recommend(facts).candidates if c.method == method), None)


def suggested_rate(run: RunDirectory, method: str) -> float | None:
    """The learning rate that is usual for this method here, where it is known."""
    found = advised(run, method)
    return found[1].settings.learning_rate if found is not None else None
