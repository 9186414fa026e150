"""A run from plan to report: load, tokenize, score before, train, save, score after."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from engine import checkpoints
from engine.files import json_object, read_json
from engine.findings import judge_rate
from engine.loading import split
from engine.rows import Split
from engine.rundir import RunDirectory
from engine.worker import export, report
from engine.worker.budget import TokenBudget, give_back, what_helps
from engine.worker.control import Control
from engine.worker.faster import Faster
from engine.worker.forgetting import Forgetting
from engine.worker.held_out import HeldOut
from engine.worker.inputs import encoded, losses, tell_losses, verified_folder
from engine.worker.memory import Fence, counted_by, memory_available
from engine.worker.modeling import Built, build, device_label, device_name, load_tokenizer
from engine.worker.narrator import Narrator
from engine.worker.preflight import Preflight
from engine.worker.recomputing import recompute
from engine.worker.reference import compare_with
from engine.worker.resuming import compare, versions
from engine.worker.samples import OnTheWay, Samples, WhileLearning, chosen
from engine.worker.schedule import moments
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded, Task
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import seed_everything
from engine.worker.training import Training, advised, suggested_rate
from recommender.answering import writing_seconds
from recommender.edits import edited
from recommender.errors import Refused
from recommender.plan import Plan
from recommender.timing import FIT_ROWS, PROBE_ROWS


@dataclass(slots=True)
class Session:
    """One run of one plan in this process."""

    run: RunDirectory
    plan: Plan
    tell: Narrator
    control: Control

    def go(self) -> bool:
        """Do everything, or all up to a requested stop; whether it was stopped.

        What was already done in an earlier life of the run is taken from its files.

        Raises:
            LoracleError: the run cannot go on; the message says why.
            StopNow: it was told to leave at once.
        """
        plan, tell = self.plan, self.tell
        _quieten()
        tell.phase("load")
        model_folder, family = verified_folder(plan)
        self._judge_rate()
        parts = split(plan.data, plan.task)
        tokenizer = load_tokenizer(model_folder, words=plan.task == "token_classification")
        task = task_of(plan, parts.labels, tokenizer.pad_token_id, family)
        checkpoint = self._earlier_life()
        seed_everything(plan.seed)
        built = build(task, model_folder)
        rows, parts = encoded(task, tokenizer, parts, tell)
        total_steps = plan.total_steps(len(rows["train"]))  # not of the file's rows: raw text is cut into pieces
        expected = _expected(self.run, plan)
        self._announce(task, built, parts, rows, total_steps=total_steps, checkpoint=checkpoint, expected=expected)
        task.adopt(built.model)
        tell_losses(task, rows, parts.counts, tell)
        task.prepare(rows["train"], next(built.model.parameters()).device)
        with Fence() as fence, Faster(plan, tell) as faster:
            reader = Reader(task, self._budget(built, checkpoint), self._between(fence), fence.lift)
            compare_with(built.model, rows, reader, self.run, tell)
            on_the_way = OnTheWay(plan.task, parts.labels, parts.validation, rows["validation"].truth, tell)
            samples = Samples(self.run, chosen(reader, tokenizer, parts.held_out), tokenizer, reader, tell)
            learning = WhileLearning(samples)
            training = Training(self.run, plan, tell, self.control, reader, rows, total_steps, on_the_way, learning, faster)
            held_out = HeldOut(
                self.run, rows["held_out"], reader, tell, writing_seconds(expected.get("seconds", 0.0))
            ).unchanged()
            forgetting = Forgetting(self.run, reader, tokenizer, tell, model_folder)
            trainer = training.trainer(built)
            if not training.over:
                Preflight(self.run, tell, reader, rows).go(trainer, built, expected.get("memory"))
            if self.control.stop_at is None:  # a slice that may be thrown away leaves it to whoever goes on
                held_out.score_before(built, rows["train"])
                samples.write("before", built.model)
                forgetting.score("before", built.model)
            trained = training.go(trainer, checkpoint, fence.lift)
            if trained is None:
                return True
            fit = training.fit(built.model, trained)

        tell.phase("save")
        export.save(self.run, task, built, tokenizer=tokenizer, parts=parts, base=model_folder)
        del trainer
        built.model = None  # the result is scored as it was saved: what is loaded from disk is what the report is about
        if not (held_out.scored_after and samples.written_after and forgetting.scored_after):
            give_back()  # the trainer and its optimizer hang together in cycles, and would be held beside the second model
            step = trained["best_step"]
            self._score_result(export.load(self.run, task, model_folder), held_out, samples, forgetting, step)
        held_out.score_probe(lambda: self._untouched(task, model_folder), rows["train"], plan.seed)
        facts = trained | {"total_steps": total_steps} | losses(parts.counts, rows, plan.max_length)
        tell.now = "report"  # quicker than anybody could look; named where its disk is full
        report.write(self.run, task, parts, built, base=model_folder, training=facts, fit=fit, expected=expected)
        return False

    def _score_result(self, result: Any, held_out: HeldOut, samples: Samples, forgetting: Forgetting, step: int) -> None:
        held_out.reader.task.adopt(result)
        held_out.score_after(result, step)
        samples.write("after", result, step)
        forgetting.score("after", result, step)

    def _untouched(self, task: Task, folder: str) -> Built:
        """The model as it was before the training."""
        seed_everything(self.plan.seed)
        built = build(task, folder)
        task.adopt(built.model)
        return built

    def _judge_rate(self) -> None:
        """Say so now where the learning rate is outside the sane range.

        Raises:
            Refused: it would ruin any model at the first step.
        """
        finding = judge_rate(self.plan, suggested_rate(self.run, self.plan.method))
        if finding is not None:
            text = f"{finding.text} Use `--set {finding.setting}`."
            if finding.stop:
                raise Refused(text)
            self.tell.warn(finding.code, text, **finding.facts)

    def _earlier_life(self) -> Path | None:
        """Its newest sound checkpoint; what else it has kept and cannot be read is removed, to be made again."""
        for file in [*self.run.scores.glob("*.json"), self.run.checkpoints / checkpoints.FINISHED]:
            if file.exists() and json_object(file, None) is None:
                file.unlink()
                self.tell.warn("damaged_file", f"{file.name} was damaged; what it held is computed again.", file=file.name)
        checkpoint, put_aside = checkpoints.newest_sound(self.run.checkpoints)
        for what in put_aside:
            self.tell.warn("damaged_checkpoint", f"A damaged checkpoint was set aside ({what}).", checkpoint=what)
        meant = self._meant_for(checkpoint)
        if meant != "cpu" and device_name() == "cpu":  # it has fallen off the bus, say; hours become weeks
            text = f"The run was meant for {meant} and is on the processor, far slower; `loracle inspect machine` says why."
            self.tell.warn("gpu_gone", text, device=meant)
        return checkpoint

    def _meant_for(self, checkpoint: Path | None) -> str:
        """The device that the run was on, or was planned for; `cpu` where nothing is known."""
        if checkpoint is not None:
            return str(read_json(checkpoint / "loracle.json").get("device", "cpu"))
        found = advised(self.run, self.plan.method)
        device = found[0].machine.device if found is not None else None
        return device.name or "a GPU" if device is not None else "cpu"

    def _budget(self, built: Built, checkpoint: Path | None) -> TokenBudget:
        """The plan's token budget, or what an earlier life of the run had to come down to."""
        note = read_json(checkpoint / "loracle.json") if checkpoint is not None else {}
        if note.get("gradient_checkpointing"):
            recompute(built.model)

        def relief() -> bool:
            changed = recompute(built.model)  # not the model itself: it is let go before the result is loaded
            if changed:
                self.tell.recomputing()
            return changed

        tokens = int(note.get("token_budget") or self.plan.token_budget)
        return TokenBudget(tokens, self.tell.less_memory, relief=relief, advice=what_helps(self.plan))

    def _between(self, fence: Fence) -> Callable[[], None]:
        """What is done before every micro-batch."""

        def between() -> None:
            self.control.interrupt()
            fence.renew()

        return between

    def _announce(
        self, task: Task, built: Built, parts: Split, rows: dict[str, Encoded], *,
        total_steps: int, checkpoint: Path | None, expected: dict[str, Any],
    ) -> None:  # fmt: skip
        resumed = checkpoints.step_of(checkpoint) if checkpoint else None
        self.tell.events.write(
            "run",
            method=self.plan.method,
            model=self.plan.model.id,
            data=self.plan.data.train,
            labels=parts.labels[:100],
            train_rows=len(parts.train),
            train_tokens=sum(task.lengths(rows["train"].input_ids, rows["train"].targets)),
            validation_rows=len(parts.validation),
            held_out_rows=len(parts.held_out),
            counts=parts.counts,
            tokens=_tokens_scored(task, rows),
            total_steps=total_steps,
            stops_at=self.control.stop_at,
            evaluations=len(moments(self.plan, total_steps)) if len(parts.validation) else 0,
            checkpoints=len(moments(self.plan, total_steps)),
            stops_early=self.plan.early_stopping and len(parts.validation) > 0,
            epochs=self.plan.epochs,
            device=device_label(),
            precision=self.plan.precision,
            parameters=built.parameters,
            trained_parameters=built.trained,
            new_modules=built.head,
            predicted_memory=expected.get("memory"),
            predicted_seconds=expected.get("seconds"),
            memory_available=expected.get("available") or memory_available(),
            versions=versions(),
            resumed_from=resumed,
            resume=compare(read_json(checkpoint / "loracle.json"), rows["train"]) if checkpoint else None,
        )


def _tokens_scored(task: Task, rows: dict[str, Encoded]) -> dict[str, int]:
    """Tokens of the rows that are only scored, by use; of those trained on some are read once more for `fit` and the probe."""
    tokens = {use: sum(task.lengths(which.input_ids, which.targets)) for use, which in rows.items()}
    count, train = len(rows["train"]), tokens.pop("train")
    fit, probe = (round(train * min(most / count, 1.0)) for most in (FIT_ROWS, PROBE_ROWS))
    return tokens | {"fit": fit, "probe": probe + tokens["held_out"] if task.has_probe and tokens["held_out"] else 0}


def _expected(run: RunDirectory, plan: Plan) -> dict[str, Any]:
    """What was said that a run of that plan takes, its own settings among the advised: bytes where a trace has counted them,
    seconds, of a step too, bytes available.

    Bytes are those that a run counts of itself (`memory.counted_by`): on a GPU without the context.
    """
    found = advised(run, plan.method)
    if found is None:
        return {}
    own = edited(*found, plan).candidate
    beside = own.memory.parts.get("runtime", 0) if counted_by() == "allocator" else 0
    return {
        "memory": max(own.memory.predicted - beside, 0) if own.memory.counted else None,
        "seconds": own.hours.predicted * 3600,
        "step": own.hours.training * 3600 / own.settings.total_steps if own.hours.training else None,
        "available": own.memory.available,
    }


def _quieten() -> None:
    """Libraries speak to worker.log, and only of errors."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.captureWarnings(True)
