"""The steps of a recommendation's candidates, traced as the worker would take them."""

from typing import Any

from engine.prediction.deeper import SHALLOW, Unlike, extended
from engine.prediction.stream import peaks
from engine.worker.tracing import models
from engine.worker.tracing.estimate import ALLOCATED, RESERVED, card_of, learned_share, parts_by_phase
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.own import HEADS, OwnLoop
from engine.worker.tracing.trace import Traced, trace
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.plan import Plan


def candidates(facts: Facts, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Peak, its interval and its parts by method; methods whose step cannot be traced are left out.

    Of a text that is learned in part the point has the share that the data have on average, the upper end all of it.
    """
    card, _ = card_of(facts)
    held = "reserved" if card.kind == "cuda" else "allocated"
    found = {}
    for one in wanted:
        if one["task"] not in HEADS:
            continue
        try:
            told = peaks(_segments(facts, one, card))
            most = told if learned_share(facts) == 1 else peaks(_segments(facts, one, card, learned=1.0))
        except (LoracleError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError):
            continue
        allocated, kept, fullest = _most(told, "allocated"), _most(told, held), _most(most, held)
        reserve = {"reserve": kept - sum(told["parts"].values())} if card.kind == "cuda" else {}
        margin = RESERVED if card.kind == "cuda" else ALLOCATED
        found[one["method"]] = {
            "peak": kept,
            "low": int(ALLOCATED[0] * allocated),
            "high": int(margin[1] * fullest),
            "parts": told["parts"] | reserve,
            "phases": parts_by_phase(told),
        }
    return {"steps": found}


def _most(told: dict[str, Any], which: str) -> int:
    return int(max(p[which] for p in told["phases"].values()))


def _segments(facts: Facts, one: dict[str, Any], card: Card, learned: float | None = None) -> Any:
    plan, config = _plan(one), facts.model.config or {}
    share = learned_share(facts) if learned is None else learned

    def traced(layers: int | None) -> Traced:
        lengths = [one["length"]] * one["rows"]
        return trace(
            lambda live: OwnLoop(
                config,
                plan,
                live,
                lengths=lengths,
                layers=layers,
                workspace=card.workspace,
                pieces=one["pieces"],
                learned=share,
            ),
            card,
        )

    built = models.config_of(config)
    depth = models.depth_of(built)
    if depth > SHALLOW[1] + 1 and models.extendable(built):
        try:
            return extended(traced(SHALLOW[0]).segments, traced(SHALLOW[1]).segments, depth)
        except Unlike:
            pass
    return traced(None).segments


def _plan(one: dict[str, Any]) -> Plan:
    own = {name: value for name, value in one["settings"].items() if name in Plan.model_fields and name != "metric"}
    labels = [f"label {i}" for i in range(one["labels"])] if HEADS[one["task"]] != "causal_lm" else []
    data = {"train": "traced", "labels": labels}
    return Plan.model_validate({"model": {"id": "traced"}, "data": data, "task": one["task"], "method": one["method"], **own})
