"""What would help where nothing can run, by what stands in the way, the gentlest remedy first; and where it would take long."""

from collections.abc import Iterator

from recommender import hyper, timing
from recommender.candidates import TIME_SHARE, hours_needed
from recommender.counting import counted_rows, rows_of
from recommender.facts import DataFacts, Facts
from recommender.flips import Decide
from recommender.memory import place, usable_count
from recommender.reasons import caution, sentence
from recommender.recommendation import METHOD_NAMES, METHODS, Candidate, Caution, Method, Recommendation
from recommender.shape import Shape
from recommender.variants import step_of

SHORTER = (131_072, 98_304, 65_536, 49_152, 32_768, 24_576, 16_384, 12_288, 8192, 4096, 2048, 1024, 512, 256, 128)
"""Lengths tried where the wanted one does not fit, in tokens."""
OWN_SHARE = 0.96
"""Of a card's memory, what is free when nobody uses it."""


NIGHT = 8.0
"""Hours that a run may take without a word about it."""
LEAST_ROWS = 200
"""Fewer are not worth advising."""
LEAST_SHARE = 0.02
"""Of the model's parameters; below it no estimate by scaling is worth naming."""
TRIES = 6
"""Subsets that are decided on, each smaller than the last: fewer rows train more passes, so hours do not fall with them."""


def instead(facts: Facts, shape: Shape, decision: Recommendation, decide: Decide) -> tuple[str, ...]:
    """Sentences, in the order in which one would try them; that fewer rows are enough was found by deciding on them."""
    candidates: dict[Method, Candidate] = {c.method: c for c in decision.candidates}
    causes = {c.removed_by for c in candidates.values()}
    advice: list[str] = []
    if "over_time_budget" in causes:
        late = [c for c in candidates.values() if c.removed_by == "over_time_budget"]
        advice += _against_time(facts, shape, min(late, key=lambda c: c.hours.predicted), decide)
    if "no_disk" in causes or "no_hub_disk" in causes:
        advice.append(sentence("instead_disk", {"needed": _disk(facts, shape, candidates)}))
    quantised = candidates["qlora"]
    room = place(facts, shape, step_of(facts, "qlora", quantised.settings)).fits
    if quantised.removed_by == "no_nf4" and room and facts.machine.backend in ("cuda", "rocm", "xpu"):
        code = "instead_nf4" if quantised.memory.counted else "instead_nf4_uncounted"
        advice.append(sentence(code, {"needed": quantised.memory.predicted}))
    if "does_not_fit" in causes and "over_time_budget" not in causes:  # else something fits into the memory, only not the time
        advice += _against_memory(facts, shape, candidates)
        quickest = min(candidates.values(), key=lambda c: c.hours.predicted)
        budget = facts.goal.time_budget_hours
        if budget is not None and quickest.hours.predicted > TIME_SHARE * budget:  # what fits then would still take too long
            advice += _against_time(facts, shape, quickest, decide)
    if "no_nf4" in causes and facts.model.quantization:
        advice.append(sentence("instead_original"))
    return tuple(dict.fromkeys(advice)) or (sentence("instead_smaller_time", {"hours": 1.0}),)


def takes_long(facts: Facts, candidate: Candidate) -> bool:
    """Whether that runs longer than a night, and nobody has said how long it may."""
    return facts.goal.time_budget_hours is None and candidate.hours.predicted > NIGHT


def sooner(facts: Facts, decision: Recommendation, decide: Decide) -> Iterator[Caution]:
    """That the run advised takes long, and what would be done by the morning."""
    best, raw = decision.best, facts.data.task == "continued_pretraining"
    if not takes_long(facts, best) or not best.fits:
        return
    known = {"hours": best.hours.predicted, "night": NIGHT}
    quicker = decide(facts.changed("goal", time_budget_hours=NIGHT))
    rows = None if raw else _rows_of_a_night(facts, best, decide)
    if quicker.verdict in METHODS:
        other = quicker.best
        wording = "slow_last_layers" if other.settings.trained == "last_layers" else "slow_method"
        yield caution("slow", wording=wording, method=METHOD_NAMES[other.method], sooner=other.hours.predicted, **known)
    elif rows is not None:
        yield caution("slow", wording="slow_rows", fewer=rows, all_rows=counted_rows(facts.data), **known)
    else:
        wording = "slow" if facts.machine.device is None else "slow_raw_text" if raw else "slow_device"
        yield caution("slow", wording=wording, **known)


def _disk(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> int:
    if any(c.removed_by == "no_disk" for c in candidates.values()):
        return min(c.disk for c in candidates.values() if c.removed_by == "no_disk")
    return facts.model.weights_bytes or 4 * shape.parameters


def _against_time(facts: Facts, shape: Shape, quickest: Candidate, decide: Decide) -> list[str]:
    """Shorter texts, a subset, a smaller model: in this order (evidence 2.2). Packing is none: no padding is paid for anyway."""
    data, settings, budget = facts.data, quickest.settings, facts.goal.time_budget_hours or 0.0
    advice = []
    if data.tokens_p50 is not None and data.tokens_p50 < 0.75 * settings.max_length:
        short = settings.model_copy(update={"max_length": hyper.rounded_length(data.tokens_p50, shape)})
        hours = timing.predict(facts, shape, quickest.method, short, quickest.devices)
        if hours.predicted <= TIME_SHARE * budget:
            advice.append(sentence("instead_shorter_time", {"tokens": data.tokens_p50, "length": settings.max_length}))
    fitting = _fewer_rows(facts, quickest, decide)
    if fitting is not None:
        advice.append(sentence("instead_subset", {"rows": fitting, "all_rows": counted_rows(data), "budget": budget}))
    advice.append(sentence("instead_smaller_time", {"hours": hours_needed(quickest)}))
    return [
        text.removeprefix("Then ").capitalize() if n == 0 and text.startswith("Then ") else text for n, text in enumerate(advice)
    ]


def _fewer_rows(facts: Facts, quickest: Candidate, decide: Decide) -> int | None:
    """How many rows finish in time with some method, by deciding on them; `None` where none that are worth it do."""
    budget, hours = TIME_SHARE * (facts.goal.time_budget_hours or 0.0), quickest.hours.predicted
    rows = counted_rows(facts.data)
    for _ in range(TRIES):
        rows = _two_digits(rows * min(budget / hours, 0.9))
        if rows < LEAST_ROWS:
            return None
        found = decide(facts.model_copy(update={"data": _subset(facts.data, rows)}))
        if found.verdict in METHODS:
            return rows
        if found.verdict != "does_not_fit":
            return None
        hours = max(found.candidate(quickest.method).hours.predicted, budget)
    return None


def _rows_of_a_night(facts: Facts, best: Candidate, decide: Decide) -> int | None:
    """How many rows take no longer, with all else as it would be decided for them."""
    hours, rows = best.hours.predicted, counted_rows(facts.data)
    for _ in range(TRIES):
        rows = _two_digits(rows * min(NIGHT / hours, 0.9))
        if rows < LEAST_ROWS:
            return None
        found = decide(facts.model_copy(update={"data": _subset(facts.data, rows)}))
        hours = found.best.hours.predicted
        if found.verdict in METHODS and hours <= NIGHT:
            return rows
    return None


def _two_digits(value: float) -> int:
    return int(float(f"{int(value):.2g}"))


def _subset(data: DataFacts, rows: int) -> DataFacts:
    """So many of the rows, repeated ones left out, the classes as they were."""
    part, of_all = rows / max(counted_rows(data), 1), rows / max(rows_of(data) or 1, 1)
    scaled = {n: round(part * v) for n in ("tokens_total", "trained_tokens") if (v := getattr(data, n)) is not None}
    counts = None if data.label_counts is None else tuple(round(of_all * c) for c in data.label_counts)
    cuts = tuple(
        c.model_copy(update={"rows_cut": round(of_all * c.rows_cut), "tokens_kept": round(part * c.tokens_kept)})
        for c in data.truncation
    )
    return data.model_copy(
        update={"rows": rows, "unique_rows": rows, "duplicate_share": None, "label_counts": counts, "truncation": cuts} | scaled
    )


def _against_memory(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> list[str]:
    least = min((c for c in candidates.values() if c.removed_by == "does_not_fit"), key=lambda c: c.memory.predicted)
    advice = []
    machine = facts.machine
    if usable_count(machine) < len(machine.devices) and machine.backend != "cpu":
        every = facts.changed("machine", usable_devices=None)
        placed = place(every, shape, step_of(every, least.method, least.settings))
        if placed.fits:
            known = {"devices": placed.devices, "method": METHOD_NAMES[least.method], "needed": placed.peak}
            code = "instead_more_devices" if placed.span is not None else "instead_more_devices_uncounted"
            advice.append(sentence(code, known))
    advice += _free_device(facts, shape, candidates)
    needed = place(facts, shape, step_of(facts, least.method, least.settings))
    smaller = _smaller(shape, least, needed.room)
    code = "instead_smaller_model_of" if smaller else "instead_smaller_model"
    code = code if needed.span is not None else "instead_smaller_model_uncounted"
    advice.append(sentence(code, {"needed": needed.room, "parameters": smaller}))
    length = least.settings.max_length
    fitting = _best_shorter(facts, shape, candidates, length)
    if fitting is not None:
        wanted = hyper.max_length_of(shape, facts.data)  # not what was cut already
        known = {"method": METHOD_NAMES[fitting[1]], "fitting": fitting[0], "length": wanted}
        advice.insert(0, sentence("instead_shorter", known))
    return advice


def _smaller(shape: Shape, least: Candidate, room: int) -> int:
    """About how many parameters a model of the same build may have, whose step fits; 0 where its size is not what is in the way.

    With all its dimensions scaled, what a token keeps grows as width times depth, the 2/3 power of the parameters.
    """
    parts = least.memory.parts
    states = sum(parts.get(name, 0) for name in ("weights", "gradients", "optimizer"))
    kept = parts.get("activations", 0)
    left = least.memory.available - max(room - states - kept, 0)
    low, high = 0.0, 1.0
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (middle, high) if states * middle + kept * middle ** (2 / 3) <= left else (low, middle)
    return int(float(f"{low * shape.parameters:.1g}")) if low > LEAST_SHARE else 0


def _free_device(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> list[str]:
    """That other programs stand in the way, where the best method would fit without them."""
    machine, device = facts.machine, facts.machine.device
    if machine.backend == "mps" or device is None or not device.memory_total or device.memory_free is None:
        return []
    own = [int(OWN_SHARE * (d.memory_total or 0)) for d in machine.devices]
    alone = tuple(
        d.model_copy(update={"memory_free": max(d.memory_free or 0, o)}) for d, o in zip(machine.devices, own, strict=True)
    )
    emptied = facts.changed("machine", devices=alone)
    tried = [c for c in candidates.values() if c.removed_by == "does_not_fit"]
    fitting = [c for c in tried if place(emptied, shape, step_of(emptied, c.method, c.settings)).fits]
    if not fitting:
        return []
    best = max(fitting, key=lambda c: c.points)
    known = {"held": device.memory_total - device.memory_free, "method": METHOD_NAMES[best.method]}
    return [sentence("instead_free_device", known)]


def _best_shorter(facts: Facts, shape: Shape, candidates: dict[Method, Candidate], length: int) -> tuple[int, Method] | None:
    """The longest texts that fit and the method with them: the best one by points that keeps at least half as much."""
    tried = [c for c in candidates.values() if c.removed_by == "does_not_fit"]
    found = [(n, c) for c in tried for n in SHORTER if n < length and _fits_at(facts, shape, c, n)]
    if not found:
        return None
    most = max(n for n, _ in found)
    best = max((pair for pair in found if 2 * pair[0] >= most), key=lambda pair: (pair[1].points, pair[0]))
    return best[0], best[1].method


def _fits_at(facts: Facts, shape: Shape, candidate: Candidate, length: int) -> bool:
    settings = candidate.settings.model_copy(update={"max_length": length, "token_budget": length})
    return place(facts, shape, step_of(facts, candidate.method, settings)).fits
