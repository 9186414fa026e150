"""A run from plan to report: load, tokenize, score before, train, save, score after."""

import gc
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import EarlyStoppingCallback

from engine import checkpoints
from engine.files import read_json, write_json
from engine.inspection.model import inspect_folder
from engine.loading import split
from engine.rows import Split
from engine.rundir import RunDirectory
from engine.tables.read import fingerprint
from engine.worker import export, report
from engine.worker.arguments import CHOICE, check_supported, choice_of, training_arguments
from engine.worker.budget import TokenBudget
from engine.worker.control import Control, StopNow
from engine.worker.heartbeat import memory_available
from engine.worker.held_out import HeldOut, kept
from engine.worker.modeling import Built, build, load_tokenizer, model_folder
from engine.worker.narrator import Narrator
from engine.worker.resuming import compare, environment_note, patience_ended
from engine.worker.samples import Samples, chosen
from engine.worker.schedule import Schedule, moments
from engine.worker.scoring import Reader, Scored
from engine.worker.tasks.base import Encoded, Task
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import LogicalBatchTrainer, seed_everything
from recommender.errors import InputError
from recommender.plan import Plan

FINISHED = "finished.json"
"""Beside the checkpoints once training is over: resuming then goes straight to saving and scoring."""
LEAST_GAIN = 0.0005
"""What an evaluation must gain to count for early stopping; rounding gains a little for ever."""
FIT_ROWS = 500
"""Training rows scored after the training, at most."""


@dataclass(slots=True)
class Session:
    """One run of one plan in this process."""

    run: RunDirectory
    plan: Plan
    tell: Narrator
    control: Control
    training: bool = False
    """Whether steps are being taken: only then does a stop wait for the step's end."""

    def go(self) -> bool:
        """Do everything, or all up to a requested stop; whether it was stopped.

        What was already done in an earlier life of the run is taken from its files.

        Raises:
            LoracleError: the run cannot go on; the message says why.
            StopNow: it was told to leave at once.
        """
        plan = self.plan
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        logging.captureWarnings(True)
        tell = self.tell
        tell.phase("load")
        model_folder = self._verified_inputs()
        parts = split(plan.data, plan.task)
        tokenizer = load_tokenizer(model_folder, words=plan.task == "token_classification")
        task = task_of(plan, parts.labels, tokenizer.pad_token_id)
        checkpoint = self._newest_checkpoint()
        seed_everything(plan.seed)
        built = build(task, model_folder)
        rows = self._encoded(task, tokenizer, parts)
        total_steps = plan.total_steps(len(rows["train"]))  # not of the file's rows: raw text is cut into pieces
        self._announce(built, parts, total_steps, checkpoint)
        task.adopt(built.model)
        self._tell_losses(task, rows)
        budget = TokenBudget(self._first_budget(checkpoint), tell.less_memory)
        reader = Reader(task, budget, self._interrupt)
        task.prepare(rows["train"], next(built.model.parameters()).device)
        held_out = HeldOut(self.run, rows["held_out"], reader, tell)
        samples = Samples(self.run, chosen(reader, tokenizer, parts.held_out), tokenizer, reader, tell)
        if self.control.stop_at is None:  # a slice that may be thrown away leaves it to whoever goes on
            held_out.score_before(built, rows["train"], plan.seed)
            samples.write("before", built.model)

        trained = self._train(built, rows, reader, total_steps, checkpoint)
        if trained is None:
            return True

        fit = self._fit(built.model, rows["train"], reader)
        tell.phase("save")
        export.save(self.run, task, built, tokenizer=tokenizer, parts=parts, base=model_folder)
        built.model = None  # the result is scored as it was saved: what is loaded from disk is what the report is about
        if not (held_out.scored_after and samples.written_after):
            gc.collect()  # the trainer and its optimizer hang together in cycles, and would be held beside the second model
            result = export.load(self.run, task, model_folder)
            task.adopt(result)
            held_out.score_after(result, trained["best_step"])
            samples.write("after", result, trained["best_step"])
        training = trained | {"total_steps": total_steps, "lost": {use: lost(which) for use, which in rows.items()}}
        report.write(self.run, task, parts, built, training=training, fit=fit, expected=_expected(self.run, plan.method))
        return False

    # Before training

    def _verified_inputs(self) -> str:
        """The model's folder, after model and data were found to be those of the plan.

        Raises:
            InputError: they have changed since, or this machine cannot do what the plan says.
        """
        check_supported(self.plan)
        data = self.plan.data
        for name, expected in ((data.train, data.train_fingerprint), (data.eval, data.eval_fingerprint)):
            if name and expected and fingerprint(name) != expected:
                raise InputError(f"{name} has changed since the plan was made; make a new plan with `loracle plan`.")
        folder = model_folder(self.plan.model)
        found = inspect_folder(folder, self.plan.model.id)
        if self.plan.model.fingerprint and found["fingerprint"] != self.plan.model.fingerprint:
            raise InputError(f"{self.plan.model.id}: the model has changed since the plan was made; make a new plan.")
        positions = found["facts"]["max_positions"]
        if positions and self.plan.max_length > positions:
            raise InputError(f"max_length is {self.plan.max_length}, and {self.plan.model.id} reads {positions} tokens at most.")
        return folder

    def _encoded(self, task: Task, tokenizer: Any, parts: Split) -> dict[str, Encoded]:
        """The rows by use as the model reads them.

        Raises:
            InputError: nothing is left to train on.
        """
        parts_by_use = {"train": parts.train, "validation": parts.validation, "held_out": parts.held_out}
        rows = {u: task.encode(tokenizer, w, self.tell.progress("tokenize", len(w))) for u, w in parts_by_use.items()}
        if not len(rows["train"]):
            raise InputError(f"{self.plan.data.train}: nothing is left to learn from.")
        return rows

    def _tell_losses(self, task: Task, rows: dict[str, Encoded]) -> None:
        """Warn of what the rows lost on the way into the model, and of what the task has to say."""
        for code, text in task.remarks.items():
            self.tell.warn(code, text)
        for use, which in rows.items():
            if which.rows_cut or which.rows_untrained:
                name = {"train": "training", "validation": "validation", "held_out": "held-out"}[use]
                text = f"{which.rows_cut:,} {name} rows are longer than {self.plan.max_length} tokens and were cut"
                text += f" ({which.tokens_cut:,} tokens lost)"
                if which.rows_untrained:
                    text += f"; {which.rows_untrained:,} had nothing left to learn and were left out"
                self.tell.warn("rows_cut", f"{text}.", use=use, **lost(which))

    def _newest_checkpoint(self) -> Path | None:
        checkpoint, put_aside = checkpoints.newest_sound(self.run.checkpoints)
        for what in put_aside:
            self.tell.warn("damaged_checkpoint", f"A damaged checkpoint was put aside ({what}).", checkpoint=what)
        return checkpoint

    def _first_budget(self, checkpoint: Path | None) -> int:
        """The plan's token budget, or the smaller one that an earlier life of the run had to come down to."""
        if checkpoint is None:
            return self.plan.token_budget
        return int(read_json(checkpoint / "loracle.json").get("token_budget") or self.plan.token_budget)

    def _announce(self, built: Built, parts: Split, total_steps: int, checkpoint: Path | None) -> None:
        expected = _expected(self.run, self.plan.method)
        resumed = checkpoints.step_of(checkpoint) if checkpoint else None
        self.tell.events.write(
            "run",
            method=self.plan.method,
            model=self.plan.model.id,
            data=self.plan.data.train,
            labels=parts.labels[:100],
            train_rows=len(parts.train),
            validation_rows=len(parts.validation),
            held_out_rows=len(parts.held_out),
            counts=parts.counts,
            total_steps=total_steps,
            stops_at=self.control.stop_at,
            evaluations=len(moments(total_steps, self.plan.evaluations)) if len(parts.validation) else 0,
            epochs=self.plan.epochs,
            device=_device_label(),
            precision=self.plan.precision,
            parameters=built.parameters,
            trained_parameters=built.trained,
            new_modules=built.head,
            predicted_memory=expected.get("memory"),
            predicted_seconds=expected.get("seconds"),
            memory_available=expected.get("available") or memory_available(),
            versions=environment_note()["versions"],
            resumed_from=resumed,
            resume=compare(read_json(checkpoint / "loracle.json")) if checkpoint else None,
        )

    # Training

    def _train(
        self, built: Built, rows: dict[str, Encoded], reader: Reader, total_steps: int, checkpoint: Path | None
    ) -> dict[str, Any] | None:
        """Train to the end and load the best weights; facts about the training, or `None` when stopped or paused before."""
        trainer = self._trainer(built, rows, reader, total_steps)
        pause = self.control.stop_at
        step, over = self._take_steps(trainer, total_steps, checkpoint)
        if pause is not None and (over or step >= pause):
            known = step in moments(total_steps, self.plan.evaluations)
            self._score_pause(trainer.model, rows["validation"], reader, step, known=known)
        if pause is not None or not over:
            return None
        done_file = self.run.checkpoints / FINISHED
        facts = dict(read_json(done_file))
        best = checkpoints.folder_of(self.run.checkpoints, facts["best_step"])
        wrong = checkpoints.damage(best)
        if wrong is not None:
            newest, _ = checkpoints.newest_sound(self.run.checkpoints)
            if newest is None:
                done_file.unlink()
                raise InputError(f"{best}: {wrong}, and no other checkpoint is sound; start the run again.")
            self.tell.warn("best_lost", f"The best checkpoint is damaged ({wrong}); {newest.name} is used instead.")
            best, facts["best_step"] = newest, checkpoints.step_of(newest)
        trainer.load_weights(best)
        return facts

    def _take_steps(self, trainer: LogicalBatchTrainer, total_steps: int, checkpoint: Path | None) -> tuple[int, bool]:
        """Train until the end, early stopping, a pause or a stop; the last step, of which the model has the weights, and
        whether the training is over, which is then noted."""
        step = checkpoints.step_of(checkpoint) if checkpoint else 0
        over = (self.run.checkpoints / FINISHED).exists() or (checkpoint is not None and patience_ended(checkpoint, self.plan))
        pause = self.control.stop_at
        if checkpoint is not None and (over or (pause is not None and step >= pause)):
            trainer.load_weights(checkpoint)
        elif not over:
            self.tell.phase("train", step, total_steps, "steps")
            self.training = True
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            self.training = False
            step = int(trainer.state.global_step)
            checkpoint = checkpoints.folder_of(self.run.checkpoints, step)
            over = step >= total_steps or patience_ended(checkpoint, self.plan)
        if over and checkpoint is not None and not (self.run.checkpoints / FINISHED).exists():
            best = read_json(checkpoint / "trainer_state.json")["best_global_step"]
            facts = {"steps": step, "best_step": best or step, "stopped_early": step < total_steps}
            write_json(self.run.checkpoints / FINISHED, facts)
        return step, over

    def _score_pause(self, model: Any, rows: Encoded, reader: Reader, step: int, *, known: bool) -> None:
        """Keep what the model says about each validation row at a pause, for comparing runs; `known`: it was told already.

        Apart from the trainer's own evaluations, which choose the best checkpoint and end a training: a run that was
        paused and one that was not are to be the same.
        """
        if not len(rows) or self.control.stop_at is None:
            return
        said = reader.score(model, rows, self.tell.progress("pause", len(rows)))
        found = reader.task.kind.summary(rows.truth, said.answers)
        if not known:
            self._tell_evaluation(step, reader.task, rows, said)
        content = {"step": step, **kept(found, rows.truth, said.answers)}
        write_json(self.run.validation_scores(self.control.stop_at), content)

    def _tell_evaluation(self, step: int, task: Task, rows: Encoded, said: Scored) -> dict[str, float]:
        """Tell the viewers what the validation rows showed; the metrics."""
        found = task.kind.summary(rows.truth, said.answers) | {"rows": float(len(rows)), "seconds": said.seconds}
        self.tell.events.write("evaluation", step=step, split="validation", metrics=found)
        return found

    def _fit(self, model: Any, train: Encoded, reader: Reader) -> dict[str, float]:
        """Loss of the best weights on rows that were trained on, without dropout: beside the validation loss it shows
        overfitting, which the losses of the steps do not (they are computed with dropout, by a model still changing)."""
        chosen = random.Random(self.plan.seed).sample(range(len(train)), min(len(train), FIT_ROWS))
        said = reader.score(model, train.take(chosen), self.tell.progress("after", len(chosen)))
        return {"training_loss": said.loss, "rows": len(chosen)}

    def _trainer(self, built: Built, rows: dict[str, Encoded], reader: Reader, total_steps: int) -> LogicalBatchTrainer:
        plan = self.plan
        validation = rows["validation"]

        def evaluate(model: Any, step: int) -> dict[str, float]:
            found = self._tell_evaluation(step, reader.task, validation, reader.score(model, validation))
            return found | {CHOICE: choice_of(plan, found)}

        scored = len(validation) > 0
        trainer = LogicalBatchTrainer(
            built.model,
            training_arguments(plan, self.run.checkpoints, total_steps, scored=scored),
            rows["train"].table(),
            validation.table(),
            task=reader.task,
            budget=reader.budget,
            evaluate_rows=evaluate,
            events=self.tell.events,
            checkpoint_note=environment_note(),
            interrupt=self._interrupt,
        )
        trainer.add_callback(Schedule(moments(total_steps, plan.evaluations), self.control, scores=scored))
        if plan.early_stopping and scored:
            trainer.add_callback(EarlyStoppingCallback(plan.patience, LEAST_GAIN))
        return trainer

    def _interrupt(self) -> None:
        """Between micro-batches: leave if that was asked for and nothing would be lost by it.

        Raises:
            StopNow: it was.
        """
        if self.control.stop and not self.training:
            raise StopNow
        self.control.check_stop_now()


def _expected(run: RunDirectory, method: str) -> dict[str, Any]:
    """What the recommendation said about this method: bytes, seconds, bytes available."""
    advice = run.recommendation() or {}
    for candidate in advice.get("candidates") or []:
        if candidate.get("method") == method:
            return {
                "memory": candidate["memory"]["predicted"],
                "seconds": candidate["hours"]["predicted"] * 3600,
                "available": candidate["memory"]["available"],
            }
    return {}


def lost(rows: Encoded) -> dict[str, int]:
    """What truncation took from rows."""
    return {name: getattr(rows, name) for name in ("rows_cut", "tokens_cut", "rows_untrained")}


def _device_label() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"
