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


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Within it the module is in evaluation mode; then it is as it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
