"""From a step with open questions to steps without: what is not known takes its usual value, and the other one is tried too."""

import re
from dataclasses import dataclass, field
from typing import Any

from engine.inspection.families import family_of
from engine.prediction import library
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.shape import positions_of
from recommender.step import PEFTS_OWN, TrainingStep

HEADS = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "token_classification": "tagging",
}
OWN_WORDS = ("outputs_rebound", "embeddings_in_fp32", "use_cache", "keys_repeated", "older_attention")
"""Choices that nobody's facts name: both values are traced, and no answer lists them as assumed."""
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
    choices = _Open(step)
    _take_head(facts, choices)
    choices.take("padded", False, True)
    _take_weights(facts, choices)
    choices.take("gradient_checkpointing", "none", "layer")
    _take_attention(choices, facts)
    _take_optimizer(facts, choices)
    _take_loss(choices)
    _take_target_length(facts, choices)
    if step.adapters:
        _take_adapters(choices)
    if step.devices > 1:
        choices.take("sharding", "ddp")
    whole = step.model_copy(update=choices.found)
    others = {name: whole.model_copy(update=changes) for name, changes in choices.others.items()}
    return Resolved(whole, others, choices.assumed)


class _Open:
    """A step's choices that are not known, as they are taken."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.found: dict[str, Any] = {}
        """The usual value of each."""
        self.others: dict[str, dict[str, Any]] = {}
        """What is changed to try the other value, where there is one."""
        self.assumed: list[str] = []

    def take(self, name: str, value: Any, instead: Any = None) -> None:
        """That value, unless the step says one; it might as well be the one `instead`."""
        if getattr(self.step, name) is None and name not in self.found:
            self.found[name] = value
            if name not in OWN_WORDS:
                self.assumed.append(name)
            if instead is not None:
                self.others[name] = {name: instead}


def _take_head(facts: Facts, choices: _Open) -> None:
    if choices.step.head is None:
        choices.found["head"] = head_of(facts)
        if _told_head(facts) is None:
            choices.assumed.append("head")


def _take_weights(facts: Facts, choices: _Open) -> None:
    """The weights' type: a frozen base is read as it is stored; what is trained may be too, or in fp32."""
    step, declared = choices.step, facts.model.dtype
    stored = declared if declared in ("float32", "bfloat16", "float16") else None
    if step.adapters:
        choices.take("base_dtype", stored or "bfloat16", "float32" if stored is None and step.method == "lora" else None)
    else:
        certain = stored == "float32" or step.autocast is not None
        choices.take("base_dtype", "float32", None if certain else stored or "bfloat16")


GROUPED = (4, 54)
"""The first version of transformers that gives torch's attention grouped keys and values as they are (sdpa_attention.py,
`use_gqa_in_sdpa`)."""
OLDER = {"opt", "gpt_neox", "gpt2"}
"""Types of models whose attention kept more (`older.py`) before the version of transformers that follows."""
TODAYS = (4, 48)


def _take_attention(choices: _Open, facts: Facts) -> None:
    step = choices.step
    if step.attention in (None, "efficient", "math"):  # FlashAttention 2 has known groups for longer
        if step.transformers is not None:
            choices.take("keys_repeated", version_of(step.transformers) < GROUPED)
        elif not step.padded and _has_groups(facts.model.config or {}):
            choices.take("keys_repeated", False, True)
    if (facts.model.config or {}).get("model_type") in OLDER:
        told, own = step.transformers, step.loss == "chunked"  # which is the engine's loss, beside what is installed
        choices.take("older_attention", told is not None and version_of(told) < TODAYS, None if told or own else True)
    if step.attention is None:
        choices.assumed.append("attention")  # torch chooses
    elif step.attention == "flash" and (step.padded or _narrows(step)):  # FlashAttention 2; or the word for torch's choice
        choices.others["attention"] = {"attention": None}


def _has_groups(config: dict[str, Any]) -> bool:
    """Whether several query heads share a key and a value."""
    text = config.get("text_config")
    of = text if isinstance(text, dict) else config
    return of.get("num_key_value_heads") not in (None, of.get("num_attention_heads"))


def _take_optimizer(facts: Facts, choices: _Open) -> None:
    """What an optimizer is like that is only named."""
    step = choices.step
    in_8_bit = "8bit" in step.optimizer
    if in_8_bit and step.optimizer_state_dtype == "float32":  # said of every optimizer; small moments are
        choices.found["optimizer_state_dtype"] = None
        choices.assumed.append("optimizer_state_dtype")
    if step.optimizer in ("adamw", "adamw_bf16", "sgd"):
        here = facts.machine.device is None and facts.machine.backend == "cpu"
        usually = ("fused", "foreach") if step.loss == "chunked" else ("single" if here else "foreach", "fused")
        choices.take("optimizer_implementation", *usually)
    elif in_8_bit:
        choices.take("embeddings_in_fp32", False, True)


def _take_loss(choices: _Open) -> None:
    """What lives beside a loss, or runs with it."""
    step = choices.step
    if step.loss == "fused":  # of logits that are there, or Liger's of the head and them, which `use_liger_kernel` puts in
        choices.take("kernels", "usual", "liger")
    if step.loss in ("plain", "as_is", "sum") or (step.loss == "fused" and step.kernels != "liger"):
        choices.take("outputs_held", True, False)
        if step.outputs_held is not False:
            choices.take("outputs_rebound", False, True)
            _take_cache(choices)


def _take_cache(choices: _Open) -> None:
    """Whether outputs that are held bring the keys and values of all tokens along, as a decoder's do by themselves. Recomputation
    has none."""
    step = choices.step
    if step.use_cache is not None or step.checkpointed or (step.head or choices.found.get("head")) != "causal_lm":
        return
    if "outputs_rebound" in choices.others:  # where they add most
        choices.others["outputs_rebound"]["use_cache"] = True
    else:
        choices.take("use_cache", False, True)


def _take_target_length(facts: Facts, choices: _Open) -> None:
    """How much a model writes that reads one text and writes another."""
    step = choices.step
    if (step.head or choices.found["head"]) != "causal_lm" or not library.writes_from_texts(facts.model.config or {}):
        return
    known, learned = facts.data.tokens_total, facts.data.trained_tokens
    if known and learned:
        choices.found["target_length"] = step.target_length or max(round(min(learned / known, 1.0) * step.length), 1)
    choices.take("target_length", step.length, max(step.length // SHORT, 1))


def _take_adapters(choices: _Open) -> None:
    """What adapters and their base are like."""
    choices.take("rank", 16)
    choices.take("adapter_dtype", "float32", "bfloat16")
    choices.take("lora_dropout", 0.0, 0.05)
    choices.take("target_modules", "all-linear", PEFTS_OWN)
    if choices.step.method == "qlora":
        choices.take("quantization", "nf4")
        choices.take("double_quantization", True, False)
        prepared = choices.step.loss != "chunked"  # which is the engine's loss, and the engine does not
        choices.take("kbit_prepared", prepared, not prepared)


def _narrows(step: TrainingStep) -> bool:
    """Whether attention gets fp32 from a model of 16 bit: the stream that k-bit preparation makes."""
    return bool(step.kbit_prepared) and step.autocast is None and step.base_dtype in ("bfloat16", "float16")


def head_of(facts: Facts) -> str:
    """The head that a step has which does not say it: that of the task, or of the model's class."""
    told = _told_head(facts)
    if told is None:
        family = facts.model.family or family_of(facts.model.config or {})
        return "classification" if family == "encoder" else "causal_lm"
    return told


def _told_head(facts: Facts) -> str | None:
    if facts.data.task is not None:
        return HEADS.get(facts.data.task, "causal_lm")
    named = [facts.model.architecture or "", *library.classes_of(facts.model.config or {})]
    return next((head for name in named for part, head in _BY_ARCHITECTURE if part in name), None)


def check(step: TrainingStep, facts: Facts) -> None:
    """Refuse what cannot be at once.

    Raises:
        InputError: naming both sides.
    """
    wrong = _of_adapters(step) or _of_weights(step) or _of_optimizer(step) or _of_head(step, facts)
    if wrong is not None:
        raise InputError(f"step: {wrong}.")
    positions = positions_of(facts.model)
    if facts.model.family == "encoder" and positions is not None and step.length > positions:
        raise InputError(f"step: length is {step.length}, and the model reads {positions} tokens at most.")


def _of_weights(step: TrainingStep) -> str | None:
    """Types and devices that cannot be together."""
    four_bit = step.quantization in ("nf4", "fp4")
    if step.method == "full" and four_bit:
        return f"method full trains every weight, and 4-bit weights (quantization {step.quantization}) cannot be trained"
    if step.method == "full" and step.kbit_prepared:
        return "method full trains on unquantised weights, and kbit_prepared is for quantised ones"
    if step.method == "lora" and four_bit:
        return f"LoRA on a 4-bit base is method qlora; here method is lora and quantization {step.quantization}"
    if step.method == "qlora" and step.quantization == "none":
        return "method qlora needs a 4-bit base, and quantization is none"
    if step.double_quantization and step.method != "qlora":
        return f"double_quantization divides the scales of 4-bit weights, and method {step.method} has none"
    if step.sharding not in (None, "none") and step.devices == 1:
        return f"sharding {step.sharding} divides over several devices, and devices is 1"
    if step.autocast == "float32" and step.base_dtype in ("bfloat16", "float16"):
        return f"autocast to float32 does nothing to weights in {step.base_dtype}"
    return None


def _of_head(step: TrainingStep, facts: Facts) -> str | None:
    """What a head cannot have, or a model."""
    named = step.target_modules
    if named is not None and not (named.strip() if isinstance(named, str) else [t for t in named if t.strip()]):
        return "target_modules is empty, and adapters stand beside some map"
    if step.trained is not None and not any(t.strip() for t in step.trained) and not step.adapters:
        return "trained is empty, and method full trains something"
    head = step.head or head_of(facts)
    if step.loss == "fused" and head in ("classification", "tagging"):
        return f"loss fused is that of a vocabulary's logits, and head is {head}"
    if step.target_length is not None and facts.model.config and not library.writes_from_texts(facts.model.config):
        return f"target_length is {step.target_length}, and such a model reads and writes in one: length holds both"
    return None


def ignored(step: TrainingStep) -> list[str]:
    """Names of what a step says and no answer can count: what is not understood, and what full fine-tuning has none of."""
    unknown = [name for name, value in (step.model_extra or {}).items() if value is not None]
    return unknown if step.adapters else [*unknown, *(n for n in ("adapter_dtype", "target_modules") if getattr(step, n))]


def _of_adapters(step: TrainingStep) -> str | None:
    """What full fine-tuning says of adapters; words that any step may carry are passed over, and told (`ignored`)."""
    said = {name: getattr(step, name) for name in ("rank", "lora_dropout", "dora")}
    if step.target_modules != "all-linear":
        said["target_modules"] = step.target_modules
    name = next((n for n, value in said.items() if value), None)
    return f"method full has no adapters, and {name} is {said[name]}" if step.method == "full" and name else None


def _of_optimizer(step: TrainingStep) -> str | None:
    """What an optimizer cannot be, or keep."""
    named, way, kept = step.optimizer, step.optimizer_implementation, step.optimizer_state_dtype
    if way == "fused" and ("8bit" in named or "paged" in named or named in ("lion", "adafactor")):
        return f"optimizer {named} has kernels of its own, and optimizer_implementation is fused"
    if way == "bitsandbytes" and named in ("adamw_bf16", "adafactor", "sgd"):
        return f"optimizer {named} is not one of bitsandbytes', and optimizer_implementation is bitsandbytes"
    if kept is None or named in ("none", "adafactor", "sgd"):
        return None
    narrow = kept in ("uint8", "int8")
    if "8bit" in named and kept == "float32":
        return None
    if narrow != ("8bit" in named):
        return f"optimizer {named} keeps moments in {'16 or 32' if narrow else '8'} bit, and optimizer_state_dtype is {kept}"
    if named == "adamw_bf16" and kept != "bfloat16":
        return f"optimizer adamw_bf16 keeps moments in bfloat16, and optimizer_state_dtype is {kept}"
    if (named in ("paged_adamw", "lion", "paged_lion") or way == "bitsandbytes") and kept != "float32" and not narrow:
        return f"bitsandbytes keeps the moments of {named} in float32, and optimizer_state_dtype is {kept}"
    return None


def version_of(told: str) -> tuple[int, ...]:
    """Of a version's name its first two numbers."""
    return tuple(int(n) for n in re.findall(r"\d+", told)[:2])
