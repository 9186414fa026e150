"""Settings as people write them, under the names that the common tools use, brought to one set of names."""

import math
from collections.abc import Mapping
from typing import Any

ALIASES: dict[str, tuple[str, ...]] = {
    "epochs": ("epochs", "num_train_epochs", "num_epochs", "n_epochs", "max_epochs"),
    "learning_rate": ("learning_rate", "lr"),
    "warmup_steps": ("warmup_steps", "num_warmup_steps", "lr_warmup_steps"),
    "warmup_ratio": ("warmup_ratio", "warmup_proportion"),
    "total_steps": ("total_steps", "max_steps", "num_training_steps"),
    "max_length": ("max_length", "max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "block_size", "model_max_length"),
    "rank": ("rank", "r", "lora_r", "lora_rank"),
    "alpha": ("alpha", "lora_alpha"),
    "target_modules": ("target_modules", "lora_target_modules", "lora_target"),
    "method": ("method", "finetuning_type", "adapter"),
    "precision": ("precision",),
    "dtype": ("torch_dtype", "dtype", "load_dtype"),
    "metric": ("metric", "metric_for_best_model"),
    "label_smoothing": ("label_smoothing", "label_smoothing_factor"),
    "modules_to_save": ("modules_to_save", "additional_target"),
    "bias_correction": ("bias_correction", "correct_bias", "bias_corrected"),
    "compile": ("compile", "torch_compile"),
    "seeds": ("seeds", "seed"),
    "rslora": ("rslora", "use_rslora"),
    "padding": ("padding", "pad_to_max_length", "pad_to_sequence_len"),
}
AS_THEY_ARE = (
    "early_stopping", "train_head", "rows", "fp16", "task_type", "class_weights", "preference_beta", "dropout",
    "optimizer",
)  # fmt: skip
"""Settings that everybody calls the same."""
BATCH_WHOLE = ("effective_batch", "global_batch_size", "total_batch_size")
"""Names that mean all rows of a step, accumulation and devices included."""
BATCH = ("batch_size", "train_batch_size")
BATCH_EACH = ("per_device_train_batch_size", "micro_batch_size", "per_gpu_train_batch_size", "train_micro_batch_size_per_gpu")
ACCUMULATION = ("gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches")

MIXED = {"fp16": "fp16-mixed", "bf16": "bf16-mixed", "no": "fp32"}
"""What accelerate's `mixed_precision` means."""


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under Loracle's names; what is not understood is left out, and nested groups (`lora: {r: 8}`) are opened."""
    flat = _flat(settings)
    found = {name: next((flat[a] for a in given if flat.get(a) is not None), None) for name, given in ALIASES.items()}
    found["effective_batch"] = _batch(flat)
    found["method"] = _method(flat, found)
    found["precision"] = found["precision"] or MIXED.get(str(flat.get("mixed_precision")).lower())
    found["kernels"] = "liger" if flat.get("use_liger_kernel") is True or flat.get("kernels") == "liger" else None
    for name in AS_THEY_ARE:
        found[name] = flat.get(name)
    if found["early_stopping"] is None:
        found["early_stopping"] = number(flat, "early_stopping_patience") is not None or None
    if isinstance(found["padding"], bool):
        packed = flat.get("sample_packing") is True or flat.get("packing") is True
        whole = flat.get("pad_to_max_length") is True or (flat.get("pad_to_sequence_len") is True and not packed)
        found["padding"] = "max_length" if whole else None
    warmup = number(found, "warmup_steps")
    if warmup is not None and warmup < 1:  # a share of the run, as transformers takes it
        found["warmup_steps"], found["warmup_ratio"] = None, found["warmup_ratio"] or warmup
    if number(found, "total_steps") is None:
        found["total_steps"] = None  # max_steps: -1 means as many as the epochs make
    return {name: value for name, value in found.items() if value is not None}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One level of groups opened; a name outside of a group wins."""
    flat: dict[str, Any] = {}
    for value in settings.values():
        if isinstance(value, Mapping):
            flat |= {str(k): v for k, v in value.items() if not isinstance(v, Mapping)}
    return flat | {str(k): v for k, v in settings.items() if not isinstance(v, Mapping)}


def _batch(flat: Mapping[str, Any]) -> float | None:
    """Rows of one optimizer step."""
    whole = next((n for a in BATCH_WHOLE if (n := number(flat, a)) is not None), None)
    if whole is not None:
        return whole
    base = next((n for a in (*BATCH, *BATCH_EACH) if (n := number(flat, a)) is not None), None)
    if base is None:
        return None
    times = next((n for a in ACCUMULATION if (n := number(flat, a)) is not None), 1)
    return base * times * (number(flat, "world_size") or number(flat, "num_gpus") or 1)


def _method(flat: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    named = str(found["method"]).lower() if isinstance(found["method"], str) else None
    quantised = flat.get("load_in_4bit") is True or flat.get("quantization_bit") == 4
    if named == "lora" and quantised:
        return "qlora"
    if named in ("full", "lora", "qlora"):
        return named
    if number(found, "rank") is not None or flat.get("use_peft") is True or flat.get("use_lora") is True:
        return "qlora" if quantised else "lora"
    return None


def number(settings: Mapping[str, Any], name: str) -> int | float | None:
    """A positive number of that name and of a sane size; a brought plan may hold anything, `"2e-5"` in quotes too."""
    value = settings.get(name)
    if isinstance(value, str) and len(value) < 30:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 1e-15 < value < 1e15:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value
