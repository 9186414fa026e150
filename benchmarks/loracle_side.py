"""Loracle's side of the benchmark: its own recommended full fine-tune of the same model on the same rows."""

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.recipe import load_rows
from recommender.plan import Plan

FULL = "full"
BATCH = 32


def write_rows(name: str, folder: Path) -> tuple[Path, Path]:
    """The benchmark's training and held-out rows as the two csv files a user would have."""
    rows = load_rows(name)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"{name}-train.csv", folder / f"{name}-held-out.csv"
    sides = (rows.train_texts, rows.train_labels), (rows.held_out_texts, rows.held_out_labels)
    for file, (texts, labels) in zip(files, sides, strict=True):
        told = io.StringIO(newline="")
        writer = csv.writer(told)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, (rows.labels[i] for i in labels), strict=True))
        # Sides of one comparison share the file: another may be reading what stands there already.
        if not file.exists() or file.read_bytes() != told.getvalue().encode():
            file.write_text(told.getvalue(), encoding="utf-8", newline="")
    return files


def plan_for_benchmark(name: str, seed: int, work: Path, method: str = FULL, *more: str) -> Plan:
    """What Loracle recommends for this method, held to the recipe's terms: 3 epochs over all 1,000 rows; `more` are settings.

    The logical batch is 32, the upper end of what the evidence names: 16 rows of ten tokens are too little work for a step.
    """
    from engine.inspect import all_facts, inspect_data, inspect_machine, inspect_model
    from engine.planning import plan_for
    from recommender.decide import recommend

    train, held_out = write_rows(name, work / "data")
    model = inspect_model("demo")
    data = inspect_data(str(train), eval=str(held_out), model_path=model.path)
    advice = recommend(all_facts(inspect_machine(), model, data))
    total = -(-1_000 // BATCH) * 3
    return plan_for(
        advice,
        model,
        data,
        method=method,
        seed=seed,
        assignments=["epochs=3", "validation_rows=0", f"effective_batch={BATCH}", f"warmup_steps={round(0.06 * total)}", *more],
    )


def trainer_of(plan: Plan, work: Path) -> tuple[Any, int]:
    """The very trainer that Loracle's worker uses, with its model and rows ready, and the steps of the plan."""
    from engine.events import EventWriter
    from engine.loading import split
    from engine.worker import products
    from engine.worker.arguments import training_arguments
    from engine.worker.budget import TokenBudget
    from engine.worker.modeling import build, load_tokenizer, model_folder
    from engine.worker.tasks.registry import task_of
    from engine.worker.trainer import LogicalBatchTrainer, seed_everything

    products.take_faster()  # as the worker does
    folder = model_folder(plan.model)
    parts = split(plan.data, plan.task)
    tokenizer = load_tokenizer(folder)
    seed_everything(plan.seed)
    task = task_of(plan, parts.labels, tokenizer.pad_token_id)
    built = build(task, folder)
    rows = task.encode(tokenizer, parts.train)
    task.adopt(built.model)
    task.prepare(rows, next(built.model.parameters()).device)
    total = plan.total_steps(len(rows))
    work.mkdir(parents=True, exist_ok=True)
    trainer = LogicalBatchTrainer(
        built.model,
        training_arguments(plan, work, total, scored=False),
        rows,
        None,
        task=task,
        budget=TokenBudget(plan.token_budget, lambda before, after: None),
        evaluate_rows=lambda model, step: {},
        events=EventWriter(work / "events.jsonl"),
        checkpoint_note={},
        interrupt=lambda: None,
    )
    return trainer, total


def trainer_on(data: str, work: Path, name: str, precision: str = "fp32") -> tuple[Any, int]:
    """That of MiniLM fully on IMDB or SST-2 rows, 32 a step, or of SmolLM2-135M with LoRA on Alpaca rows, 8 a step."""
    from benchmarks import sft

    if data == "alpaca":
        plan = sft.plan("lora", work / "data").model_copy(update={"precision": precision})
    else:
        plan = plan_for_benchmark(data, 1, work, "full", f"precision={precision}")
    return trainer_of(plan, work / name)


def saved_classifier(folder: Path) -> Any:
    """The model of a finished run, loaded as its card says: an adapter onto its base."""
    from peft import PeftConfig, PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification

    if not (folder / "adapter_config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(folder)
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    model = AutoModelForSequenceClassification.from_pretrained(base, config=AutoConfig.from_pretrained(folder))
    return PeftModel.from_pretrained(model, folder)


def accuracy_side(data: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Run Loracle for real to the end of 3 epochs, or go on with such a run, and score the saved model."""
    import time

    from transformers import AutoTokenizer

    from benchmarks.accuracy import held_out
    from engine import runs
    from engine.rundir import RunDirectory
    from engine.state import FINISHED

    root = work / f"loracle-{data}-{method}-{seed}"
    earlier = sorted(root.glob("*/plan.yaml"))
    if earlier:
        run = RunDirectory(earlier[-1].parent)
        if run.state().status != "done":
            runs.resume(run)
    else:
        run = runs.start(plan_for_benchmark(data, seed, work, method), None, root)
    while (state := run.state()).status not in FINISHED | {"dead"}:
        time.sleep(1)
    if state.status != "done":
        raise RuntimeError(f"the run ended as {state.status}: {run.last_words()}")
    rows = load_rows(data)
    model = saved_classifier(run.model)
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    accuracy, loss = held_out(model, tokenizer, rows.held_out_texts, rows.held_out_labels)
    report = run.report() or {}
    return {
        "accuracy": accuracy,
        "loss": loss,
        "rows": len(rows.train_texts),
        "held_out_rows": len(rows.held_out_texts),
        "train_seconds": round(report["seconds"]["training"], 1),
        "steps": report["steps"],
        "plan": {k: getattr(run.plan(), k) for k in ("learning_rate", "effective_batch", "epochs", "max_length", "token_budget")},
    }
