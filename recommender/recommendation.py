"""The recommender's answer: a verdict, every candidate with its numbers, and the reasons."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from recommender.base import Fact
from recommender.kinds import METHODS as METHODS
from recommender.kinds import Method as Method
from recommender.language import marked

METHOD_NAMES: dict[str, str] = {"full": "Full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
IN_SENTENCES: dict[str, str] = METHOD_NAMES | {"full": "full fine-tuning"}
"""Their names where a sentence has already begun."""
Verdict = Literal["full", "lora", "qlora", "not_yet", "does_not_fit"]
Confidence = Literal["clear", "likely", "close"]
Origin = Literal["measured", "estimated", "assumed"]
Trained = Literal["all", "no_embeddings", "last_layers"]
"""What full fine-tuning trains: every parameter, all but the embeddings, or the head and the last layers."""
Optimizer = Literal["adamw", "adamw_8bit", "adamw_8bit_paged"]
Precision = Literal["fp32", "bf16-mixed", "fp16-mixed", "bf16"]
AdapterDtype = Literal["fp32", "bf16"]
UNCOUNTED: dict[tuple[bool, bool], str] = {
    (True, False): marked("fits easily"),
    (True, True): marked("probably fits"),
    (False, True): marked("probably too little"),
    (False, False): marked("far too little"),
}
"""What is said of the free memory where no step was counted: by whether it fits, and whether it is near."""
Kernels = Literal["torch", "liger"]
"""Whose norms, rotations and gated maps compute a step."""


class Memory(Fact):
    """Peak memory in bytes, against what is free now."""

    predicted: int
    low: int
    high: int
    available: int
    origin: Origin
    parts: dict[str, int] = Field(default_factory=dict)
    """Bytes by name: weights, gradients, optimizer, activations, runtime."""
    phases: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The same at the peak of each phase, where a trace has counted the step."""
    counted: bool = False
    """Whether a trace has counted the step; else these bytes are a formula's, by which is decided, and no sentence tells them."""
    near: bool = False
    """Whether it was not counted, and is so near what is free that a trace could say otherwise."""


class Hours(Fact):
    """Wall-clock hours of the whole run, evaluation included."""

    predicted: float
    low: float
    high: float
    origin: Origin
    training: float | None = None
    """Of them, those of the steps alone."""


class Settings(Fact):
    """A complete set of hyper-parameters for one method."""

    learning_rate: float
    epochs: float
    effective_batch: int
    total_steps: int
    warmup_steps: int
    schedule: Literal["linear", "cosine", "constant"]
    max_length: int
    weight_decay: float
    max_grad_norm: float
    precision: Precision
    gradient_checkpointing: bool
    optimizer: Optimizer
    trained: Trained = "all"
    last_layers: int | None = None
    """With `trained` = last_layers: how many, counted from the top."""
    rank: int | None
    alpha: int | None
    target_modules: str | None
    dropout: float | None
    """LoRA's own dropout; the model keeps its dropout as it was trained."""
    adapter_dtype: AdapterDtype = "fp32"
    """In which the adapters, their gradients and their moments are held."""
    dora: bool = False
    """Whether LoRA learns the length of each weight's rows apart (DoRA): never advised, a person may want it."""
    seeds: tuple[int, ...]
    """How many runs a careful comparison takes; one run has one seed."""
    metric: str
    class_weights: bool
    label_smoothing: float = 0.0
    early_stopping: bool
    patience: int
    evaluations: int
    """Evaluations on the validation rows, spread over the run."""
    token_budget: int
    """Padded tokens one micro-batch may hold. Speed and memory depend on it, results do not."""
    compile: bool = False
    """The repeated layers are compiled with torch.compile. Speed and memory depend on it, results do not."""
    kernels: Kernels = "torch"
    """Speed and memory depend on them, results do not."""
    validation_rows: int
    held_out_rows: int
    """Rows carved from the data for the final score; 0 when a held-out file was given."""
    folds: int = 1
    """Above 1: too few rows for one split; a careful result is the mean of that many folds."""


class Candidate(Fact):
    """One method, judged."""

    method: Method
    fits: bool
    removed_by: str | None
    """The rule that took it out of the running, or `None`. It stays choosable if it fits."""
    points: float
    memory: Memory
    hours: Hours
    trained_parameters: int
    disk: int
    """Bytes the run needs on disk: checkpoints and the result."""
    settings: Settings
    devices: int = 1
    """Accelerators the run is spread over."""
    sharded: bool = False
    """Weights and optimizer states are divided over the devices; else each holds a copy."""

    @property
    def viable(self) -> bool:
        """Still in the running: it fits and no rule took it out."""
        return self.fits and self.removed_by is None


def nearest_of(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate that comes first: in the running, else fitting, by points (ties go to the cheaper run), else the smallest."""

    def rank(c: Candidate) -> tuple[bool, bool, float, float, int]:
        return not c.viable, not c.fits, -c.points if c.fits else 0.0, c.hours.predicted if c.fits else 0.0, c.memory.predicted

    return min(candidates, key=rank)


class Reason(Fact):
    """Why: a code, the facts that made it fire, the sentence rendered from them, the source."""

    code: str
    text: str
    facts: dict[str, Any]
    source: str


class Caution(Fact):
    """Something to know that did not decide the verdict."""

    code: str
    text: str
    facts: dict[str, Any]
    about: Literal["run", "plan"] = "run"
    """The run as Loracle would make it, or the plan that the person brought."""


class Recommendation(Fact):
    """What to do, why, and what would change it."""

    version: int = 1
    verdict: Verdict
    confidence: Confidence
    runner_up: Method | None
    candidates: tuple[Candidate, ...]
    settings: Settings
    """The winner's; for `not_yet` and `does_not_fit` those of the candidate that came nearest."""
    reasons: tuple[Reason, ...]
    """Why the verdict: gates, points, constraints, dominance."""
    settings_reasons: tuple[Reason, ...] = ()
    """Why each of `settings` is what it is; codes begin with `S_`, and the fact `setting` names the field."""
    warnings: tuple[Caution, ...]
    instead: tuple[str, ...]
    would_change: tuple[str, ...]

    def candidate(self, method: str) -> Candidate:
        """The candidate of that method."""
        return next(c for c in self.candidates if c.method == method)

    @property
    def best(self) -> Candidate:
        """The candidate the verdict names, or the one that came nearest."""
        if self.verdict in METHODS:
            return self.candidate(self.verdict)
        return nearest_of(self.candidates)
