"""`recommend`: facts in, recommendation out. Pure: no disk, no device, no network, no torch."""

import math
from typing import Any

from recommender import gates, hyper, memory
from recommender.candidates import candidate_of, dominated
from recommender.evidence import POINT_RULES, PointRule, Situation
from recommender.facts import Facts
from recommender.flips import flip_conditions
from recommender.lints import lint
from recommender.reasons import caution, reason, sentence, size
from recommender.recommendation import (
    METHOD_NAMES,
    METHODS,
    Candidate,
    Caution,
    Confidence,
    Method,
    Reason,
    Recommendation,
    Verdict,
    nearest_of,
)
from recommender.shape import Shape, counts_as_encoder, shape_of


def recommend(facts: Facts) -> Recommendation:
    """Decide between full, LoRA and QLoRA fine-tuning, or against fine-tuning, and say what would change it."""
    decision = decide(facts)
    return decision.model_copy(update={"would_change": tuple(flip_conditions(facts, decision, decide))})


def decide(facts: Facts) -> Recommendation:
    """The verdict without its flip conditions.

    The order is fixed: gates, candidates, hard constraints, dominance, points. Every step leaves its reasons.
    """
    shape = shape_of(facts.model)
    closed = gates.closed_gates(facts)
    judged = {m: candidate_of(facts, shape, m) for m in METHODS}
    candidates = {m: c for m, (c, _) in judged.items()}
    reasons: list[Reason] = [g.reason for g in closed]
    reasons += [r for _, found in judged.values() for r in found]
    situation = _situation(facts, shape, candidates["full"].fits)

    for method, why in list(dominated(facts, shape, candidates)):
        reasons.append(why)
        if candidates[method].removed_by is None:
            candidates[method] = candidates[method].model_copy(update={"removed_by": why.code})

    rules = [rule for rule in POINT_RULES if rule.applies(situation)]
    points = {m: sum(rule.points[m] for rule in rules) for m in METHODS}
    reasons += [reason(r.code, _known(r, situation), *r.sources) for r in rules]
    for method, loss, why in _slower(facts, candidates):
        points[method] -= loss
        reasons.append(why)
    candidates = {m: c.model_copy(update={"points": round(float(points[m]), 2)}) for m, c in candidates.items()}

    nearest = nearest_of(candidates.values())
    verdict: Verdict = nearest.method
    instead: tuple[str, ...] = ()
    if closed:
        verdict, instead = "not_yet", tuple(dict.fromkeys(i for g in closed for i in g.instead))
    elif not nearest.viable:
        verdict, instead = "does_not_fit", _instead(candidates)
    return Recommendation(
        verdict=verdict,
        confidence=_confidence(verdict, nearest, candidates),
        runner_up=_runner_up(nearest, candidates),
        candidates=tuple(candidates[m] for m in METHODS),
        settings=nearest.settings,
        reasons=tuple(_in_order(reasons, nearest.method)),
        warnings=tuple(_cautions(facts, shape, nearest)),
        instead=instead,
        would_change=(),
    )


def _situation(facts: Facts, shape: Shape, full_fits: bool) -> Situation:
    return Situation(
        encoder=counts_as_encoder(shape, facts.data),
        parameters=shape.parameters,
        unique_rows=hyper.counted_rows(facts.data),
        trained_tokens=hyper.trained_tokens(facts.data),
        adapter_parameters_per_rank=shape.adapter_parameters_per_rank,
        continued_pretraining=facts.data.task == "continued_pretraining" or facts.goal.purpose in ("domain", "code"),
        forgetting=facts.goal.forgetting,
        adapters_wanted=facts.goal.adapters_wanted,
        ship_in_4_bit=facts.goal.ship_in_4_bit,
        full_fits=full_fits,
    )


def _known(rule: PointRule, situation: Situation) -> dict[str, Any]:
    """The facts a rule's sentence cites."""
    every = {
        "unique_rows": situation.unique_rows,
        "parameters": situation.parameters,
        "trained_tokens": situation.trained_tokens,
        "capacity_256": situation.capacity_256,
        "adapters_wanted": situation.adapters_wanted,
    }
    return every | {"points": dict(rule.points)}


def _slower(facts: Facts, candidates: dict[Method, Candidate]) -> list[tuple[Method, float, Reason]]:
    """W8: minus log2 of how many times slower, once step times are measured. Estimates are too coarse to count."""
    timed = [c for c in candidates.values() if c.hours.origin == "measured" and c.viable]
    if len(timed) < 2:
        return []
    best = min(c.hours.predicted for c in timed)
    found = []
    for c in timed:
        loss = math.log2(c.hours.predicted / best)
        if loss >= 0.1:
            known = {"method": METHOD_NAMES[c.method], "hours": c.hours.predicted, "best": best}
            found.append((c.method, loss, reason("W8_slower", known, "E10", "E23")))
    return found


def _confidence(verdict: Verdict, nearest: Candidate, candidates: dict[Method, Candidate]) -> Confidence:
    """A word for the margin between the best two; for `does_not_fit`, whether the estimate's lower end would fit."""
    if verdict == "not_yet":
        return "clear"
    if verdict == "does_not_fit":
        borderline = any(c.removed_by == "does_not_fit" and c.memory.low <= c.memory.available for c in candidates.values())
        return "close" if borderline else "clear"
    margins = [nearest.points - c.points for c in candidates.values() if c.viable and c is not nearest]
    margin = min(margins, default=math.inf)
    return "clear" if margin >= 2 else "likely" if margin >= 1 else "close"


def _runner_up(nearest: Candidate, candidates: dict[Method, Candidate]) -> Method | None:
    """Who came second: one in the running, or a removed candidate that would fit if nobody else is left."""
    second = nearest_of(c for c in candidates.values() if c is not nearest)
    return second.method if second.fits else None


def _instead(candidates: dict[Method, Candidate]) -> tuple[str, ...]:
    """What would help where nothing can run, by what stands in the way."""
    causes = {c.removed_by for c in candidates.values()}
    advice: list[str] = []
    if "over_time_budget" in causes:
        advice.append(sentence("instead_time"))
    if "no_disk" in causes:
        advice.append(sentence("instead_disk", {"needed": min(c.disk for c in candidates.values() if c.removed_by == "no_disk")}))
    if "does_not_fit" in causes:
        least = min((c for c in candidates.values() if c.removed_by == "does_not_fit"), key=lambda c: c.memory.predicted)
        advice.append(sentence("instead_smaller_model", {"needed": int(least.memory.predicted / memory.USABLE_SHARE)}))
        advice.append(sentence("instead_shorter", {"length": least.settings.max_length}))
    return tuple(advice)


def _in_order(reasons: list[Reason], winner: Method) -> list[Reason]:
    """Gates, then what speaks for the winner, then the rest; stable."""
    name = METHOD_NAMES[winner]

    def rank(r: Reason) -> int:
        if r.code.startswith("G"):
            return 0
        if r.code.startswith("W"):
            return 1
        if r.facts.get("method") == name:
            return 2
        return 3

    return sorted(reasons, key=rank)


def _cautions(facts: Facts, shape: Shape, nearest: Candidate) -> list[Caution]:
    found = gates.data_cautions(facts, nearest.settings.max_length)
    decoder = shape.family == "decoder"
    own = nearest.settings.model_dump() | {"method": nearest.method}
    found += lint(own, facts.data, decoder=decoder)
    if facts.plan:
        brought = lint(facts.plan, facts.data, decoder=decoder, suggested_rate=_usual_rate(facts, shape, nearest))
        found += [c.model_copy(update={"about": "plan"}) for c in brought]
    assumed = (*shape.assumed, *_assumed(facts))
    if assumed:
        found.append(caution("assumed", names=", ".join(assumed)))
    unique = {(c.code, str(c.facts)): c for c in found}
    return list(unique.values())


def _usual_rate(facts: Facts, shape: Shape, nearest: Candidate) -> float:
    """The learning rate Loracle would take for the method that the brought plan names."""
    method = next((m for m in METHODS if facts.plan and facts.plan.get("method") == m), nearest.method)
    return hyper.settings_for(facts, shape, method).learning_rate


def _assumed(facts: Facts) -> list[str]:
    """What was taken for unknown facts about data and machine, e.g. `rows 1000`."""
    data = facts.data
    found = [] if hyper.rows_of(data) is not None else [f"rows {hyper.UNKNOWN_ROWS}"]
    if data.tokens_p50 is None and data.tokens_total is None:
        found.append("tokens_p50 128")
    free, known = memory.available_memory(facts.machine)
    if not known:
        found.append(f"free memory {size(free)}")
    return found
