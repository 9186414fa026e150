"""One candidate a method: settings from the table, memory cut until it fits, hard constraints."""

from collections.abc import Iterator

from recommender import hyper, memory, timing
from recommender.facts import Facts
from recommender.hyper import counted_rows
from recommender.plan import Plan
from recommender.reasons import reason
from recommender.recommendation import METHOD_NAMES, Candidate, Memory, Method, Reason, Settings
from recommender.shape import Shape, shape_of

_ADAPTER_METHODS: tuple[Method, Method] = ("lora", "qlora")


def candidate_of(facts: Facts, shape: Shape, method: Method) -> tuple[Candidate, list[Reason]]:
    """The method's candidate with the cheapest memory choices that fit, and the hard constraints met or broken."""
    settings = hyper.settings_for(facts, shape, method)
    # Memory choices change the speed, never the result, so the fastest that fits is taken: smaller micro-batches first
    # (free on a CPU), then checkpointing (27% more time, E25).
    for choice in _memory_choices(settings):
        settings, predicted = choice, _peak(facts, shape, method, choice)
        if memory.fits(predicted):
            break
    unique = max(counted_rows(facts.data), 1)
    split = hyper.split_of(facts.data)
    hours = timing.predict(
        facts,
        shape,
        method,
        settings.precision,
        length=settings.max_length,
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
    impossible, full_disk = cannot_run(facts, method), no_disk(facts, method, disk)
    late = over_time_budget(facts, method, hours.predicted)
    reasons += [r for r in (impossible, full_disk, late) if r is not None]
    broken = [r.code for r in (impossible, None if fits else reasons[0], full_disk, late) if r is not None]
    candidate = Candidate(
        method=method,
        fits=fits and impossible is None and full_disk is None,
        removed_by=broken[0] if broken else None,
        points=0.0,
        memory=predicted,
        hours=hours,
        trained_parameters=trained,
        disk=disk,
        settings=settings,
    )
    return candidate, reasons


def why_not(facts: Facts, plan: Plan, *, anyway: bool = False) -> Reason | None:
    """Why a plan with settings of its own cannot run with these facts, or `None` when it can.

    With `anyway` it may try as long as the estimate's lower end fits.
    """
    predicted = _peak(facts, shape_of(facts.model), plan.method, plan)
    if not memory.fits(predicted) and not (anyway and predicted.low <= predicted.available):
        judged = {"method": METHOD_NAMES[plan.method], "needed": predicted.predicted, "free": predicted.available}
        return reason("does_not_fit", judged, "E10", "E21", "E22")
    return cannot_run(facts, plan.method)


def _peak(facts: Facts, shape: Shape, method: Method, settings: Settings | Plan) -> Memory:
    return memory.predict(
        facts,
        shape,
        method,
        settings.precision,
        rank=settings.rank or 0,
        micro_tokens=_micro_tokens(facts, settings),
        length=settings.max_length,
        gradient_checkpointing=settings.gradient_checkpointing,
    )


def _micro_tokens(facts: Facts, settings: Settings | Plan) -> int:
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


def cannot_run(facts: Facts, method: Method) -> Reason | None:
    """What rules the method out on this machine and model whatever its size: kernels, quantisation."""
    if method == "qlora" and facts.machine.nf4 is False:
        return reason("no_nf4", {"nf4": False}, "E33")
    if facts.model.quantization and method not in _ADAPTER_METHODS:
        return reason("already_quantised", {"quantization": facts.model.quantization}, "K")
    return None


def no_disk(facts: Facts, method: Method, needed: int) -> Reason | None:
    """Checkpoints and result need more than is free."""
    free = facts.machine.disk_free
    if free is None or needed <= free:
        return None
    return reason("no_disk", {"method": METHOD_NAMES[method], "needed": needed, "free": free}, "K")


def over_time_budget(facts: Facts, method: Method, hours: float) -> Reason | None:
    """The run would take more than 80% of the time there is."""
    budget = facts.goal.time_budget_hours
    if budget is None or hours <= 0.8 * budget:
        return None
    return reason("over_time_budget", {"method": METHOD_NAMES[method], "hours": hours, "budget": budget}, "K")


def dominated(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> Iterator[tuple[Method, Reason]]:
    """Candidates that another one makes pointless, and why (evidence.md, 2.3).

    A rule only removes where a method preferred over it is still in the running.
    """
    running = {m for m, c in candidates.items() if c.viable}
    copies = facts.goal.adapters_wanted
    if copies > 3 and shape.parameters >= 1e9 and running & {"lora", "qlora"}:
        running.discard("full")
        yield "full", reason("D4_many_full_copies", {"copies": copies, "needed": copies * 2 * shape.parameters}, "E1")
    if shape.parameters < 30e6 and "full" in running:
        running.discard("lora")
        yield "lora", reason("D3_too_small_for_adapters", {"parameters": shape.parameters}, "E14", "K")
    # Compared at the smallest micro-batch, one longest row: the candidates' own peaks grow with what is free.
    lora, qlora = (_peak(facts, shape, m, _one_row(candidates[m].settings)) for m in _ADAPTER_METHODS)
    saving = max(lora.predicted - qlora.predicted, 0)
    if shape.parameters < 600e6 or saving < max(1e9, 0.15 * lora.predicted):
        if running & {"lora", "full"}:
            known = {"saving": saving, "parameters": shape.parameters}
            yield "qlora", reason("D1_qlora_saves_little", known, "E20", "E21", "E22", "E23")
    elif "lora" in running and lora.predicted <= 0.85 * lora.available:
        yield "qlora", reason("D2_lora_fits_easily", {"needed": lora.predicted, "free": lora.available}, "E21", "E23")


def _one_row(settings: Settings) -> Settings:
    return settings.model_copy(update={"token_budget": settings.max_length, "gradient_checkpointing": False})
