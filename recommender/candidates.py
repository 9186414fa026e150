"""One candidate a method: settings from the table, memory cut until it fits, hard constraints, dominance."""

from collections.abc import Iterable, Iterator
from typing import Any

from recommender import kernels, timing
from recommender.counting import is_labelled
from recommender.facts import Facts
from recommender.figures import size
from recommender.footprint import disk_needed, trained_parameters, wide_moments
from recommender.memory import Placed, as_memory, compared, groups_of, place
from recommender.plan import Plan
from recommender.reasons import reason
from recommender.recommendation import METHOD_NAMES, UNCOUNTED, Candidate, Hours, Method, Reason, Settings
from recommender.shape import Shape, checkpoint_bytes_per_parameter, quantised_elsewhere, shape_of, tuned_as_encoder
from recommender.traced import at_once, note, note_shown, parameters
from recommender.variants import Group, last_layers, step_of, variants

_ADAPTER_METHODS: tuple[Method, Method] = ("lora", "qlora")
LITTLE = 0.15
"""Of LoRA's memory, or a GB: less than that is no reason for 4-bit weights."""
NOTHING = 50e6
"""Bytes that are not worth a number."""
TIME_SHARE = 0.8
"""Of the time budget that a run may be expected to take."""


def candidate_of(facts: Facts, shape: Shape, method: Method) -> tuple[Candidate, list[Reason]]:
    """The method's candidate in the first variant that fits, and the hard constraints met or broken."""
    settings, placed = _first_that_fits(facts, shape, method, variants(facts, shape, method))
    hours = timing.predict(facts, shape, method, settings, placed.devices)
    if method == "full" and tuned_as_encoder(shape, facts.data) and is_labelled(facts.data) and _late(facts, hours):
        quicker, smaller = _first_that_fits(facts, shape, method, last_layers(facts, shape))
        sooner = timing.predict(facts, shape, method, quicker, smaller.devices)
        if smaller.fits and not _late(facts, sooner):
            settings, placed, hours = quicker, smaller, sooner
    training = timing.training_seconds(facts, shape, method, settings, placed.devices)
    compiling = kernels.compiling(facts, shape, method, settings.precision, training)
    if compiling.answer == "pays" and kernels.has_room(as_memory(facts, shape, placed)):
        settings = settings.model_copy(update={"compile": True})
        hours = timing.predict(facts, shape, method, settings, placed.devices)
    return _judged(facts, shape, method, settings, placed=placed, hours=hours)


def candidate_with(facts: Facts, shape: Shape, method: Method, settings: Settings) -> tuple[Candidate, list[Reason]]:
    """The method with exactly these settings, whether they fit or not, and the hard constraints met or broken."""
    placed = place(facts, shape, step_of(facts, method, settings))
    hours = timing.predict(facts, shape, method, settings, placed.devices)
    return _judged(facts, shape, method, settings, placed=placed, hours=hours)


def _judged(
    facts: Facts, shape: Shape, method: Method, settings: Settings, *, placed: Placed, hours: Hours
) -> tuple[Candidate, list[Reason]]:
    trained = _trained(facts, shape, method, settings)
    disk = _disk(facts, shape, method, settings)
    name = METHOD_NAMES[method]
    room = _room(name, placed)
    impossible, full_disk = cannot_run(facts, method), no_disk(facts, method, disk)
    reasons = [] if impossible else [room, *(_variant(shape, method, settings, trained) if placed.fits else ())]
    late = over_time_budget(facts, method, hours.predicted)
    against = (impossible, None if placed.fits else room, full_disk, late)
    reasons += [r for r in (impossible, full_disk, late) if r is not None]
    broken = [r.code for r in against if r is not None]
    memory = as_memory(facts, shape, placed)
    candidate = Candidate(
        method=method,
        fits=placed.fits and impossible is None and full_disk is None,
        removed_by=broken[0] if broken else None,
        points=0.0,
        memory=kernels.widened(memory) if settings.compile else memory,
        hours=hours,
        trained_parameters=trained,
        disk=disk,
        settings=settings,
        devices=placed.devices,
        sharded=placed.sharded,
    )
    return candidate, reasons


def _trained(facts: Facts, shape: Shape, method: Method, settings: Settings | Plan) -> int:
    counted = parameters(facts, step_of(facts, method, settings))
    if counted is not None:
        return counted
    return trained_parameters(shape, facts.data, method, settings)


def _disk(facts: Facts, shape: Shape, method: Method, settings: Settings | Plan) -> int:
    return disk_needed(shape, method, _trained(facts, shape, method, settings), settings)


def _first_that_fits(facts: Facts, shape: Shape, method: Method, tried: Iterable[Group]) -> tuple[Settings, Placed]:
    """The first that fits, else the one that needs least."""
    nearest: tuple[Settings, Placed] | None = None
    devices = groups_of(facts.machine)
    for settings, budgets in tried:
        least = place(facts, shape, step_of(facts, method, settings, budgets[-1]), devices)
        if least.fits:
            for budget in budgets:
                found = place(facts, shape, step_of(facts, method, settings, budget), devices)
                if found.fits and found.sharded <= least.sharded:  # a copy on each device is quicker than shares of one
                    return settings.model_copy(update={"token_budget": budget}), found
        if nearest is None or least.peak / max(least.available, 1) < nearest[1].peak / max(nearest[1].available, 1):
            nearest = settings.model_copy(update={"token_budget": budgets[-1]}), least
    assert nearest is not None  # every method has at least one variant
    return nearest


def _room(name: str, placed: Placed) -> Reason:
    """Whether it fits; in bytes where a trace has counted it."""
    judged: dict[str, Any] = {"method": name, "needed": placed.peak, "free": placed.available}
    code = "fits" if placed.fits else "does_not_fit"
    wording = code
    if placed.devices > 1:
        judged |= {"devices": placed.devices}
        wording = "does_not_fit_each" if not placed.fits else "fits_sharded" if placed.sharded else "fits_copies"
        code = wording if placed.fits else code
    elif placed.span is not None and placed.doubtful:
        judged |= {"low": placed.span[0], "high": placed.span[1]}
        wording = "does_not_fit_surely" if placed.peak <= placed.available else "does_not_fit_probably"
    if placed.span is None:
        wording = f"{wording}_uncounted"
        judged |= {"how": UNCOUNTED[placed.fits, placed.near]}
    return reason(code, judged, "E10", "E21", "E22", wording=wording)


def _variant(shape: Shape, method: Method, settings: Settings, trained: int) -> Iterator[Reason]:
    """What had to be given up to fit in memory or time."""
    known = {"method": METHOD_NAMES[method]}
    if settings.trained == "no_embeddings":
        yield reason("variant_no_embeddings", known | {"embeddings": shape.embedding_parameters}, "K")
    elif settings.trained == "last_layers":
        yield reason("variant_last_layers", known | {"last_layers": settings.last_layers}, "E8")
    if settings.precision == "bf16":
        yield reason("variant_bf16_weights", known | {"precision": settings.precision}, "E23", "K")
    elif settings.optimizer.startswith("adamw_8bit"):
        narrow = trained - wide_moments(shape, method, settings.trained, settings.optimizer)
        yield reason("variant_adamw_8bit", known | {"saving": 6 * narrow}, "E23")


def why_not(facts: Facts, plan: Plan, *, anyway: bool = False) -> Reason | None:
    """Why a plan with settings of its own cannot run with these facts, or `None` when it can.

    With `anyway` it may try as long as the estimate's lower end fits.
    """
    shape = shape_of(facts.model, facts.data.task)
    disk = _disk(facts, shape, plan.method, plan)
    placed = place(facts, shape, step_of(facts, plan.method, plan))
    predicted = as_memory(facts, shape, placed)
    if not placed.fits and not (anyway and predicted.low <= predicted.available):
        return _room(METHOD_NAMES[plan.method], placed)
    return cannot_run(facts, plan.method) or no_disk(facts, plan.method, disk)


def cannot_run(facts: Facts, method: Method) -> Reason | None:
    """What rules the method out on this machine and model whatever its size: kernels, quantisation, room for the download."""
    name = METHOD_NAMES[method]
    quantised = facts.model.quantization
    if method == "qlora" and not has_nf4(facts) and not quantised_elsewhere(facts.model):
        return reason("no_nf4", {"method": name, "nf4": False, "backend": facts.machine.backend}, "E33")
    if quantised and method != "qlora":
        return reason("already_quantised", {"method": name, "quantization": quantised}, "K")
    size = facts.model.weights_bytes
    if size is None and facts.model.parameters is not None:
        size = int(checkpoint_bytes_per_parameter(facts.model) * facts.model.parameters)
    free = facts.machine.hub_disk_free
    if facts.model.path is None and free is not None and size is not None and size > free:
        return reason("no_hub_disk", {"method": name, "needed": size, "free": free}, "K")
    return None


def has_nf4(facts: Facts) -> bool:
    """Whether 4-bit kernels run here; where nobody tried, on all but Apple's devices and GPUs older than Pascal (E33)."""
    machine = facts.machine
    if machine.nf4 is not None:
        return machine.nf4
    capability = machine.device.compute_capability if machine.device else None
    return machine.backend != "mps" and (capability is None or capability >= (6, 0))


def no_disk(facts: Facts, method: Method, needed: int) -> Reason | None:
    """Checkpoints and result need more than is free."""
    free = facts.machine.disk_free
    if free is None or needed <= free:
        return None
    known = {"method": METHOD_NAMES[method], "needed": needed, "free": free, "missing": needed - free}
    return reason("no_disk", known, "K", wording="no_disk_quite" if size(needed) == size(free) else None)


def _late(facts: Facts, hours: Hours) -> bool:
    budget = facts.goal.time_budget_hours
    return budget is not None and hours.predicted > TIME_SHARE * budget


def hours_needed(candidate: Candidate) -> float:
    """The time budget with which the candidate would be in time, and a little to spare."""
    return candidate.hours.predicted / TIME_SHARE * 1.01


def over_time_budget(facts: Facts, method: Method, hours: float) -> Reason | None:
    """The run would take more than 80% of the time there is."""
    budget = facts.goal.time_budget_hours
    if budget is None or hours <= TIME_SHARE * budget:
        return None
    return reason("over_time_budget", {"method": METHOD_NAMES[method], "hours": hours, "budget": budget}, "K")


def lora_is_cut(candidates: dict[Method, Candidate]) -> bool:
    """Whether LoRA had to take less than half the rank or shorter texts to fit, where QLoRA, in the running too, did not."""
    lora, qlora = candidates["lora"], candidates["qlora"]
    return lora.viable and qlora.viable and (cut_in_rank(lora, qlora) or cut_in_length(lora, qlora))


def cut_in_rank(lora: Candidate, qlora: Candidate) -> bool:
    """Whether LoRA has less than half of QLoRA's rank."""
    return 2 * (lora.settings.rank or 0) < (qlora.settings.rank or 0)


def cut_in_length(lora: Candidate, qlora: Candidate) -> bool:
    """Whether LoRA reads less of the texts than QLoRA."""
    return lora.settings.max_length < qlora.settings.max_length


def dominated(facts: Facts, shape: Shape, candidates: dict[Method, Candidate]) -> Iterator[tuple[Method, Reason]]:
    """Candidates that another one makes pointless, and why (docs/method-guide.md, section 3).

    A rule only removes where a method preferred over it is still in the running.
    """
    running = {m for m, c in candidates.items() if c.viable}
    copies = facts.goal.adapters_wanted
    if copies > 3 and shape.parameters >= 1e9 and running & {"lora", "qlora"}:
        running.discard("full")
        sizes = {"needed": copies * 2 * shape.parameters, "adapter": 4 * candidates["lora"].trained_parameters}
        yield "full", reason("D4_many_full_copies", {"copies": copies} | sizes, "E1")
    if shape.parameters < 30e6 and "full" in running and copies <= 1:
        running.discard("lora")
        yield "lora", reason("D3_too_small_for_adapters", {"parameters": shape.parameters}, "E14", "K")
    # Compared one longest row at a time: the candidates' own peaks grow with what is free.
    smallest = candidates["lora"].settings.model_copy(
        update={"token_budget": candidates["lora"].settings.max_length, "gradient_checkpointing": True}
    )
    steps = [step_of(facts, m, smallest) for m in _ADAPTER_METHODS]
    unquantised, quantised = compared(facts, shape, *steps)
    saving = max(unquantised - quantised, 0)
    little = int(max(1e9, LITTLE * unquantised))
    told = shape.parameters < 600e6 or saving < little
    for step in steps if running & {"lora", "full"} else ():  # beside none of them nothing is said of it
        if at_once(facts, step) is None:
            decides = shape.parameters >= 600e6 and note(step, saving, little)
            if told and saving >= NOTHING and not decides:
                note_shown(step)
    lora = place(facts, shape, step_of(facts, "lora", smallest.model_copy(update={"gradient_checkpointing": False})))
    if told:
        if running & {"lora", "full"}:
            least, most = (1.1, 2) if facts.machine.device is not None else timing.UNPACKING_ON_CPU
            known = {"saving": saving, "parameters": shape.parameters, "least": least, "most": most}
            wording = "D1_qlora_saves_nothing" if saving < NOTHING else None
            wording = wording if all(at_once(facts, step) for step in steps) else "D1_qlora_uncounted"
            yield "qlora", reason("D1_qlora_saves_little", known, "E20", "E21", "E22", "E23", wording=wording)
    elif (
        "lora" in running and lora.peak <= 0.85 * lora.available and not facts.goal.ship_in_4_bit and not lora_is_cut(candidates)
    ):
        wording = "D2_lora_uncounted" if lora.span is None else None
        yield "qlora", reason("D2_lora_fits_easily", {"needed": lora.peak, "free": lora.available}, "E21", "E23", wording=wording)
