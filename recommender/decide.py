"""`recommend`: facts in, recommendation out. Pure: no disk, no device, no network, no torch."""

import math
from typing import Any

from recommender import gates, memory, remedies
from recommender.brought import canonical
from recommender.candidates import candidate_of, cut_in_length, cut_in_rank, dominated, lora_is_cut
from recommender.cautions import data_cautions, goal_cautions, machine_cautions
from recommender.counting import distinct_rows, examples_of, is_labelled, like_pretraining, rows_of, task_of, trained_tokens
from recommender.evidence import POINT_RULES, PointRule, Situation
from recommender.facts import Device, Facts
from recommender.figures import size
from recommender.flips import flip_conditions
from recommender.lints import lint, lint_for
from recommender.rates import RANKS
from recommender.reasons import caution, reason
from recommender.recommendation import (
    IN_SENTENCES,
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
from recommender.setting_reasons import setting_reasons
from recommender.shape import Shape, counts_as_encoder, shape_of, tuned_as_encoder
from recommender.traced import shown_to_nobody

SMALL_RANK = 64
"""Below it nobody would adapt a model to raw text (E5)."""


def recommend(facts: Facts) -> Recommendation:
    """Decide between full, LoRA and QLoRA fine-tuning, or against fine-tuning, and say what would change it."""
    facts, guessed = completed(facts)
    decision = settled(facts)
    shape, best = shape_of(facts.model, facts.data.task), decision.best
    return decision.model_copy(
        update={
            "settings_reasons": setting_reasons(facts, shape, best),
            "warnings": tuple(_cautions(facts, shape, decision, guessed)),
            "would_change": tuple(flip_conditions(facts, decision, _elsewhere)),
        }
    )


def settled(facts: Facts) -> Recommendation:
    """The verdict, and what to do where nothing fits: all that is decided of these very facts, and of no others. They are
    completed."""
    decision = decide(facts)
    if decision.verdict != "does_not_fit":
        return decision
    shape = shape_of(facts.model, facts.data.task)
    return decision.model_copy(update={"instead": remedies.instead(facts, shape, decision, _elsewhere)})


def completed(facts: Facts) -> tuple[Facts, tuple[str, ...]]:
    """The facts with their task named and their device in place, and what was assumed about the task."""
    machine = facts.machine
    if machine.backend in ("cuda", "rocm", "xpu") and not machine.devices:
        facts = facts.changed("machine", devices=(Device(),))
    if facts.data.task is not None:
        return facts, ()
    task = task_of(facts)
    return facts.changed("data", task=task), (f"task {task}",)


def decide(facts: Facts) -> Recommendation:
    """The verdict without its flip conditions, warnings, the reasons of its settings, and what to do where nothing fits.

    The order is fixed: gates, candidates, hard constraints, dominance, points. Every step leaves its reasons.
    """
    shape = shape_of(facts.model, facts.data.task)
    judged = {m: candidate_of(facts, shape, m) for m in METHODS}
    candidates = {m: c for m, (c, _) in judged.items()}
    closed = gates.closed_gates(facts, shape, [m for m, c in candidates.items() if c.fits])
    reasons: list[Reason] = [g.reason for g in closed]
    reasons += [r for _, found in judged.values() for r in found]

    for method, why in list(dominated(facts, shape, candidates)):
        reasons.append(why)
        if candidates[method].removed_by is None:
            candidates[method] = candidates[method].model_copy(update={"removed_by": why.code})

    situation = _situation(facts, shape, candidates)
    rules = [rule for rule in POINT_RULES if rule.applies(situation)]
    points = {m: sum(rule.points[m] for rule in rules) for m in METHODS}
    wordings = {r.code: _wording(r, situation, candidates) for r in rules}
    reasons += [reason(r.code, _known(r, situation, candidates), *r.sources, wording=wordings[r.code]) for r in rules]
    for method, loss, why in _slower(candidates):
        points[method] -= loss
        reasons.append(why)
    candidates = {m: c.model_copy(update={"points": round(float(points[m]), 2)}) for m, c in candidates.items()}

    nearest = nearest_of(candidates.values())
    verdict: Verdict = nearest.method
    instead: tuple[str, ...] = ()
    # Where a method has more points than the one advised, why it is out comes first.
    against: set[str | None] = {c.removed_by for c in candidates.values() if c.points > nearest.points}
    if closed:
        verdict, instead = "not_yet", tuple(dict.fromkeys(i for g in closed for i in g.instead))
    elif not nearest.viable:
        verdict = "does_not_fit"
        against = {c.removed_by for c in candidates.values()}
    return Recommendation(
        verdict=verdict,
        confidence=_confidence(verdict, nearest, candidates),
        runner_up=_runner_up(nearest, candidates),
        candidates=tuple(candidates[m] for m in METHODS),
        settings=nearest.settings,
        reasons=tuple(_in_order(reasons, nearest.method, against)),
        warnings=(),
        instead=instead,
        would_change=(),
    )


def _elsewhere(facts: Facts) -> Recommendation:
    """`decide` on facts that are not those at hand: what its reasons say nobody reads."""
    with shown_to_nobody():
        return decide(facts)


def _situation(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> Situation:
    data, goal, full = facts.data, facts.goal, candidates["full"]
    return Situation(
        encoder=counts_as_encoder(shape, data),
        writes=not is_labelled(data),
        parameters=shape.parameters,
        unique_rows=examples_of(data, full.settings.max_length),
        trained_tokens=trained_tokens(data),
        adapter_parameters_per_rank=shape.adapter_parameters_per_rank,
        like_pretraining=like_pretraining(data, goal),
        raw_text=data.task == "continued_pretraining",
        forgetting=goal.forgetting,
        adapters_wanted=goal.adapters_wanted,
        ship_in_4_bit=goal.ship_in_4_bit,
        full_fits=full.fits,
        full_in_bf16=full.settings.precision == "bf16",
        trained=full.settings.trained,
        lora_cut=lora_is_cut(candidates),
    )


def _known(rule: PointRule, situation: Situation, candidates: dict[Method, Candidate]) -> dict[str, Any]:
    """The facts a rule's sentence cites."""
    lora, qlora = candidates["lora"].settings, candidates["qlora"].settings
    every: dict[str, Any] = {
        "unique_rows": situation.unique_rows,
        "parameters": situation.parameters,
        "trained_tokens": situation.trained_tokens,
        "unit": "tokens" if situation.writes else "labels",
        "capacity_256": situation.capacity_256,
        "adapters_wanted": situation.adapters_wanted,
    }
    if rule.code == "W5_like_pretraining":
        every |= {
            "rank": max((candidates[m].settings.rank or 0 for m in ("lora", "qlora") if candidates[m].fits), default=RANKS[-1])
        }
    if rule.code == "W15_lora_cut_to_fit":
        every |= {"rank": lora.rank, "wanted": qlora.rank, "length": lora.max_length, "whole": qlora.max_length}
    return every | {"points": dict(rule.points)}


def _wording(rule: PointRule, situation: Situation, candidates: dict[Method, Candidate]) -> str | None:
    """W3 must not promise what W5 takes back, nor W5 name a rank that an encoder does not take; W15 says what was cut."""
    if rule.code == "W3_adapter_holds_data" and situation.like_pretraining:
        return "W3_size_alone"
    if rule.code == "W7_few_rows_large_model" and situation.raw_text:
        return "W7_few_blocks"
    lora, qlora = candidates["lora"], candidates["qlora"]
    if rule.code == "W5_like_pretraining" and max(lora.settings.rank or 0, qlora.settings.rank or 0) < SMALL_RANK:
        return "W5_without_rank"
    if rule.code == "W15_lora_cut_to_fit" and cut_in_length(lora, qlora):
        return "W15_rank_and_length" if cut_in_rank(lora, qlora) else "W15_length"
    return None


def _slower(candidates: dict[Method, Candidate]) -> list[tuple[Method, float, Reason]]:
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
            known_points = known | {"points": {c.method: -round(loss, 2)}}
            found.append((c.method, loss, reason("W8_slower", known_points, "E10", "E23")))
    return found


def margin_of(nearest: Candidate, candidates: dict[Method, Candidate]) -> float:
    """Points between the best two in the running; infinite where only one is."""
    return min((nearest.points - c.points for c in candidates.values() if c.viable and c is not nearest), default=math.inf)


def _confidence(verdict: Verdict, nearest: Candidate, candidates: dict[Method, Candidate]) -> Confidence:
    """A word for the margin between the best two; for `does_not_fit`, whether the estimate's lower end would fit."""
    if verdict == "not_yet":
        return "clear"
    if verdict == "does_not_fit":
        borderline = any(c.removed_by == "does_not_fit" and c.memory.low <= c.memory.available for c in candidates.values())
        return "close" if borderline else "clear"
    margin = margin_of(nearest, candidates)
    return "clear" if margin >= 2 else "likely" if margin >= 1 else "close"


def _runner_up(nearest: Candidate, candidates: dict[Method, Candidate]) -> Method | None:
    """Who came second: one in the running, or a removed candidate that would fit if nobody else is left."""
    second = nearest_of(c for c in candidates.values() if c is not nearest)
    return second.method if second.fits else None


def _in_order(reasons: list[Reason], winner: Method, against: set[str | None]) -> list[Reason]:
    """Gates, or what is `against` methods (each, where nothing fits), then what speaks for the winner, then the rest; stable."""
    name = METHOD_NAMES[winner]

    def rank(r: Reason) -> int:
        if r.code.startswith("G") or r.code in against:
            return 0
        if r.code.startswith("W"):
            return 1
        if r.facts.get("method") == name:
            return 2
        return 3

    return sorted(reasons, key=rank)


def _cautions(facts: Facts, shape: Shape, decision: Recommendation, guessed: tuple[str, ...]) -> list[Caution]:
    nearest = decision.best
    decoder = not tuned_as_encoder(shape, facts.data)
    found = [*remedies.sooner(facts, decision, _elsewhere), *data_cautions(facts, shape, nearest)]
    found += [*machine_cautions(facts, shape, nearest), *goal_cautions(facts, nearest)]
    found += _pilot(decision)
    own = nearest.settings.model_dump() | {"method": nearest.method}
    usual = nearest.settings.learning_rate
    found += lint(own, facts.data, decoder=decoder, suggested_rate=usual, usual_alpha=nearest.settings.alpha, own=True)
    if facts.plan:
        found += _about_the_plan(facts, decision)
    assumed = (*guessed, *shape.assumed, *_assumed(facts))
    if assumed:
        found.append(caution("assumed", names=", ".join(assumed)))
    unique = {(c.code, c.text, c.about): c for c in found}
    return list(unique.values())


def _pilot(decision: Recommendation) -> list[Caution]:
    """Where the margin is thin: let a slice of the data decide."""
    if decision.verdict not in METHODS or decision.confidence != "close" or decision.runner_up is None:
        return []
    best, second = decision.best, decision.candidate(decision.runner_up)
    known = {"leader": METHOD_NAMES[best.method], "second": IN_SENTENCES[second.method]}
    return [caution("pilot", margin=round(best.points - second.points, 2), **known)]


def _about_the_plan(facts: Facts, decision: Recommendation) -> list[Caution]:
    """What is to be said about the settings that the person brought."""
    assert facts.plan is not None
    said = lint_for(facts.plan, facts, decision.best.method)
    method: Method | None = canonical(facts.plan).get("method")
    if method is not None and decision.verdict in METHODS and method != decision.verdict:
        names = {"brought": IN_SENTENCES[method], "method": IN_SENTENCES[decision.verdict]}
        said.append(caution("brought_method", **names))
    return [c.model_copy(update={"about": "plan"}) for c in said]


def _assumed(facts: Facts) -> list[str]:
    """What was taken for unknown facts about data and machine, e.g. `rows 1000`."""
    data = facts.data
    found = [] if rows_of(data) is not None else [f"rows {distinct_rows(data)}"]
    if data.tokens_p50 is None and data.tokens_total is None:
        found.append("tokens_p50 128")
    free, known = memory.available_memory(facts.machine)
    if not known:
        found.append(f"free memory {size(free)}")
    return found
