"""Gradient checkpointing: activations are computed again on the way back instead of being kept."""

from typing import Any


def recompute(model: Any) -> bool:
    """Switch it on; whether that changed anything. What is computed stays the same to the bit, dropout too."""
    inner, adapted = _inner(model), hasattr(model, "peft_config")
    if inner.is_gradient_checkpointing or not inner.supports_gradient_checkpointing:
        return False
    inner.gradient_checkpointing_enable({"use_reentrant": False})
    if adapted:
        inner.enable_input_require_grads()  # a frozen embedding's output needs no gradient, and nothing would be recomputed
    return True


def is_recomputing(model: Any) -> bool:
    """Whether it is switched on."""
    return bool(_inner(model).is_gradient_checkpointing)


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model
