"""What would change the verdict: each condition is tried by deciding again on changed facts, so none is a guess."""

from collections.abc import Callable, Iterator
from typing import Any

from recommender.facts import CLASSIFYING, Facts
from recommender.hyper import counted_rows
from recommender.memory import USABLE_SHARE
from recommender.reasons import sentence
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation

Decide = Callable[[Facts], Recommendation]


def flip_conditions(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """Sentences, each true of `decide`."""
    if decision.verdict == "not_yet":
        yield from _open_gates(facts, decide)
        return
    yield from _more_memory(facts, decision, decide)
    yield from _more_time(facts, decision, decide)
    yield from _less_memory(facts, decision, decide)
    variants = decide(_changed(facts, "goal", adapters_wanted=4)).verdict
    if variants in METHODS and variants != decision.verdict:
        yield sentence("flip_many_variants", {"method": METHOD_NAMES[variants]})
    if decide(_changed(facts, "goal", forgetting="high")).verdict == "lora" != decision.verdict:
        yield sentence("flip_forgetting")
    yield from _more_tokens(facts, decision, decide)


def _open_gates(facts: Facts, decide: Decide) -> Iterator[str]:
    """What would turn `not_yet` into a fine-tune."""
    counts = facts.data.label_counts
    enough = tuple(max(c, 64) for c in counts or ())
    rows = max(100, sum(enough), counted_rows(facts.data))
    more = _changed(facts, "data", rows=rows, unique_rows=rows, label_counts=enough or None)
    verdict = decide(more).verdict
    if verdict in METHODS and len(enough) != 1:
        code = "flip_more_rows" if enough else "flip_more_rows_only"
        yield sentence(code, {"method": METHOD_NAMES[verdict], "rows": rows, "smallest": 64})
    verdict = decide(_changed(facts, "data", conflict_share=0.0)).verdict
    if verdict in METHODS:
        yield sentence("flip_clean", {"method": METHOD_NAMES[verdict]})


def _more_time(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    for candidate in decision.candidates:
        hours = candidate.hours.predicted / 0.8 * 1.01
        if candidate.removed_by != "over_time_budget":
            continue
        if decide(_changed(facts, "goal", time_budget_hours=hours)).verdict == candidate.method:
            yield sentence("flip_more_time", {"method": METHOD_NAMES[candidate.method], "hours": hours})


def _more_memory(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    for candidate in decision.candidates:
        needed = int(candidate.memory.predicted / USABLE_SHARE) + 1
        if candidate.fits or needed <= candidate.memory.available:
            continue
        if decide(_with_free_memory(facts, needed)).verdict == candidate.method:
            yield sentence("flip_memory", {"method": METHOD_NAMES[candidate.method], "needed": needed})


def _less_memory(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """Below which free memory the winner, at its smallest, gives way."""
    if decision.verdict not in METHODS:
        return
    low, high = 0, decision.best.memory.available
    if decide(_with_free_memory(facts, high)).verdict != decision.verdict:
        return
    while high - low > max(high // 100, 10_000_000):
        middle = (low + high) // 2
        if decide(_with_free_memory(facts, middle)).verdict == decision.verdict:
            high = middle
        else:
            low = middle
    other = decide(_with_free_memory(facts, low)).verdict
    if other in METHODS:
        yield sentence("flip_memory_below", {"method": METHOD_NAMES[other], "needed": high})


def _more_tokens(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    if decision.verdict not in ("lora", "qlora") or (facts.data.task or "classification") in CLASSIFYING:
        return
    cap = next((r.facts["capacity_256"] for r in decision.reasons if r.code == "W3_adapter_holds_data"), None)
    if cap is None:
        return
    more = _changed(facts, "data", trained_tokens=int(cap) + 1)
    if decide(more).verdict == "full":
        yield sentence("flip_tokens_above", {"method": METHOD_NAMES["full"], "tokens": cap})


def _with_free_memory(facts: Facts, free: int) -> Facts:
    machine = facts.machine
    if machine.device is not None:
        devices = tuple(
            d.model_copy(update={"memory_free": free, "memory_total": max(d.memory_total or 0, free)})
            for d in machine.devices
        )
        return _changed(facts, "machine", devices=devices)
    return _changed(facts, "machine", ram_available=free)


def _changed(facts: Facts, part: str, **update: Any) -> Facts:
    return facts.model_copy(update={part: getattr(facts, part).model_copy(update=update)})
