"""What a run is refused for before it begins: weights that nothing trains, tasks of other models, advice against it, no room."""

from collections.abc import Sequence

from engine.contradictions import check_here
from engine.findings import judge_rate
from engine.inspect import ModelInspection
from engine.inspection.machine import adamw_8bit_works
from engine.text import one_line
from recommender.candidates import why_not
from recommender.decide import recommend
from recommender.errors import InputError, Refused
from recommender.facts import Facts, Family, Task
from recommender.gates import OF_DECODERS, PHYSICS
from recommender.plan import Plan
from recommender.recommendation import METHOD_NAMES, METHODS, Candidate, Recommendation
from recommender.shape import quantised_elsewhere

NO_8_BIT = "optimizer {optimizer} does not run on this machine (tried with bitsandbytes); use optimizer: adamw."


def check_trainable(model: ModelInspection) -> None:
    """Refuse weights that facts can be told of and that nothing here trains.

    Raises:
        InputError: they are GGUF, or quantised by anything but bitsandbytes.
    """
    name = model.facts.id or model.path
    if model.facts.weights_format == "gguf":
        raise InputError(f"{name}: GGUF weights are made for inference and cannot be trained; get the model as safetensors.")
    if quantised_elsewhere(model.facts):
        how = one_line(model.facts.quantization or "", 40)
        raise InputError(f"{name}: its weights are quantised for inference ({how}) and cannot be trained; get the original ones.")


def check_task(task: Task | None, family: Family | None) -> None:
    """Refuse a task that has a recommendation and no trainer for that kind of model.

    Raises:
        Refused: this version cannot train it.
    """
    if family not in ("decoder", None) and task in OF_DECODERS:
        raise Refused(f"for {task} Loracle trains decoders, and this model is an {family}; use a decoder.")


def check_advice(recommendation: Recommendation, chosen: Candidate, *, anyway: bool) -> list[str]:
    """The advice that running `chosen` sets aside, for the record.

    Raises:
        Refused: it cannot run, or runs against advice without `anyway`.
    """
    name = METHOD_NAMES[chosen.method]
    overrides = check_gates(recommendation, anyway=anyway)
    if not chosen.fits:
        why = [r.text for r in recommendation.reasons if r.code == chosen.removed_by and r.facts.get("method", name) == name]
        overrides += [f"{chosen.removed_by}: {w}" for w in why]
        if not (anyway and chosen.removed_by == "does_not_fit" and _near(chosen)):
            about_it = recommendation.verdict != "not_yet"  # else what to do instead is about the rows
            raise Refused(_joined(why, recommendation.instead if about_it else (), ""))
    elif chosen.removed_by is not None:
        why = [r.text for r in recommendation.reasons if r.code == chosen.removed_by]
        overrides += [f"{chosen.removed_by}: {w}" for w in why]
    if not overrides and recommendation.verdict in METHODS and chosen.method != recommendation.verdict:
        overrides.append(f"{name} instead of the recommended {METHOD_NAMES[recommendation.verdict]}")
    return overrides


def check_gates(recommendation: Recommendation, *, anyway: bool) -> list[str]:
    """The part of that advice that no memory or time would change, so that it can be told before any is counted.

    Raises:
        Refused: it cannot be set aside, or `anyway` was not said.
    """
    about = [r for r in recommendation.reasons if r.code.startswith("G")]
    hopeless = next((r for r in about if r.code in PHYSICS), None)
    if hopeless is not None:
        raise Refused(hopeless.text)
    if recommendation.verdict != "not_yet":
        return []
    if not anyway:
        raise Refused(_joined([r.text for r in about], recommendation.instead, "--anyway runs it regardless."))
    return [f"{r.code}: {r.text}" for r in about]


def _near(chosen: Candidate) -> bool:
    """Whether the estimate is uncertain enough that the run might fit after all: then `--anyway` may try."""
    return chosen.memory.low <= chosen.memory.available


def _joined(why: Sequence[str], instead: Sequence[str], end: str) -> str:
    return " ".join([*why, *instead, end]).strip()


def check_rate(plan: Plan, facts: Facts) -> None:
    """Refuse a learning rate that would ruin any model, before anything is counted or loaded.

    Raises:
        Refused: as the worker would.
    """
    usual = recommend(facts).candidate(plan.method).settings.learning_rate
    found = judge_rate(plan, usual)
    if found is not None and found.stop:
        raise Refused(f"{found.text} Use `--set {found.setting}`.")


def check_fits(plan: Plan, facts: Facts, *, anyway: bool = False) -> None:
    """Refuse a plan whose own settings cannot run on this machine now.

    Raises:
        Refused: it does not fit, its method or optimizer cannot run here, or its learning rate would leave nothing of the model;
            `anyway` lets a close estimate pass.
        InputError: the model has not what it sets, or the machine does not compute in its precision.
    """
    check_here(plan, facts.model, facts.machine)
    check_rate(plan, facts)
    if plan.optimizer != "adamw" and adamw_8bit_works(facts.machine) is False:
        raise Refused(NO_8_BIT.format(optimizer=plan.optimizer))
    against = why_not(facts, plan, anyway=anyway)
    if against is not None:
        disk = against.code == "no_disk"
        cure = "Free some space, or use --runs." if disk else "Lower max_length or token_budget, or use another method."
        raise Refused(f"{against.text} {cure}")
