"""The advice that the plan screen shows, and how it changes with what a person says: blocking calls, every import inside."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recommender.errors import LoracleError
from tui import settings
from tui.draft import Draft

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection
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
    from engine.inspect import all_facts

    return decided(all_facts(machine, model, data, draft.wanted()), model, data, draft)


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
        advice.recommendation.candidate(method),
        advice.model,
        advice.data,
        assignments=settings.assignments(assignments, has_plan=False),
    )


def chain(advice: Advice) -> "tuple[Step, ...]":
    """The whole decision, step by step."""
    from recommender.explain import explain

    return explain(advice.facts, advice.recommendation)


def computing(advice: Advice, method: str) -> list[str]:
    """How that method computes and why, a sentence each: the allocator, torch.compile, the kernels."""
    from recommender.edits import reasons_of
    from recommender.setting_reasons import COMPUTING

    found = reasons_of(advice.facts, advice.candidate(method))
    return [found[name].text for name in COMPUTING if name in found]


def reasons_of(advice: Advice, method: str) -> dict[str, str]:
    """Why each setting of that method is what it is, in a sentence with its sources, by name."""
    from recommender.edits import reasons_of

    found = reasons_of(advice.facts, advice.recommendation.candidate(method))
    return {name: f"{r.text} ({r.source})" if r.source else r.text for name, r in found.items()}
