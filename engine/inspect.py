"""Looking at machine, model and data: facts in memory from things on disk. Blocking; call from a thread in the app."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.inspection.child import Cancel, ask, leave_idle
from engine.inspection.pipes import Progress
from engine.named import check_path, is_hub_data, local_model
from recommender.errors import InputError
from recommender.facts import CLASSIFYING, DataFacts, Facts, Goal, Machine, Measured, ModelFacts, Task

MODEL_SECONDS = 60.0
MODEL_MEMORY = 8 * 1024**3
"""Address space; a config and headers need a small part of it."""
FACTS_SECONDS = 300.0
"""To fetch a few megabytes: tokenizers are the largest of them."""
LEARNED_SECONDS = 120.0
DATA_SECONDS = 900.0
DOWNLOAD_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """A model that can be used."""

    facts: ModelFacts
    path: str
    """Absolute folder with config.json, tokenizer and safetensors; a GGUF file."""
    revision: str | None
    """Hub commit when it came from the hub."""
    fingerprint: str
    """SHA-256 over config.json, the safetensors headers and samples of the weights; of a hub model, which its commit names, over
    the first two."""
    weights_here: bool = True
    """Whether the weights are on this machine; if not, `inspect_model` with `weights` fetches them."""
    headers: str | None = None
    """A fingerprint without samples, as plans of before have it."""


@dataclass(frozen=True, slots=True)
class DataInspection:
    """Rows that can be used."""

    facts: DataFacts
    preview: tuple[tuple[str, str], ...]
    """(text, label) of the first rows, cleaned, one line each; prompt and answer where text is generated."""
    columns: tuple[str, ...]
    confidence: float
    """How sure task and columns are, 0 to 1."""
    path: str
    """Absolute: a file, a folder that `datasets` has saved, or a pattern with `*` for the files of a hub data set."""
    eval_path: str | None
    """The held-out file; also one that came with the data set as its test or validation split."""
    fingerprint: str
    """SHA-256 of the file."""
    eval_fingerprint: str | None
    splits: Mapping[str, str] = field(default_factory=dict)
    """Paths of the splits that a data set comes in, by name."""
    label_separator: str | None = None
    """What parts several labels in one value: a character, or `list` for a list written out."""
    drop_conflicts: bool = False
    """Whether training rows whose text also appears with another label are left out."""
    train_rows: int | None = None
    eval_rows: int | None = None
    """Of a sample, as it was asked for; `None` for all."""
    split_seed: int = 0


def inspect_machine(runs: Path | None = None, *, try_nf4: bool = False) -> Machine:
    """This machine now; never raises. `try_nf4` finds out whether 4-bit kernels run here (seconds, the first time)."""
    from engine.inspection.machine import machine, nf4_works
    from engine.runs import runs_root, under_way

    leave_idle()  # some 450 MB that a run would have
    found = machine(runs_root(runs))
    others = under_way(runs)
    if others:
        idle = "under way: times are told as if the machine were idle, and"
        more = f"{len(others)} other runs are {idle} they may take more memory yet."
        said = f"{others[0].name} is {idle} it may take more memory yet." if len(others) == 1 else more
        found = found.model_copy(update={"problems": (*found.problems, said)})
    if try_nf4 and found.nf4 is None:
        return found.model_copy(update={"nf4": nf4_works(found)})
    return found


def inspect_model(
    name: str,
    *,
    weights: bool = True,
    revision: str | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ModelInspection:
    """A model by folder, by hub id, `demo` or `demo-chat`; or a GGUF file, whose facts can be told and which cannot be trained.

    A hub model that is not in the cache is downloaded; without `weights` only its description is: config, tokenizer
    and the headers of its weights, which is all that facts and a recommendation need. It is the one of that `revision`, else
    the hub's newest, or what the cache last knew as that. `progress` is called with the bytes that were downloaded, of how many.

    Raises:
        InputError: there is no such model, it cannot be used, or looking at it was cancelled.
        Refused: not enough disk to download it.
    """
    folder = local_model(name)
    wanted = {"id": name, "revision": revision}
    if folder is None and not weights:
        answer = ask("hub_facts", wanted, about=name, timeout=FACTS_SECONDS, memory=MODEL_MEMORY, cancel=cancel)
        return ModelInspection(
            ModelFacts.model_validate(answer["facts"]),
            answer["path"],
            answer["revision"],
            answer["headers"],
            weights_here=answer["weights_here"],
        )
    commit = None
    if folder is None:
        found = ask("hub", wanted, about=name, timeout=DOWNLOAD_SECONDS, progress=progress, cancel=cancel)
        folder, commit = Path(found["path"]), found["revision"]
    request = {"path": os.path.abspath(folder), "id": name, "whole": commit is None}
    answer = ask("model", request, about=name, timeout=MODEL_SECONDS, memory=MODEL_MEMORY, cancel=cancel)
    facts, headers = ModelFacts.model_validate(answer["facts"]), answer.get("headers")
    known = answer["fingerprint"] if commit is None or headers is None else headers
    return ModelInspection(facts, answer["path"], commit, known, headers=headers)


def inspect_data(
    data: str,
    *,
    eval: str | None = None,  # noqa: A002 - the flag's name
    text_column: str | None = None,
    label_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    task: Task | None = None,
    train_rows: int | None = None,
    eval_rows: int | None = None,
    split_seed: int = 0,
    drop_conflicts: bool = False,
    model_path: str | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> DataInspection:
    """A file of rows, a saved or a hub data set, and what is held out; tokens are counted with the tokenizer in `model_path`.

    Task and columns are told from the contents; `task` and `columns` (by role: text, label, prompt, completion, ...)
    overrule that. With `drop_conflicts` training rows whose text also appears with another label are left out. `train_rows`
    and `eval_rows` take a sample seeded with `split_seed`. `progress` is called with what was done, of how much, and the unit.

    Raises:
        InputError: unusable for training, with file and row where that can be said; or cancelled.
        Refused: not enough disk to download it.
    """
    splits = None
    for file in filter(None, (data, eval)):
        check_path(file)
    if is_hub_data(data):
        found = ask("dataset", {"id": data}, about=data, timeout=DOWNLOAD_SECONDS, progress=progress, cancel=cancel)
        splits = found["splits"]
    named = {"text": text_column, "label": label_column}
    roles = {role: column for role, column in named.items() if column} | dict(columns or {})
    sample = {"train_rows": train_rows, "eval_rows": eval_rows, "split_seed": split_seed, "drop_conflicts": drop_conflicts}
    request = {"train": data, "eval": eval, "splits": splits, "columns": roles, "task": task, "model": model_path} | sample
    memory = _memory_for_data()
    answer = ask("data", request, about=data, timeout=DATA_SECONDS, memory=memory, progress=progress, cancel=cancel)
    facts, preview = DataFacts.model_validate(answer["facts"]), tuple((text, label) for text, label in answer["preview"])
    return DataInspection(**answer | sample | {"facts": facts, "preview": preview, "columns": tuple(answer["columns"])})


def learned_rows(data: DataInspection, model_path: str, count: int) -> dict[str, Any]:
    """The first rows as the model in `model_path` would read them: `rows` of row, pieces, tokens, trained.

    Raises:
        InputError: no text is written in such rows, or the model's chat template does not take one.
    """
    facts = data.facts
    if facts.task is None or facts.task in CLASSIFYING:
        raise InputError(f"{data.path}: its rows are for {facts.task}; tokens are shown for tasks that generate text.")
    request: dict[str, Any] = {"train": data.path, "task": facts.task, "layout": facts.layout, "columns": facts.columns}
    request |= {"model": model_path, "count": count}
    return ask("learned", request, about=data.path, timeout=LEARNED_SECONDS)


def _memory_for_data() -> int:
    """What is available now and room for what libraries reserve and never use."""
    import psutil

    return int(psutil.virtual_memory().available) + 4 * 1024**3


def inspect(model: str, data: str, *, goal: Goal | None = None, runs: Path | None = None, **data_options: Any) -> Facts:
    """Everything `recommend` needs to know; `data_options` are those of `inspect_data`. Of a hub model only its description is
    fetched.

    Raises:
        InputError: a model or file that cannot be used.
        Refused: not enough disk to download the rows.
    """
    found = inspect_model(model, weights=False)
    rows = inspect_data(data, **{"model_path": found.path, **data_options})
    return all_facts(inspect_machine(runs), found, rows, goal)


def all_facts(
    machine: Machine,
    model: ModelInspection,
    data: DataInspection,
    goal: Goal | None = None,
    *,
    reading: dict[str, float] | None = None,
) -> Facts:
    """The facts that `recommend` reads, with what `loracle calibrate` has measured of the device; the speed of a CPU, which no
    table knows, is measured now as well (0.3 s) unless the `reading` is there, and the fastest one counts. What an earlier trial
    of bf16 on it has found is among them too."""
    from engine.prediction.calibration import fastest_reading, remembered
    from engine.prediction.trial import with_known_trial

    known = remembered(machine) or {}
    speed = known.get("matmul_flops")
    if machine.backend == "cpu":
        now = fastest_reading(machine) if reading is None else reading
        gain = max(1.0, now.get("fp32", 0.0) / speed["fp32"]) if speed and speed.get("fp32") else 1.0
        speed = {name: rate * gain for name, rate in speed.items()} if speed else now
    profile = {name: known[name] for name in ("context", "runs") if known.get(name)}
    measured = Measured(matmul_flops=speed or None, bandwidth=known.get("bandwidth"), launch=known.get("launch"),
                        memory_profile=profile or None, pace=known.get("pace") or None)  # fmt: skip
    return with_known_trial(Facts(machine=machine, model=model.facts, data=data.facts, goal=goal or Goal(), measured=measured))
