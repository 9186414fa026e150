"""`recommend`: facts in, recommendation out. Pure: no disk, no device, no network, no torch."""

import math
from typing import Any

from recommender import gates, hyper, memory
from recommender.candidates import candidate_of, dominated
from recommender.evidence import POINT_RULES, PointRule, Situation
from recommender.facts import Facts
from recommender.flips import flip_conditions
from recommender.lints import lint
from recommender.reasons import caution, reason, sentence
from recommender.recommendation import (
    METHOD_NAMES,
    METHODS,
    Candidate,
    Caution,
    Method,
    Reason,
    Recommendation,
    Verdict,
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

    for method, (rule, known, sources) in dominated(facts, shape, candidates).items():
        reasons.append(reason(rule, known, *sources))
        if candidates[method].removed_by is None:
            candidates[method] = candidates[method].model_copy(update={"removed_by": rule})

    situation = _situation(facts, shape)
    rules = [rule for rule in POINT_RULES if rule.applies(situation)]
    points = {m: sum(rule.points[m] for rule in rules) for m in METHODS}
    reasons += [reason(r.code, _known(r, situation), *r.sources) for r in rules]
    for method, loss, why in _slower(facts, candidates):
        points[method] -= loss
        reasons.append(why)
    candidates = {m: c.model_copy(update={"points": round(float(points[m]), 2)}) for m, c in candidates.items()}

    ranked = _ranked([c for c in candidates.values() if c.fits and c.removed_by is None])
    confidence, runner_up = _confidence(ranked, candidates)
    verdict: Verdict
    instead: tuple[str, ...] = ()
    if closed:
        verdict, instead = "not_yet", tuple(dict.fromkeys(i for g in closed for i in g.instead))
    elif not ranked:
        verdict, instead = "does_not_fit", _smaller(candidates)
    else:
        verdict = ranked[0].method
    nearest = ranked[0] if ranked else min(candidates.values(), key=lambda c: (not c.fits, c.memory.predicted))
    return Recommendation(
        verdict=verdict,
        confidence="clear" if verdict == "not_yet" and not ranked else confidence,
        runner_up=runner_up,
        candidates=tuple(candidates[m] for m in METHODS),
        settings=nearest.settings,
        reasons=tuple(_in_order(reasons, nearest.method)),
        warnings=tuple(_cautions(facts, shape, nearest)),
        instead=instead,
        would_change=(),
    )


def _situation(facts: Facts, shape: Shape) -> Situation:
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
    timed = [c for c in candidates.values() if c.hours.origin == "measured" and c.fits]
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


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Best first; ties go to the cheaper run."""
    return sorted(candidates, key=lambda c: (-c.points, c.hours.predicted, c.memory.predicted))


def _confidence(ranked: list[Candidate], candidates: dict[Method, Candidate]) -> tuple[Any, Method | None]:
    """A word for the margin, and who came second (a removed candidate that fits, if nobody else is left)."""
    if len(ranked) >= 2:
        margin = ranked[0].points - ranked[1].points
        return ("clear" if margin >= 2 else "likely" if margin >= 1 else "close"), ranked[1].method
    winner = ranked[0].method if ranked else None
    others = _ranked([c for c in candidates.values() if c.fits and c.method != winner])
    return "clear", others[0].method if others else None


def _smaller(candidates: dict[Method, Candidate]) -> tuple[str, ...]:
    if any(c.removed_by == "over_time_budget" for c in candidates.values()):
        return (sentence("instead_time"),)
    least = min(candidates.values(), key=lambda c: c.memory.predicted)
    return (
        sentence("instead_smaller_model", {"needed": int(least.memory.predicted / memory.USABLE_SHARE)}),
        sentence("instead_shorter", {"length": least.settings.max_length}),
    )


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
        found += lint(facts.plan, facts.data, decoder=decoder, suggested_rate=nearest.settings.learning_rate)
    if shape.assumed:
        found.append(caution("assumed", names=", ".join(shape.assumed)))
    unique = {(c.code, str(c.facts)): c for c in found}
    return list(unique.values())
