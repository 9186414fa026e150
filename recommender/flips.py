"""What would change the verdict: each condition is tried by deciding again on changed facts, so none is a guess."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from recommender.candidates import hours_needed
from recommender.counting import distinct_rows, is_labelled
from recommender.facts import Facts
from recommender.figures import size
from recommender.memory import place
from recommender.reasons import sentence
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation
from recommender.shape import shape_of
from recommender.traced import note_shown
from recommender.variants import step_of

Decide = Callable[[Facts], Recommendation]


MORE = (1.0, 1.05, 1.1, 1.2, 1.4, 1.7)
"""Times the memory in which a method just fits, that are tried for one that scores higher: at first it fits with a lower rank or
shorter texts, and loses for that."""
LEAST_MEMORY, FINE = 10_000_000, 1.02
"""Bytes of free memory below which none is tried, and from one that is tried to the next."""


def flip_conditions(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """Sentences, each true of `decide`."""
    if decision.verdict == "not_yet":
        yield from _open_gates(facts, decide)
        return
    yield from _more_memory(facts, decision, decide)
    yield from _more_disk(facts, decision, decide)
    yield from _more_time(facts, decision, decide)
    yield from _all_layers(facts, decision, decide)
    yield from _less_memory(facts, decision, decide)
    if facts.goal.adapters_wanted < 4:
        variants = decide(facts.changed("goal", adapters_wanted=4)).verdict
        if variants in METHODS and variants != decision.verdict:
            yield sentence("flip_many_variants", {"method": METHOD_NAMES[variants]})
    yield from _without_wishes(facts, decision, decide)
    if facts.goal.forgetting != "high":
        careful = decide(facts.changed("goal", forgetting="high")).verdict
        if careful in METHODS and careful != decision.verdict:
            yield sentence("flip_forgetting", {"method": METHOD_NAMES[careful]})
    yield from _more_tokens(facts, decision, decide)


def _open_gates(facts: Facts, decide: Decide) -> Iterator[str]:
    """What would turn `not_yet` into a fine-tune."""
    yield from _more_rows(facts, decide)
    verdict = decide(facts.changed("data", conflict_share=0.0)).verdict
    if verdict in METHODS:
        yield sentence("flip_clean", {"method": METHOD_NAMES[verdict]})
    if facts.goal.purpose == "knowledge":
        verdict = decide(facts.changed("goal", purpose="task")).verdict
        if verdict in METHODS:
            yield sentence("flip_behaviour", {"method": METHOD_NAMES[verdict]})


def _more_rows(facts: Facts, decide: Decide) -> Iterator[str]:
    """How many rows would do, in all and of each class."""
    data = facts.data
    counts, several = data.label_counts, data.task == "multi_label"
    kept = distinct_rows(data) / max(sum(counts or ()), 1)
    enough = tuple(max(int(c * min(kept, 1.0)), 64) for c in counts or ())
    wanted = max(enough, default=0) if several else sum(enough)  # a text may have several labels
    rows = max(100, wanted, 64 * (data.classes or 0) if counts is None else 0, distinct_rows(data))
    cleared = {"label_counts": enough or None, "near_duplicate_share": None, "duplicate_share": None}

    def with_rows(number: int) -> Facts:
        return facts.changed("data", rows=number, unique_rows=number, **cleared)

    verdict = decide(with_rows(rows)).verdict
    if verdict in METHODS and not enough and not is_labelled(data):  # where rows alone decide, the fewest of them
        too_few = distinct_rows(data)
        while rows - too_few > 1:
            middle = (too_few + rows) // 2
            found = decide(with_rows(middle)).verdict
            if found in METHODS:
                rows, verdict = middle, found
            else:
                too_few = middle
    if verdict in METHODS and len(enough) != 1 and (several or rows > distinct_rows(data)):
        code = "flip_more_of_each" if several and enough else "flip_more_rows" if enough else "flip_more_rows_only"
        yield sentence(code, {"method": METHOD_NAMES[verdict], "rows": rows, "smallest": 64})


def _without_wishes(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """What it would be had the person not asked for more than a model for the task."""
    goal = facts.goal
    wishes: list[tuple[bool, str, dict[str, Any]]] = [
        (goal.ship_in_4_bit, "flip_not_4_bit", {"ship_in_4_bit": False}),
        (goal.forgetting == "high", "flip_forgetting_low", {"forgetting": "low"}),
        (goal.adapters_wanted > 1, "flip_one_variant", {"adapters_wanted": 1}),
    ]
    for wished, code, without in wishes:
        if wished:
            verdict = decide(facts.changed("goal", **without)).verdict
            if verdict in METHODS and verdict != decision.verdict:
                yield sentence(code, {"method": METHOD_NAMES[verdict]})


def _more_time(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    for candidate in decision.candidates:
        hours = hours_needed(candidate)
        if candidate.removed_by != "over_time_budget" or hours > 1e6:
            continue
        if decide(facts.changed("goal", time_budget_hours=hours)).verdict == candidate.method:
            yield sentence("flip_more_time", {"method": METHOD_NAMES[candidate.method], "hours": hours})


def _all_layers(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """Where time alone kept full fine-tuning from training all layers: how long that would take."""
    if facts.goal.time_budget_hours is None or decision.candidate("full").settings.trained != "last_layers":
        return
    unhurried = decide(facts.changed("goal", time_budget_hours=None))
    hours = hours_needed(unhurried.candidate("full"))
    if unhurried.verdict == "full" and unhurried.settings.trained == "all" and hours <= 1e6:
        yield sentence("flip_all_layers", {"hours": hours})


def _more_memory(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    for candidate in decision.candidates:
        least = place(facts, shape_of(facts.model, facts.data.task), step_of(facts, candidate.method, candidate.settings)).room
        if candidate.removed_by != "does_not_fit" or least <= candidate.memory.available:
            continue
        tried = MORE if candidate.points > decision.best.points else MORE[:1]
        amounts = (int(times * least) for times in tried)
        needed = next((n for n in amounts if decide(_with_free_memory(facts, n)).verdict == candidate.method), None)
        if needed is not None:
            code = "flip_memory_each" if candidate.devices > 1 else "flip_memory"
            if not _is_counted(_with_free_memory(facts, needed), decide):
                code = "flip_more_memory"
            yield sentence(code, {"method": METHOD_NAMES[candidate.method], "needed": needed})


def _is_counted(facts: Facts, decide: Decide) -> bool:
    """Whether the step that decides these facts is counted, so that bytes can be told of it; it is noted where it is not."""
    best = decide(facts).best
    if not best.memory.counted:
        note_shown(step_of(facts, best.method, best.settings))
    return best.memory.counted


def _more_disk(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    for candidate in decision.candidates:
        if candidate.removed_by != "no_disk":
            continue
        if decide(facts.changed("machine", disk_free=candidate.disk)).verdict == candidate.method:
            yield sentence("flip_disk", {"method": METHOD_NAMES[candidate.method], "needed": candidate.disk})


def _less_memory(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    """Below which free memory the winner, at its smallest, gives way."""
    if decision.verdict not in METHODS:
        return
    available = decision.best.memory.available

    def holds(memory: int) -> bool:
        return decide(_with_free_memory(facts, memory)).verdict == decision.verdict

    if not holds(available):
        return
    # On a scale of its own, so that the figure is the same whatever is free now.
    below = -1
    above = first = int(math.log(max(available / LEAST_MEMORY, 1)) / math.log(FINE)) + 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if holds(_on_scale(middle)) else (middle, above)
    high = available if above == first else _on_scale(above)
    low = _on_scale(below) if below >= 0 else 0
    with_less = decide(_with_free_memory(facts, low))
    other = with_less.verdict
    if other in METHODS:
        code = "flip_memory_below_each" if decision.best.devices > 1 else "flip_memory_below"
        if size(high) == size(decision.best.memory.available):
            code = "flip_memory_any"
        if not _is_counted(_with_free_memory(facts, high), decide):
            code = "flip_less_memory"
        there, best = decision.candidate(other).memory, decision.best
        larger = there.counted and there.predicted >= best.memory.predicted  # with the micro-batches of the table
        if code == "flip_memory_below" and larger and with_less.candidate(best.method).removed_by == "does_not_fit":
            code = "flip_memory_below_cut"
        yield sentence(code, {"method": METHOD_NAMES[other], "needed": high, "best": METHOD_NAMES[decision.verdict]})


def _on_scale(place: int) -> int:
    return int(LEAST_MEMORY * FINE**place)


def _more_tokens(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[str]:
    if decision.verdict not in ("lora", "qlora") or is_labelled(facts.data):
        return
    cap = next((r.facts["capacity_256"] for r in decision.reasons if r.code == "W3_adapter_holds_data"), None)
    if cap is None:
        return
    more = facts.changed("data", trained_tokens=min(int(cap) + 1, 10**18))
    if decide(more).verdict == "full":
        yield sentence("flip_tokens_above", {"method": METHOD_NAMES["full"], "tokens": cap})


def _with_free_memory(facts: Facts, free: int) -> Facts:
    """Every device with that much free, and with as much memory at least."""
    machine = facts.machine
    if machine.device is None:
        return facts.changed("machine", ram_available=free)
    devices = tuple(
        d.model_copy(update={"memory_free": free, "memory_total": max(d.memory_total or 0, free)}) for d in machine.devices
    )
    ram = free if machine.backend == "mps" else machine.ram_available
    return facts.changed("machine", devices=devices, ram_available=ram)
