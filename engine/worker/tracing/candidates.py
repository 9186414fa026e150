"""The steps of a recommendation's candidates, traced as the worker would take them."""

from typing import Any

from engine.prediction.stream import SHALLOW, Unlike, extended, peaks
from engine.worker.tracing import models
from engine.worker.tracing.estimate import card_of
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.own import HEADS, OwnLoop
from engine.worker.tracing.trace import Traced, trace
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.plan import Plan


def candidates(facts: Facts, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Peak and parts by method; methods whose step cannot be traced are left out."""
    card, _ = card_of(facts)
    found = {}
    for one in wanted:
        if one["task"] not in HEADS:
            continue
        try:
            segments = _segments(facts.model.config or {}, one, card)
        except (LoracleError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError):
            continue
        told = peaks(segments)
        peak = max(p["reserved" if card.kind == "cuda" else "allocated"] for p in told["phases"].values())
        reserve = {"reserve": peak - sum(told["parts"].values())} if card.kind == "cuda" else {}
        found[one["method"]] = {"peak": peak, "parts": told["parts"] | reserve}
    return {"steps": found}


def _segments(config: dict[str, Any], one: dict[str, Any], card: Card) -> Any:
    plan = _plan(one)

    def traced(layers: int | None) -> Traced:
        lengths = [one["length"]] * one["rows"]
        return trace(
            lambda live: OwnLoop(
                config, plan, live, lengths=lengths, layers=layers, workspace=card.workspace, pieces=one["pieces"]
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
