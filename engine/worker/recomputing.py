"""Gradient checkpointing: activations are computed again on the way back instead of being kept."""

from typing import Any

from engine.worker.inner import inner_of


def recompute(model: Any) -> bool:
    """Switch it on; whether that changed anything. What is computed stays the same to the bit, dropout too."""
    inner = inner_of(model)
    if inner.is_gradient_checkpointing or not inner.supports_gradient_checkpointing:
        return False
    inner.gradient_checkpointing_enable({"use_reentrant": False})
    if inner is not model:
        inner.enable_input_require_grads()  # a frozen embedding's output needs no gradient, and nothing would be recomputed
    return True


def is_recomputing(model: Any) -> bool:
    """Whether it is switched on."""
    return bool(inner_of(model).is_gradient_checkpointing)
