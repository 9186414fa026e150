"""Loracle for Python: `inspect`, `recommend`, `Plan`, `start`, `attach`.

    import loracle
    facts = loracle.inspect(model="bert-base-uncased", data="reviews.csv")
    print(loracle.recommend(facts).verdict)

Nothing is imported before it is used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "inspect": ("engine.inspect", "inspect"),
    "recommend": ("recommender.decide", "recommend"),
    "Plan": ("recommender.plan", "Plan"),
    "start": ("engine.runs", "start"),
    "attach": ("engine.runs", "attach"),
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loracle' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
