"""The result on disk: weights, tokenizer, label names and a model card, loadable with transformers and peft alone."""

import shutil
from pathlib import Path
from typing import Any

from engine import checkpoints
from engine.files import read_json, sync_files, sync_folder, write_atomically, write_json
from engine.rows import Split
from engine.rundir import RunDirectory
from engine.worker.adapters import CONFIG, needs_config, write_as_plain_lora
from engine.worker.card import model_card
from engine.worker.modeling import (
    Built,
    device_name,
    dtype_name,
    keep_trainable,
    load_config,
    load_tokenizer,
    placed,
    quantization,
    weights_dtype,
)
from engine.worker.tasks.base import Task
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.registry import task_of
from recommender.facts import CLASSIFYING, Family
from recommender.plan import Plan

SETS = ("target_modules", "exclude_modules")
"""What peft's configuration holds without an order."""


def save(run: RunDirectory, task: Task, built: Built, *, tokenizer: Any, parts: Split, base: str) -> None:
    """Write `model/` whole or not at all: beside it first, then under its name.

    Raises:
        TrainingFailed: the disk is full or gone; the checkpoints stay.
    """
    if run.model.exists():
        return
    beside = run.path / ".model"
    shutil.rmtree(beside, ignore_errors=True)
    with checkpoints.being_written(beside, "the result"):
        _write(beside, task, built, tokenizer=tokenizer, parts=parts, base=base)
        sync_files(beside)  # a name is kept through a power cut, and what was not flushed is not: it is never written again
        beside.rename(run.model)
    sync_folder(run.path)


def _write(beside: Path, task: Task, built: Built, *, tokenizer: Any, parts: Split, base: str) -> None:
    plan = task.plan
    model = built.model
    model.config.use_cache = True
    task.finish(model)
    if plan.method == "full":
        model.save_pretrained(beside)
    else:
        # peft writes its own card; ours says how to load and what was measured
        model.save_pretrained(beside)
        if plan.pissa:
            write_as_plain_lora(model, beside)
        generation = getattr(model.get_base_model(), "generation_config", None)
        if generation is not None:
            generation.save_pretrained(beside)
        _name_base(beside, plan, base)
        if needs_config(task):
            _write_config(beside, model.config, plan)
    # What the tokenizer's file says about length is what others will run with. A head has learned from texts of that length at
    # most; a model that writes goes on reading as far as it could: servers take the number for all that is asked and answered.
    classifies = plan.task in CLASSIFYING
    if classifies:
        tokenizer.model_max_length = plan.max_length
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.enable_truncation(plan.max_length) if classifies else backend.no_truncation()
    tokenizer.save_pretrained(beside)
    kept = {"method": plan.method, "max_length": plan.max_length, "precision": plan.precision, "new_modules": built.head}
    asked = {"system": task.system, "tools": task.tools} if isinstance(task, Chat) else {}
    write_json(beside / "loracle.json", {"version": 1} | kept | {name: said for name, said in asked.items() if said})
    write_atomically(beside / "README.md", model_card(task, parts, built, base), 0o600)


def _write_config(folder: Path, config: Any, plan: Plan) -> None:
    """Write what the base's configuration must say for the adapter, as `config.json`."""
    content = config.to_dict()
    content.pop("quantization_config", None)  # of the base as it was trained on, not of a stored checkpoint
    content.pop("_name_or_path", None)
    content["dtype"] = dtype_name(plan)
    write_json(folder / "config.json", content)


def _name_base(folder: Path, plan: Plan, base: str) -> None:
    """Write the base as a hub id where it is one; only a local base keeps its path, without which nothing would load.

    Names that peft holds in a set are put in one order, so that the same run writes the same files.
    """
    config = {n: sorted(v) if n in SETS and isinstance(v, list) else v for n, v in read_json(folder / CONFIG).items()}
    config["base_model_name_or_path"] = base if Path(plan.model.id).exists() else plan.model.id
    config["revision"] = plan.model.revision
    write_json(folder / CONFIG, config)


def tokenizer_and_task(run: RunDirectory, family: Family | None) -> tuple[Any, Task]:
    """The tokenizer of a finished run's result, and its task, for a model of that family.

    Raises:
        InputError: the result has no tokenizer, or the plan cannot be read.
    """
    plan = run.plan()
    tokenizer = load_tokenizer(str(run.model), words=plan.task == "token_classification")
    labels = [str(label) for label in plan.data.labels or (run.report() or {}).get("labels") or ()]
    return tokenizer, task_of(plan, labels, tokenizer.pad_token_id, family)


def config_of(run: RunDirectory, task: Task, base: str) -> Any:
    """The configuration of the base as the run's adapter needs it.

    Raises:
        InputError: that of the base cannot be used.
    """
    from transformers import AutoConfig

    kept = (run.model / "config.json").is_file()
    return AutoConfig.from_pretrained(run.model) if kept else load_config(base, task)


def load(run: RunDirectory, task: Task, base: str) -> Any:
    """The saved result as anybody would load it, in the precision it was trained with, on the device of this run."""
    plan, auto = task.plan, task.model_class()
    if plan.method == "full":
        model = auto.from_pretrained(run.model, dtype=weights_dtype(plan), use_safetensors=True)
        return placed(model, plan)
    from peft import PeftModel

    dtype = weights_dtype(plan)
    options: dict[str, Any] = {"config": config_of(run, task, base), "dtype": dtype, "use_safetensors": True}
    if plan.method == "qlora":
        options["quantization_config"] = quantization(dtype, read_json(run.model / "loracle.json")["new_modules"])
        options["device_map"] = {"": device_name()}
    # A head of the base that had another number of outputs is replaced by the one that was trained.
    model = auto.from_pretrained(base, trust_remote_code=False, ignore_mismatched_sizes=task.fresh_head, **options)
    keep_trainable(model)
    return placed(PeftModel.from_pretrained(model, str(run.model)), plan)
