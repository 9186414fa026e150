"""The plan: everything that decides a run's outcome, and nothing else.

A plan is what `--auto`, the app and a person's own file hand to the engine. Running the same plan on the same data
repeats the run.
"""

import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from recommender.base import Choice
from recommender.facts import Layout, Task
from recommender.recommendation import AdapterDtype, Kernels, Method, Optimizer, Precision, Trained

PLAN_VERSION = 1
_MODULE = re.compile(r"[\w.-]+")

METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("macro_f1", "accuracy", "loss"),
    "multi_label": ("micro_f1", "macro_f1", "exact_match", "loss"),
    "regression": ("rmse", "mae", "pearson", "r2", "loss"),
    "token_classification": ("span_f1", "token_accuracy", "loss"),
    "preference": ("loss", "reward_accuracy", "margin"),
}
"""What can choose the best checkpoint, by task, the usual one first; a task that is not named here has the loss."""


def metrics_of(task: Task | None) -> tuple[str, ...]:
    """The metrics of a task, the usual one first."""
    return METRICS.get(task or "classification", ("loss",))


Count = Annotated[int, Field(ge=0, le=10**12)]
Positive = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _written_out(value: Any) -> Any:
    """Whole numbers as text: `labels: [0, 1]` and `text_column: 2` mean the names that the file holds."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18 else value


Name = Annotated[str, BeforeValidator(_written_out)]
Source = Annotated[Name, Field(min_length=1, max_length=4096)]


class ModelChoice(Choice):
    """Which model, to the byte."""

    id: Source
    """A local folder or a hub id."""
    revision: str | None = None
    """A hub commit; meaningless for a folder."""
    fingerprint: str | None = None
    """SHA-256 over configuration, headers and, of a folder, samples of the weights; checked before the run."""


class DataChoice(Choice):
    """Which rows serve for what."""

    train: Source
    eval: Source | None = None
    """The held-out file. Without it rows of `train` are held out."""
    text_column: Name | None = None
    label_column: Name | None = None
    columns: dict[str, Name] | None = None
    """Columns by the role they play, for tasks other than classification."""
    layout: Layout | None = None
    """How a row is written down, for those tasks."""
    separator: str | None = None
    """What parts several labels in one value."""
    labels: list[Name] | None = None
    """Names of the classes in the order of the model's outputs."""
    train_rows: Positive | None = None
    """Take only a seeded sample of that many rows."""
    eval_rows: Positive | None = None
    """The same of the held-out file. Without one, and without `held_out_rows`, so many rows of `train` are held out, beside
    `train_rows`."""
    drop_conflicts: bool = False
    """Leave out training rows whose text also appears with another label."""
    validation_rows: Count | None = None
    """Carved from the training rows, stratified; `None` lets the data's size decide."""
    held_out_rows: Count | None = None
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Cross-validation: the rows are dealt into that many folds, and `fold` is the held-out one."""
    fold: Count | None = None
    split_seed: Count = 0
    """Fixed apart from `seed`, so that runs with several seeds are scored on the same rows."""
    train_fingerprint: str | None = None
    eval_fingerprint: str | None = None

    @model_validator(mode="after")
    def _one_fold(self) -> "DataChoice":
        if (self.folds is None) != (self.fold is None) or (self.fold or 0) >= (self.folds or 1):
            raise ValueError("folds and fold go together, and fold is counted from 0")
        if self.folds is not None and self.eval is not None:
            raise ValueError("folds and a held-out file exclude each other")
        return self

    @field_validator("labels")
    @classmethod
    def _once(cls, value: list[str] | None) -> list[str] | None:
        twice = [label for label, n in Counter(value or ()).items() if n > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named more than once")
        return value


class Plan(Choice):
    """One run: one method, one seed."""

    version: Literal[1] = 1
    model: ModelChoice
    data: DataChoice
    task: Task = "classification"
    method: Method
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: Count = 0
    epochs: Annotated[float, Field(gt=0, le=10_000)]
    effective_batch: Annotated[int, Field(ge=1, le=1_000_000)]
    """Rows of one optimizer step: what the mathematics sees, whatever memory allows at once."""
    max_length: Annotated[int, Field(ge=2, le=10_000_000)]
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    optimizer: Optimizer = "adamw"
    """`adamw_8bit_paged` moves its moments to the machine's memory while a GPU is short of its own."""
    trained: Trained = "all"
    last_layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    class_weights: bool = False
    label_smoothing: Share = 0.0
    preference_beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How strongly preferences hold the model to what it was (DPO's beta); of no other task."""

    rank: Annotated[int, Field(ge=1, le=4096)] | None = None
    alpha: Annotated[int, Field(ge=1, le=65_536)] | None = None
    target_modules: str | None = None
    """`all-linear`, or names of modules separated by commas."""
    dropout: Share | None = None
    """LoRA's dropout; the model keeps its own."""
    adapter_dtype: AdapterDtype = "fp32"
    """bf16 halves what adapters, their gradients and their moments take, and rounds small updates away."""
    rslora: bool = False
    """Scale the adapters by alpha / sqrt(rank) instead of alpha / rank: high ranks then learn as fast as low ones."""
    dora: bool = False
    """Learn the length of each weight's rows apart from their direction (DoRA): slower, now and then better at low rank."""
    pissa: bool = False
    """Start the adapters from the main part of the weights (PiSSA) instead of from nothing; for LoRA without dropout."""
    lora_plus_ratio: Annotated[float, Field(gt=1, le=1000)] | None = None
    """LoRA+: how many times faster the matrices B learn than the matrices A; 16 is what its authors use."""

    metric: str = "macro_f1"
    """One of the task's `METRICS`; the first of them unless said otherwise, whatever stands here."""
    evaluations: Annotated[int, Field(ge=1, le=10_000)] = 10
    early_stopping: bool = True
    patience: Annotated[int, Field(ge=1, le=10_000)] = 3

    forgetting_check: bool = False
    """Whether the model is also scored on generic text, before and after: on each next word, or on hidden ones."""

    precision: Precision = "fp32"
    token_budget: Annotated[int, Field(ge=1, le=10**8)] = 2048
    """Padded tokens of one micro-batch to start with: speed and memory depend on it, of the result what dropout draws."""
    gradient_checkpointing: bool = False
    compile: bool = False
    """Compile the repeated layers (torch.compile): quicker in a run that is long enough. The result does not depend on it."""
    kernels: Kernels = "torch"
    """Whose norms, rotations and gated maps compute: torch's, or Liger's where they are installed. The result does not depend
    on it."""

    overrides: list[str] = Field(default_factory=list)
    """Advice that was set aside with `--anyway` or `--method`, for the record."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        """A list of names, as peft has it, too."""
        return ",".join(value) if isinstance(value, list) and all(isinstance(name, str) for name in value) else value

    @field_validator("target_modules")
    @classmethod
    def _known_targets(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must be all-linear or module names")
        if value is not None and not all(_MODULE.fullmatch(name.strip()) for name in value.split(",")):
            raise ValueError("is read as module names separated by commas (q_proj,v_proj), not as a pattern; name them")
        return value

    @model_validator(mode="before")
    @classmethod
    def _newer(cls, data: Any) -> Any:
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > PLAN_VERSION:
            raise ValueError(f"this plan is of version {version}; this Loracle reads up to {PLAN_VERSION}: update Loracle")
        return data

    @model_validator(mode="before")
    @classmethod
    def _usual_metric(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "metric" in data:
            return data
        task = data.get("task", "classification")
        return data | {"metric": metrics_of(task if isinstance(task, str) else None)[0]}  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _metric_of_the_task(self) -> "Plan":
        known = metrics_of(self.task)
        if self.metric not in known:
            raise ValueError(f"task {self.task} has no metric {self.metric!r}; it has {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _one_of_them(self) -> "Plan":
        if self.compile and self.kernels == "liger":
            raise ValueError("compile and kernels: liger exclude each other; with compile, set kernels: torch")
        return self

    @model_validator(mode="after")
    def _trained_part(self) -> "Plan":
        if self.trained != "all" and self.method != "full":
            raise ValueError(f"trained: {self.trained} belongs to method full")
        if (self.trained == "last_layers") != (self.last_layers is not None):
            raise ValueError("trained: last_layers and a number of last_layers go together")
        return self

    @model_validator(mode="after")
    def _adapter_settings(self) -> "Plan":
        if self.method != "full":
            missing = [n for n in ("rank", "alpha") if getattr(self, n) is None]
            if missing:
                raise ValueError(f"method {self.method} needs {' and '.join(missing)}")
        extras = [n for n in ("rslora", "dora", "pissa", "lora_plus_ratio") if getattr(self, n)]
        if extras and self.method == "full":
            raise ValueError(f"{extras[0]} belongs to methods lora and qlora")
        if self.precision == "bf16" and self.method != "full":
            raise ValueError("precision bf16 is for full fine-tuning; with adapters use bf16-mixed, which holds the base in bf16")
        if self.adapter_dtype == "bf16" and (self.method == "full" or self.precision != "bf16-mixed"):
            raise ValueError("adapter_dtype bf16 belongs to methods lora and qlora with precision bf16-mixed")
        if self.pissa and self.method == "qlora":
            raise ValueError("pissa needs weights that are not in 4 bits: use method lora")
        if self.pissa and self.dora:
            raise ValueError("pissa and dora exclude each other")
        if self.pissa and self.dropout:
            raise ValueError("pissa needs dropout: 0, because its adapters hold the main part of the weights")
        return self

    def steps_per_epoch(self, rows: int) -> int:
        """Optimizer steps of one pass over `rows` training rows."""
        return max(1, -(-rows // self.effective_batch))

    def total_steps(self, rows: int) -> int:
        """Optimizer steps of the whole run over `rows` training rows."""
        return max(1, round(self.steps_per_epoch(rows) * self.epochs))
