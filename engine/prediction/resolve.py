"""From a step with open questions to steps without: what is not known takes its usual value, and the other one is tried too."""

from dataclasses import dataclass, field
from typing import Any

from engine.prediction import library
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.shape import positions_of
from recommender.step import TrainingStep

HEADS = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "token_classification": "tagging",
}
OWN_WORDS = ("outputs_rebound", "kernels")
"""Choices that nobody's facts name (facts.md): both values are traced, and no answer lists them as assumed."""
SHORT = 8
"""What is written may be as long as what is read, or so many times shorter."""
_BY_ARCHITECTURE = (
    ("SequenceClassification", "classification"),
    ("TokenClassification", "tagging"),
    ("MaskedLM", "masked_lm"),
    ("CausalLM", "causal_lm"),
    ("LMHeadModel", "causal_lm"),
)


@dataclass(slots=True)
class Resolved:
    """A step whose every choice is known, and what it could be as well."""

    step: TrainingStep
    others: dict[str, TrainingStep] = field(default_factory=dict)
    """By the choice that is not known: the same step with its other value."""
    assumed: list[str] = field(default_factory=list)


def resolved(facts: Facts) -> Resolved:
    """The step of the facts, completed.

    Raises:
        InputError: it contradicts itself or the model.
    """
    step = facts.step
    assert step is not None
    check(step, facts)
    found: dict[str, Any] = {}
    other: dict[str, Any] = {}
    assumed: list[str] = []

    def take(name: str, value: Any, instead: Any = None) -> None:
        if getattr(step, name) is None and name not in found:
            found[name] = value
            if name not in OWN_WORDS:
                assumed.append(name)
            if instead is not None:
                other[name] = instead

    if step.head is None:
        found["head"] = head_of(facts)
    take("padded", False, True)
    if step.base_dtype is None:
        declared = facts.model.dtype
        usual = declared if declared in ("float32", "bfloat16", "float16") and step.adapters else None
        take("base_dtype", usual or ("bfloat16" if step.adapters else "float32"))
    take("gradient_checkpointing", "none", "layer")
    take("attention", "flash")
    if step.optimizer in ("adamw", "adamw_bf16", "sgd"):
        here = facts.machine.device is None and facts.machine.backend == "cpu"
        usually = ("fused", "foreach") if step.loss == "chunked" else ("single" if here else "foreach", "fused")
        take("optimizer_implementation", *usually)
    if step.loss == "plain":
        take("outputs_held", True, False)
    if step.outputs_held is not False and step.loss == "plain":
        take("outputs_rebound", False, True)
    if step.loss == "fused":
        take("kernels", "liger", "usual")
    if (step.head or found["head"]) == "causal_lm" and library.writes_from_texts(facts.model.config or {}):
        known, learned = facts.data.tokens_total, facts.data.trained_tokens
        if known and learned:
            found["target_length"] = step.target_length or max(round(min(learned / known, 1.0) * step.length), 1)
        take("target_length", step.length, max(step.length // SHORT, 1))
    if step.adapters:
        take("rank", 16)
        take("adapter_dtype", "float32", "bfloat16")
        take("lora_dropout", 0.0, 0.05)
        take("target_modules", "all-linear")
    if step.method == "qlora":
        found["quantization"] = step.quantization or "nf4"
        take("double_quantization", True, False)
        take("kbit_prepared", True, False)
    whole = step.model_copy(update=found)
    others = {name: whole.model_copy(update={name: value}) for name, value in other.items()}
    return Resolved(whole, others, assumed)


def head_of(facts: Facts) -> str:
    """The head that a step has which does not say it: that of the task, or of the model's class."""
    if facts.data.task is not None:
        return HEADS.get(facts.data.task, "causal_lm")
    named = [facts.model.architecture or "", *((facts.model.config or {}).get("architectures") or [])]
    return next((head for name in named for part, head in _BY_ARCHITECTURE if part in str(name)), "causal_lm")


def check(step: TrainingStep, facts: Facts) -> None:
    """Refuse what cannot be at once.

    Raises:
        InputError: naming both sides.
    """
    four_bit = step.quantization in ("nf4", "fp4")
    wrong = None
    if step.method == "full" and four_bit:
        wrong = f"method full trains every weight, and 4-bit weights (quantization {step.quantization}) cannot be trained"
    elif step.method == "full" and step.rank is not None:
        wrong = f"method full has no adapters, and rank is {step.rank}"
    elif step.method == "full" and step.kbit_prepared:
        wrong = "method full trains on unquantised weights, and kbit_prepared is for quantised ones"
    elif step.method == "lora" and four_bit:
        wrong = f"LoRA on a 4-bit base is method qlora; here method is lora and quantization {step.quantization}"
    elif step.method == "qlora" and step.quantization == "none":
        wrong = "method qlora needs a 4-bit base, and quantization is none"
    elif step.sharding not in (None, "none") and step.devices == 1:
        wrong = f"sharding {step.sharding} divides over several devices, and devices is 1"
    elif step.autocast == "float32" and step.base_dtype in ("bfloat16", "float16"):
        wrong = f"autocast to float32 does nothing to weights in {step.base_dtype}"
    elif step.optimizer_implementation == "fused" and step.optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        wrong = f"optimizer {step.optimizer} has kernels of its own, and optimizer_implementation is fused"
    if wrong is not None:
        raise InputError(f"step: {wrong}.")
    positions = positions_of(facts.model)
    if facts.model.family == "encoder" and positions is not None and step.length > positions:
        raise InputError(f"step: length is {step.length}, and the model reads {positions} tokens at most.")
