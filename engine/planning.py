"""From a recommendation to the plan of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.contradictions import check_here, check_rows, with_what_follows
from engine.inspect import DataInspection, ModelInspection, all_facts, inspect_data, inspect_machine, inspect_model
from engine.inspection.layouts import GROUP, nameable
from engine.prediction.candidates import with_counted_steps
from engine.refusals import check_advice, check_fits, check_rate, check_task, check_trainable
from recommender import plan_file
from recommender.assignment import field_of
from recommender.counting import counted_rows, split_of, trained_tokens
from recommender.errors import InputError
from recommender.facts import DataFacts, Facts
from recommender.lints import lint_for
from recommender.plan import DataChoice, Plan
from recommender.recommendation import Candidate, Caution, Recommendation

FLAGS = {
    "model.id": "--model",
    "method": "--method",
    "data.train": "--data",
    "data.eval": "--eval",
    "data.text_column": "--text-column",
    "data.label_column": "--label-column",
    "data.columns": "--column",
    "data.layout": "--task and --column",
    "data.train_rows": "--train-rows",
    "data.eval_rows": "--eval-rows",
    "data.drop_conflicts": "--drop-conflicts",
}
"""Fields that the advice rests on: changed afterwards, the advice would be about another run."""
LENGTHEN = frozenset({"epochs", "effective_batch", "validation_rows", "held_out_rows"})
"""Settings that make a run longer or shorter."""


def check_flags(assignments: Sequence[str]) -> None:
    """Refuse a setting that a flag of its own says.

    Raises:
        InputError: which, and the flag.
    """
    own = {field_of(name): (name, flag) for name, flag in FLAGS.items()}
    for name, flag in (own[field_of(one)] for one in assignments if field_of(one) in own):
        raise InputError(f"--set {name}: use {flag} instead, so that the advice takes it into account.")


def plan_for(
    recommendation: Recommendation,
    model: ModelInspection,
    data: DataInspection,
    *,
    method: str | None = None,
    seed: int = 1,
    assignments: Sequence[str] = (),
    anyway: bool = False,
) -> Plan:
    """The plan for the recommended method, or for `method`, with `assignments` (NAME=VALUE) put in.

    Raises:
        Refused: the run would not fit or would be wasted, and `anyway` was not said or does not help.
        InputError: an assignment is not a field of a plan, its value is not allowed, a flag of its own says it, or the
            model's weights cannot be trained.
    """
    check_trainable(model)
    check_task(data.facts.task, model.facts.family)
    chosen = recommendation.candidate(method) if method else recommendation.best
    overrides = check_advice(recommendation, chosen, anyway=anyway)
    return plan_with(chosen, model, data, seed=seed, assignments=assignments, overrides=overrides)


def plan_with(
    chosen: Candidate,
    model: ModelInspection,
    data: DataInspection,
    *,
    seed: int = 1,
    assignments: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Plan:
    """The plan for `chosen` with `assignments` put in, whether it may run or not.

    Raises:
        InputError: an assignment is not a field of a plan, its value is not allowed, or a flag of its own says it.
    """
    check_flags(assignments)
    content = _content(chosen, model, data) | {"seed": seed}
    changed = plan_file.set_fields(content, list(assignments))
    changed["overrides"] = list(overrides)  # a record, not a setting
    assigned = {field_of(a) for a in assignments}
    plan = plan_file.validate(with_what_follows(changed, assignments), "--set")
    if assigned & LENGTHEN and "warmup_steps" not in assigned:
        plan = plan.model_copy(update={"warmup_steps": _warm_up(plan, plan_file.validate(content, "--set"), data.facts)})
    check_here(plan, model.facts)
    check_rows(plan, data.facts)
    return plan


def _warm_up(plan: Plan, advised: Plan, data: DataFacts) -> int:
    """Warm-up is a share of the run: as much of it as advised, of a run of another length."""
    return round(advised.warmup_steps * steps_of(plan, data) / steps_of(advised, data))


def steps_of(plan: Plan, data: DataFacts, folds: int | None = None) -> int:
    """About how many optimizer steps the plan takes; duplicates and overlap are only found exactly by the run itself."""
    every = counted_rows(data)
    rows = min(every, plan.data.train_rows or every)
    rows -= rows // folds if folds else plan.data.held_out_rows or 0
    return plan.total_steps(in_batches(plan, data, max(rows - (plan.data.validation_rows or 0), 1)))


def in_batches(plan: Plan, data: DataFacts, rows: int) -> int:
    """What batches count of so many rows: rows, or of raw text the full blocks that they make."""
    if plan.task != "continued_pretraining":
        return rows
    return max(round(trained_tokens(data) * rows / max(counted_rows(data), 1) / plan.max_length), 1)


def _content(chosen: Candidate, model: ModelInspection, data: DataInspection) -> dict[str, Any]:
    settings = chosen.settings
    facts: DataFacts = data.facts
    own = {name for name in Plan.model_fields if name in type(settings).model_fields}
    hub = model.revision is not None
    return {
        "version": 1,
        "model": {
            "id": model.facts.id if hub else model.path,
            "revision": model.revision,
            "fingerprint": model.fingerprint,
        },
        "data": {
            "train": data.path,
            "eval": data.eval_path,
            **_reading(data),
            "labels": list(facts.labels or ()),
            "train_rows": data.train_rows,
            "eval_rows": data.eval_rows if facts.eval_rows is not None else None,  # else of a split that could not be used
            "validation_rows": settings.validation_rows,
            "held_out_rows": settings.held_out_rows if facts.eval_rows is None else None,
            "drop_conflicts": data.drop_conflicts,
            "split_seed": data.split_seed,
            "train_fingerprint": data.fingerprint,
            "eval_fingerprint": data.eval_fingerprint,
        },
        "task": facts.task or "classification",
        "method": chosen.method,
        "seed": 1,
        **settings.model_dump(mode="json", include=own),
    }


def _reading(data: DataInspection) -> dict[str, Any]:
    """How the rows are read: text and label of a classifier, else columns by role."""
    facts = data.facts
    pairs = "text_pair" in (facts.columns or {})
    classified = (facts.task or "classification") == "classification" and not pairs
    group = {role: name for role, name in (facts.columns or {}).items() if role == GROUP}
    return {
        "text_column": facts.text_column if classified else None,
        "label_column": facts.label_column if classified else None,
        "columns": group or None if classified else dict(facts.columns or {}),
        "layout": None if classified else facts.layout,
        "separator": None if classified else data.label_separator,
    }


class Completed(NamedTuple):
    """A person's plan, ready to run."""

    plan: Plan
    """With absolute paths, columns, labels and fingerprints: enough to repeat the run from it alone."""
    cautions: list[Caution]
    """What an expert would say about its settings."""
    facts: Facts
    """Machine, model and data, and what was counted of the plan's step."""


def completed(plan: Plan, runs: Path | None = None, *, ours: Callable[[], int] = int) -> Completed:
    """What the plan leaves open, found out. `ours` tells the bytes of main memory that the run's own worker has taken already:
    they are there for the run. The memory of its step is counted (seconds, the first time).

    Raises:
        InputError: model or data cannot be used, or are not those the plan was made for.
        Refused: it cannot run on this machine now.
    """
    model = inspect_model(plan.model.id, weights=False, revision=plan.model.revision)
    check_task(plan.task, model.facts.family)
    check_trainable(model)
    if plan.model.fingerprint not in (None, model.fingerprint, model.headers):
        raise InputError(f"{plan.model.id}: is not the model that the plan was made for; make a new plan.")
    check_here(plan, model.facts)
    data = _data_of(plan, model.path)
    made = _exact(plan, model, data)
    machine = inspect_machine(runs, try_nf4=plan.method == "qlora")
    if machine.ram_available is not None:
        machine = machine.model_copy(update={"ram_available": machine.ram_available + ours()})
    known = all_facts(machine, model, data)
    check_rate(made, known)  # before seconds of counting
    counted = with_counted_steps(known, lambda _: [made], advised=False)
    check_fits(made, counted)
    if not model.weights_here:
        inspect_model(plan.model.id, revision=model.revision)  # which fetches them, now that they are wanted
    settings = made.model_dump() | {"rows": in_batches(made, data.facts, _trained_on(plan.data, data.facts))}
    return Completed(made, lint_for(settings, counted), counted)


def _data_of(plan: Plan, model_path: str) -> DataInspection:
    """The plan's rows, as it reads them.

    Raises:
        InputError: they cannot be used, or are not those the plan was made for.
    """
    rows = plan.data
    data = inspect_data(
        rows.train,
        eval=rows.eval,
        text_column=rows.text_column,
        label_column=rows.label_column,
        columns=nameable(rows.columns or {}),
        task=plan.task,
        train_rows=rows.train_rows,
        eval_rows=rows.eval_rows,
        split_seed=rows.split_seed,
        drop_conflicts=rows.drop_conflicts,
        model_path=model_path,
    )
    check_rows(plan, data.facts)
    if rows.train_fingerprint not in (None, data.fingerprint):
        raise InputError(f"{rows.train} has changed since the plan was made; point to it with --data, or make a new plan.")
    if rows.eval_fingerprint not in (None, data.eval_fingerprint):
        raise InputError(f"{rows.eval} has changed since the plan was made; point to it with --eval, or make a new plan.")
    return data


def _exact(plan: Plan, model: ModelInspection, data: DataInspection) -> Plan:
    """The plan with what it needs to be repeated from it alone."""
    found = {
        "train": data.path,
        "eval": data.eval_path,
        **_reading(data),
        "labels": plan.data.labels or list(data.facts.labels or ()),
        "train_fingerprint": data.fingerprint,
        "eval_fingerprint": data.eval_fingerprint,
    }
    name = plan.model.id if model.revision is not None else model.path
    exact = {"id": name, "revision": model.revision, "fingerprint": model.fingerprint}
    return plan.model_copy(update={"model": plan.model.model_copy(update=exact), "data": plan.data.model_copy(update=found)})


def _trained_on(choice: DataChoice, data: DataFacts) -> int:
    """How many rows are left for training."""
    usual = split_of(data)
    carved = usual.validation if choice.validation_rows is None else choice.validation_rows
    if choice.eval is None:
        carved += usual.held_out if choice.held_out_rows is None else choice.held_out_rows
    return max(counted_rows(data) - carved, 1)
