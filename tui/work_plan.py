"""What the plan screen asks of the engine and the recommender: blocking calls for threads, every import inside."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.errors import InputError, LoracleError, Refused
from tui import draft as drafts
from tui import settings
from tui.draft import Draft
from tui.error_words import in_words

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection
    from engine.inspection.child import Cancel
    from engine.pilot import Wanted
    from engine.rundir import RunDirectory
    from recommender.edits import Edited
    from recommender.explain import Step
    from recommender.facts import Facts, Goal, Machine
    from recommender.plan import Plan
    from recommender.questions import Question
    from recommender.recommendation import Candidate, Caution, Recommendation


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything the plan screen shows and a start needs."""

    facts: "Facts"
    model: "ModelInspection"
    data: "DataInspection"
    recommendation: "Recommendation"
    questions: "tuple[Question, ...]"
    """All that can be said about the goal, and what each answer would lead to."""
    draft: Draft
    edits: "Mapping[str, Edited]"
    """Candidates with settings of the person's own, by method."""

    def candidate(self, method: str) -> "Candidate":
        """That method's candidate, with the person's own settings where there are any."""
        edited = self.edits.get(method)
        return edited.candidate if edited is not None else self.recommendation.candidate(method)

    def cautions(self, method: str) -> "tuple[Caution, ...]":
        """What an expert would say about the person's own settings."""
        edited = self.edits.get(method)
        return edited.cautions if edited is not None else ()


def advise(machine: "Machine", model: "ModelInspection", data: "DataInspection", draft: Draft) -> Advice:
    """The recommendation for these facts; a CPU's speed is measured for it (0.3 s)."""
    from engine.inspect import together

    return decided(together(machine, model, data, draft.wanted()), model, data, draft)


def wants_trial(advice: Advice) -> bool:
    """Whether it is not known yet if this processor is faster in bf16."""
    from engine.prediction.trial import is_wanted

    return is_wanted(advice.facts)


def tried(advice: Advice, cancel: "Cancel") -> "Facts":
    """The facts of that advice, with what a trial of bf16 finds; seconds."""
    from engine.prediction.trial import with_trial

    return with_trial(advice.facts, cancel=cancel)


METHODS = ("full", "lora", "qlora")


def is_uncounted(advice: Advice) -> bool:
    """Whether a trace could say more of the memory on the screen."""
    from engine.prediction.candidates import is_wanted

    return is_wanted(advice.facts, [advice.candidate(m) for m in METHODS])


def counted(advice: Advice, cancel: "Cancel") -> "Facts":
    """The facts of that advice, with the memory of the candidates' steps as traces count it; seconds."""
    from engine.prediction.candidates import with_traces

    shown = [advice.candidate(m) for m in METHODS]
    return with_traces(advice.facts, shown, fits=True, cancel=cancel)


def with_profile(advice: Advice, facts: "Facts") -> Advice:
    """The recommendation with the memory that those facts have counted, and all else as it is now."""
    measured = advice.facts.measured.model_copy(update={"memory_profile": facts.measured.memory_profile})
    return decided(advice.facts.model_copy(update={"measured": measured}), advice.model, advice.data, advice.draft)


def measured_again(advice: Advice, facts: "Facts") -> Advice:
    """The recommendation with what those facts say was measured."""
    return decided(advice.facts.model_copy(update={"measured": facts.measured}), advice.model, advice.data, advice.draft)


def reconsider(advice: Advice, goal: "Goal") -> Advice:
    """The recommendation for another goal, at once: machine, model and data are not looked at again."""
    said = {name: getattr(goal, name) for name in goal.model_fields_set}
    facts = advice.facts.model_copy(update={"goal": goal})
    return decided(facts, advice.model, advice.data, replace(advice.draft, goal=said))


def decided(facts: "Facts", model: "ModelInspection", data: "DataInspection", draft: Draft) -> Advice:
    """The recommendation for these facts, with the settings of the draft as far as they still make sense."""
    from recommender.decide import decide, recommend
    from recommender.questions import every_question

    advice = Advice(facts, model, data, recommend(facts), every_question(facts, decide), replace(draft, settings={}), {})
    for method, own in draft.settings.items():
        for name, value in own.items():
            try:
                advice = change(advice, method, name, value)
            except LoracleError:  # of another task, or more than this model reads
                continue
    return advice


def change(advice: Advice, method: str, name: str, value: str | None) -> Advice:
    """With another value for a setting of that method, judged anew at once; `None`, or the advised value, takes it back.

    Raises:
        InputError: there is no such setting, or its value is not allowed.
    """
    from recommender.edits import edited

    advised, before = advice.recommendation.candidate(method), advice.draft
    usual = plan_with(advice, method, [])
    draft = before.with_setting(method, name, value)
    if name == "trained":  # the two go together
        layers = before.settings.get(method, {}).get("last_layers", "2")
        draft = draft.with_setting(method, "last_layers", layers if value == "last_layers" else None)
    plan = plan_with(advice, method, draft.assignments(method))
    if value is not None and setting_of(plan, name) == setting_of(usual, name):
        draft = draft.with_setting(method, name, None)
        plan = plan_with(advice, method, draft.assignments(method))
    edits = {m: e for m, e in advice.edits.items() if m != method}
    if draft.settings.get(method):
        edits[method] = edited(advice.facts, advised, plan)
    return replace(advice, draft=draft, edits=edits)


def setting_of(plan: "Plan", name: str) -> Any:
    """The value of a field of the plan, by its own name or dotted."""
    value: Any = plan
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def plan_with(advice: Advice, method: str, assignments: list[str]) -> "Plan":
    """The plan of that method with assignments, whether it may run or not.

    Raises:
        InputError: an assignment is not allowed.
    """
    from engine.planning import plan_with

    return plan_with(
        advice.recommendation,
        advice.recommendation.candidate(method),
        advice.model,
        advice.data,
        {"train_rows": advice.draft.train_rows, "eval_rows": advice.draft.scored_rows},
        assignments=settings.assignments(assignments, has_plan=False),
    )


def plan_of(advice: Advice, method: str, *, anyway: bool, model: "ModelInspection | None" = None) -> "Plan":
    """The plan that would run.

    Raises:
        Refused: it would not fit, or would be wasted, and `anyway` was not said or does not help.
        InputError: model, task or a setting cannot be trained with.
    """
    from engine.planning import check_fits, plan_for

    plan = plan_for(
        advice.recommendation,
        model or advice.model,
        advice.data,
        method=method,
        train_rows=advice.draft.train_rows,
        eval_rows=advice.draft.scored_rows,
        assignments=settings.assignments(advice.draft.assignments(method), has_plan=False),
        anyway=anyway,
    )
    check_fits(plan, advice.facts, anyway=anyway)
    return plan


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against starting a method."""

    text: str
    final: bool
    """Nobody can set it aside: it does not fit, or there is nothing to learn."""


def obstacle(advice: Advice, method: str) -> Obstacle | None:
    """What stands against starting that method; `None` when nothing does."""
    try:
        plan_of(advice, method, anyway=False)
    except InputError as error:
        return Obstacle(in_words(error.message), True)
    except Refused as refused:
        try:
            plan_of(advice, method, anyway=True)
        except Refused as final:
            return Obstacle(in_words(final.message), True)
        return Obstacle(in_words(refused.message), False)
    return None


def start(advice: Advice, method: str, anyway: bool, runs: Path | None) -> "RunDirectory":
    """Write the plan for that method and start its worker.

    Raises:
        InputError: the runs folder cannot be written.
        Refused: it would not fit, or the advice is against it and `anyway` is not given.
    """
    from engine.runs import start

    plan = plan_of(advice, method, anyway=anyway, model=_with_weights(advice))
    run = start(plan, advice.recommendation, runs, facts=advice.facts)
    drafts.used(advice.draft)
    return run


def _with_weights(advice: Advice) -> "ModelInspection":
    """From the hub; as long as nobody wanted to train, its description was enough."""
    if advice.model.weights_here:
        return advice.model
    from engine.inspect import inspect_model

    return inspect_model(str(advice.model.facts.id))


def pilot_hours(advice: Advice) -> tuple[float, list[str]]:
    """What a pilot would take in hours, and the names of its candidates.

    Raises:
        Refused: a pilot cannot run here, or takes more than its share of the time.
        InputError: no rows are left to judge by.
    """
    plan = _pilot(advice, advice.model)
    return plan.hours, list(plan.labels.values())


def start_pilot(advice: Advice, runs: Path | None) -> "RunDirectory | None":
    """Start a pilot in a process of its own; its first run, once it has begun.

    Raises:
        Refused: a pilot cannot run here, or takes more than its share of the time.
        InputError: no rows are left to judge by, or the runs folder cannot be written.
    """
    from engine import groups
    from engine.runs import runs_root
    from tui import driver

    plan = _pilot(advice, _with_weights(advice))
    kept = {"mode": plan.mode, "labels": plan.labels, "stages": plan.stages, "raised": plan.raised}
    group = groups.create(
        runs_root(runs), "pilot", plan.plans, advice=advice.recommendation, facts=advice.facts, left_out=plan.left_out, **kept
    )
    driver.leave_running(group)
    drafts.used(advice.draft)
    deadline = time.monotonic() + driver.PATIENCE
    while (run := group.current()) is None and group.driven() and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


def _pilot(advice: Advice, model: "ModelInspection") -> "Wanted":
    """The candidates with the person's own settings, each with those of its method."""
    from engine.pilot import wanted

    return wanted(
        advice.recommendation,
        model,
        advice.data,
        advice.facts,
        train_rows=advice.draft.train_rows,
        eval_rows=advice.draft.scored_rows,
        assignments=settings.assignments([], has_plan=False),
        own={method: advice.draft.assignments(method) for method in advice.draft.settings},
    )


def chain(advice: Advice) -> "tuple[Step, ...]":
    """The whole decision, step by step."""
    from recommender.explain import explain

    return explain(advice.facts, advice.recommendation)


def reasons_of(advice: Advice, method: str) -> dict[str, str]:
    """Why each setting of that method is what it is, in a sentence with its sources, by name."""
    from recommender.edits import reasons_of

    found = reasons_of(advice.facts, advice.recommendation.candidate(method))
    return {name: f"{r.text} ({r.source})" if r.source else r.text for name, r in found.items()}
