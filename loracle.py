"""Loracle for Python: `inspect`, `recommend`, `plan`, `start`, `attach`, `Plan`, `LoracleError`.

    import loracle

    facts = loracle.inspect(model="bert-base-uncased", data="reviews.csv")     # no weights are downloaded
    print(loracle.recommend(facts).verdict)

    plan = loracle.plan("bert-base-uncased", "reviews.csv", settings={"epochs": 3})
    run = loracle.start(plan, runs="runs")                                     # a process of its own
    if run.wait().status == "done":
        print(run.report()["scores"]["after"])

What cannot be done raises a `LoracleError` with one sentence. Nothing is imported before it is used, and torch never.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.inspect import inspect as inspect
    from engine.runs import attach as attach
    from engine.scripting import plan as plan
    from engine.scripting import start as start
    from recommender.decide import recommend as recommend
    from recommender.errors import LoracleError as LoracleError
    from recommender.plan import Plan as Plan

_HOMES = {
    "inspect": ("engine.inspect", "inspect"),
    "recommend": ("recommender.decide", "recommend"),
    "plan": ("engine.scripting", "plan"),
    "start": ("engine.scripting", "start"),
    "attach": ("engine.runs", "attach"),
    "Plan": ("recommender.plan", "Plan"),
    "LoracleError": ("recommender.errors", "LoracleError"),
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loracle' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
