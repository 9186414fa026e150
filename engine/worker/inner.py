"""A loaded model: what lies within what peft puts around it, and reading with it for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any


def inner_of(model: Any) -> Any:
    """The model itself, without what peft puts around it; adapters stay within."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def body_of(model: Any) -> Any:
    """The part between ids and hidden states, adapters within."""
    inner = inner_of(model)
    return getattr(inner, inner.base_model_prefix)


def turns_at(model: Any) -> int | None:
    """Tokens above which a model reads all rows of a pass with other positions than shorter ones alone (longrope, as Phi's have
    it); `None` where a row's positions do not depend on its neighbours."""
    told = getattr(inner_of(model).config.get_text_config(), "rope_parameters", None) or {}
    kinds = [told, *(own for own in told.values() if isinstance(own, dict))]  # of all layers, or of each kind of them
    found = (own.get("original_max_position_embeddings") for own in kinds if own.get("rope_type") == "longrope")
    return next((int(tokens) for tokens in found if tokens), None)


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Within it the module is in evaluation mode; then it is as it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
