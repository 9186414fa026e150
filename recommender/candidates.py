"""One candidate a method: settings from the table, memory cut until it fits, hard constraints."""

from typing import Any

from recommender import hyper, memory, timing
from recommender.facts import Facts
from recommender.hyper import counted_rows
from recommender.reasons import reason
from recommender.recommendation import METHOD_NAMES, Candidate, Method, Reason, Settings
from recommender.shape import Shape

_ADAPTER_METHODS = ("lora", "qlora")


def candidate_of(facts: Facts, shape: Shape, method: Method) -> tuple[Candidate, list[Reason]]:
    """The method's candidate with the cheapest memory choices that fit, and the hard constraints met or broken."""
    settings = hyper.settings_for(facts, shape, method)
    length = settings.max_length

    def peak(s: Settings) -> memory.Memory:
        return memory.predict(
            facts,
            shape,
            method,
            s.precision,
            rank=s.rank or 0,
            micro_tokens=_micro_tokens(facts, s),
            length=length,
            gradient_checkpointing=s.gradient_checkpointing,
        )

    # Memory choices change the speed, never the result, so the fastest that fits is taken: smaller micro-batches first
    # (free on a CPU), then checkpointing (27% more time, E25).
    for choice in _memory_choices(settings):
        settings, predicted = choice, peak(choice)
        if memory.fits(predicted):
            break
    unique = max(counted_rows(facts.data), 1)
    split = hyper.split_of(facts.data)
    hours = timing.predict(
        facts,
        shape,
        method,
        settings.precision,
        length=length,
        epochs=settings.epochs,
        total_steps=settings.total_steps,
        training_share=split.train / unique,
        evaluations=settings.evaluations,
    )
    trained = memory.trained_parameters(shape, facts.data, method, settings.rank or 0)
    disk = memory.disk_needed(shape, method, trained)
    name = METHOD_NAMES[method]
    judged = {"method": name, "needed": predicted.predicted, "free": predicted.available}
    fits = memory.fits(predicted)
    reasons = [reason("fits" if fits else "does_not_fit", judged, "E10", "E21", "E22")]
    broken = hard_constraint(facts, method, disk, hours.predicted)
    if broken is not None:
        reasons.append(broken)
    removed_by = None if fits else "does_not_fit"
    candidate = Candidate(
        method=method,
        fits=fits and (broken is None or broken.code == "over_time_budget"),
        removed_by=broken.code if broken is not None else removed_by,
        points=0.0,
        memory=predicted,
        hours=hours,
        trained_parameters=trained,
        disk=disk,
        settings=settings,
    )
    return candidate, reasons


def _micro_tokens(facts: Facts, settings: Settings) -> int:
    """Padded tokens of the largest micro-batch that can really occur."""
    longest = min(settings.max_length, facts.data.tokens_max or settings.max_length)
    return min(max(settings.token_budget, longest), settings.effective_batch * longest)


def _memory_choices(settings: Settings) -> list[Settings]:
    """The same experiment in ever less memory."""
    budgets = [settings.token_budget]
    while budgets[-1] // 2 >= settings.max_length:
        budgets.append(budgets[-1] // 2)
    if budgets[-1] > settings.max_length:
        budgets.append(settings.max_length)
    choices = [settings.model_copy(update={"token_budget": b}) for b in budgets]
    return choices + [c.model_copy(update={"gradient_checkpointing": True}) for c in choices]


def hard_constraint(facts: Facts, method: Method, disk: int, hours: float) -> Reason | None:
    """Kernels, disk, time and quantisation; memory is judged apart."""
    name = METHOD_NAMES[method]
    if method == "qlora" and facts.machine.nf4 is False:
        return reason("no_nf4", {}, "E33")
    if facts.model.quantization and method not in _ADAPTER_METHODS:
        return reason("already_quantised", {"quantization": facts.model.quantization}, "K")
    free = facts.machine.disk_free
    if free is not None and disk > free:
        return reason("no_disk", {"method": name, "needed": disk, "free": free}, "K")
    budget = facts.goal.time_budget_hours
    if budget is not None and hours > 0.8 * budget:
        return reason("over_time_budget", {"method": name, "hours": hours, "budget": budget}, "K")
    return None


def dominated(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> dict[Method, tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Candidates that a fitting alternative makes pointless: rule, facts, sources (evidence.md, 2.3)."""
    removed: dict[Method, tuple[str, dict[str, Any], tuple[str, ...]]] = {}
    lora, qlora, full = candidates["lora"], candidates["qlora"], candidates["full"]
    saving = lora.memory.predicted - qlora.memory.predicted
    if shape.parameters < 30e6 and full.fits:
        removed["lora"] = ("D3_too_small_for_adapters", {"parameters": shape.parameters}, ("E14", "K"))
    if shape.parameters < 600e6 or saving < max(1e9, 0.15 * lora.memory.predicted):
        if lora.fits or full.fits:
            known = {"saving": max(saving, 0)}
            removed["qlora"] = ("D1_qlora_saves_little", known, ("E20", "E21", "E22", "E23"))
    elif lora.fits and lora.memory.predicted <= 0.85 * lora.memory.available:
        removed["qlora"] = ("D2_lora_fits_easily", {}, ("E21", "E23"))
    copies = facts.goal.adapters_wanted
    if copies > 3 and shape.parameters >= 1e9 and (lora.fits or qlora.fits):
        removed["full"] = ("D4_many_full_copies", {"copies": copies, "needed": copies * 2 * shape.parameters}, ("E1",))
    return removed
