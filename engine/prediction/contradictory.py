"""What a step says that cannot be at once, or that no answer can count."""

import re

from engine.prediction import library
from engine.prediction.heads import head_of
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.shape import positions_of
from recommender.step import TILED, TrainingStep, version_of

_NAME = re.compile(r"[\w.-]+")
WITHOUT_CHOICE = ("none", "adafactor", "sgd")
"""Optimizers that keep nothing, or keep it in a type that nobody chooses."""


def check(step: TrainingStep, facts: Facts) -> None:
    """Refuse what cannot be at once.

    Raises:
        InputError: naming both sides.
    """
    wrong = _of_adapters(step) or _of_weights(step) or _of_optimizer(step) or _of_head(step, facts)
    if step.expandable_segments and facts.machine.backend == "cpu" and facts.machine.device is None:
        wrong = wrong or "expandable_segments are those of CUDA's allocator, and the machine is a CPU"
    if step.activation_offloading and facts.machine.backend == "cpu" and facts.machine.device is None:
        wrong = wrong or "activation_offloading moves what layers keep to the host's memory, and the machine is a CPU"
    if wrong is not None:
        raise InputError(f"step: {wrong}.")
    positions = positions_of(facts.model)
    if facts.model.family == "encoder" and positions is not None and step.length > positions:
        raise InputError(f"step: length is {step.length}, and the model reads {positions} tokens at most.")


def _of_weights(step: TrainingStep) -> str | None:
    """Types and devices that cannot be together."""
    four_bit = step.quantization in ("nf4", "fp4")
    if step.method == "full" and (four_bit or step.quantization == "int8"):
        bits = "4-bit" if four_bit else "8-bit"
        return f"method full trains every weight, and {bits} weights (quantization {step.quantization}) cannot be trained"
    if step.method == "full" and step.kbit_prepared:
        return "method full trains on unquantised weights, and kbit_prepared is for quantised ones"
    if step.method == "lora" and four_bit:
        return f"LoRA on a 4-bit base is method qlora; here method is lora and quantization {step.quantization}"
    if step.method == "qlora" and step.quantization == "none":
        return "method qlora needs a 4-bit base, and quantization is none"
    if step.double_quantization and (step.method != "qlora" or step.quantization == "int8"):
        has = "quantization int8" if step.quantization == "int8" else f"method {step.method}"
        return f"double_quantization divides the scales of 4-bit weights, and {has} has none"
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
    unnamed = [not (t.strip(".") and _NAME.fullmatch(t)) for t in step.trained or ()]  # peft reads them as patterns
    if step.trained is not None and all(unnamed) and not step.adapters:
        return "trained is empty, and method full trains something"
    if any(unnamed):
        return f"trained is {step.trained}, and every part has a name of letters, digits and dots"
    head = step.head or head_of(facts)
    if step.loss == "fused" and head in ("classification", "tagging"):
        return f"loss fused is that of a vocabulary's logits, and head is {head}"
    if step.loss == "chunked_nll" and head != "causal_lm":
        own = f" (trl is {step.trl})" if step.trl else ""  # which has it where no loss was told
        return f"loss chunked_nll is TRL's of the next token{own}, and head is {head}"
    if step.loss == "chunked_nll" and step.kernels == "liger" and not (step.trl and version_of(step.trl) >= TILED):
        return "loss chunked_nll is TRL's, which refuses it with Liger's kernels, and kernels is liger"
    if step.target_length is not None and facts.model.config and not library.writes_from_texts(facts.model.config):
        return f"target_length is {step.target_length}, and such a model reads and writes in one: length holds both"
    return None


def ignored(step: TrainingStep, head: str) -> list[str]:
    """Names of what a step says and no answer can count: what is not understood, what full fine-tuning has none of, and what
    Loracle's own step chooses by itself."""
    unknown = [name for name, value in (step.model_extra or {}).items() if value is not None]
    own = {"evaluation_rows": step.evaluation_rows, "set_to_none": not step.set_to_none,
           "activation_offloading": step.activation_offloading,
           "use_reentrant": step.use_reentrant} if step.loss == "chunked" else {}
    unknown += [name for name, value in own.items() if value]
    of_maps = ("compute_dtype", "bitsandbytes") if step.method != "qlora" or step.quantization == "int8" else ()
    unknown += [name for name in of_maps if getattr(step, name)]
    unknown += ["use_reentrant"] if step.use_reentrant is not None and step.gradient_checkpointing == "none" else []
    unknown += ["optimizer_state_dtype"] if step.optimizer_state_dtype and step.optimizer in WITHOUT_CHOICE else []
    unknown += ["labels"] if step.labels and head not in ("classification", "tagging") else []
    unknown += ["label_smoothing"] if step.label_smoothing and step.loss != "plain" else []
    unknown += ["frozen_kept"] if step.frozen_kept and step.sharding != "fsdp" else []
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
    if step.momentum and named != "sgd":
        return f"momentum is SGD's, and optimizer is {named}"
    if way == "fused" and ("8bit" in named or "paged" in named or named in ("lion", "adafactor")):
        return f"optimizer {named} has kernels of its own, and optimizer_implementation is fused"
    if way == "bitsandbytes" and named in ("adamw_bf16", "adafactor", "sgd"):
        return f"optimizer {named} is not one of bitsandbytes', and optimizer_implementation is bitsandbytes"
    if kept is None or named in WITHOUT_CHOICE:
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
