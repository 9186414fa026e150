"""Heads that read a row's first token: the last layer is computed for those tokens only.

Nobody reads what an encoder's last layer says of the other tokens when its head looks at the first, as BERT's and most of its
descendants' do. That layer then needs their keys and values; its queries, the product after attention, norms and feed-forward
are computed for one token a row. Nothing that is learned changes: other tokens' gradients there were zero.
"""

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.worker.inner import evaluating

KEYS_AND_VALUES = (("key", "value"), ("k_lin", "v_lin"))
"""What families call the two products whose outputs all tokens keep."""


UNFIT = (TypeError, ValueError, AttributeError, RuntimeError, IndexError, KeyError)
"""What models raise that are made otherwise."""


def possible(inner: Any, body: Any) -> bool:
    """Whether the model is made so; that its head reads first tokens only is for two passes over the same rows to prove."""
    fitting = AutoModelForSequenceClassification._model_mapping.get(type(inner.config), ())
    layer = _last_of(body)
    try:
        return isinstance(inner, fitting) and layer is not None and _multiplies_its_input(layer, inner)
    except UNFIT:
        return False


def _last_of(body: Any) -> Any:
    layers = [m for m in body.modules() if isinstance(m, GradientCheckpointingLayer)]
    return layers[-1] if layers else None


def _multiplies_its_input(layer: Any, inner: Any) -> bool:
    """Whether keys and values are products of what the layer is given, and not of what a norm makes of it first."""
    apart = [found for found in map(_products, layer.modules()) if found is not None]
    if len(apart) != 1:
        return False
    seen: list[torch.Tensor] = []
    hooks = [product.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for product in apart[0]]
    given = torch.zeros(1, 2, inner.config.hidden_size, device=next(inner.parameters()).device, dtype=inner.dtype)
    try:
        with evaluating(layer), torch.no_grad():
            layer(given)
    finally:
        for hook in hooks:
            hook.remove()
    return len(seen) == len(hooks) and all(x is given for x in seen)


def _products(attending: Any) -> tuple[Any, Any] | None:
    """An attention's modules for keys and values."""
    for names in KEYS_AND_VALUES:
        key, value = (getattr(attending, name, None) for name in names)
        if isinstance(key, torch.nn.Module) and isinstance(value, torch.nn.Module):
            return key, value
    return None


def put_in(inner: Any, body: Any, unread: float) -> None:
    """Have the model ask its body, which `unpadded.switch` has switched, for first tokens only; other places hold `unread`."""
    undo(inner, body)
    layer = _last_of(body)
    inner.forward = _asking(inner.forward, unread)
    layer.forward = _narrow(layer.forward)


def undo(inner: Any, body: Any) -> None:
    """Leave both as they were."""
    for module in (inner, _last_of(body)):
        module.__dict__.pop("forward", None)


def _asking(usual: Any, unread: float) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return usual(*args, **kwargs, unread=unread)

    return forward


def _narrow(usual: Any) -> Any:
    def forward(hidden_states: torch.Tensor, *args: Any, read: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if read is None:
            return usual(hidden_states, *args, **kwargs)
        return usual(hidden_states.index_select(1, read), *args, read=read, whole=hidden_states, **kwargs)

    return forward


def keys_and_values(attending: Any, whole: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of all tokens, each (1, heads, T, width), of `whole`, (1, T, hidden), what the layer was given.

    Raises:
        ValueError: the module has no products for them.
    """
    found = _products(attending)
    if found is None:
        raise ValueError(f"{type(attending).__name__} has no keys and values apart")
    key, value = (product(whole).unflatten(-1, (-1, width)).transpose(1, 2) for product in found)
    return key, value
