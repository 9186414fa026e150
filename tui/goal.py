"""The goal in words: what was said of it, and which flags would say more."""

from collections.abc import Iterable

from recommender.facts import Goal
from recommender.questions import Answer, Question
from tui.flags import GOAL_FLAGS
from tui.words import duration

PURPOSES = {
    "task": "one task",
    "assistant": "an assistant",
    "style": "a style or format",
    "knowledge": "facts to recall",
    "domain": "a field or language",
    "code": "code",
}


def in_words(goal: Goal) -> list[str]:
    """What differs from the defaults, a few words each; the note is not among them."""
    said = []
    if goal.purpose != "task":
        said.append(f"for {PURPOSES[goal.purpose]}")
    if goal.time_budget_hours is not None:
        said.append(f"within {duration(goal.time_budget_hours * 3600)}")
    if goal.forgetting != "low":
        said.append(f"forgetting would hurt {'much' if goal.forgetting == 'high' else 'somewhat'}")
    if goal.adapters_wanted > 1:
        said.append(f"{goal.adapters_wanted} variants of the model")
    if goal.sequential_updates > 1:
        said.append(f"trained on top of itself {goal.sequential_updates} times")
    if goal.ship_in_4_bit:
        said.append("to be used in 4 bit")
    if goal.continued_pretraining:
        said.append("raw text to be learned as it is")
    return said


def tell_me_more(questions: Iterable[Question], goal: Goal) -> list[str]:
    """At most two lines: the flags that would change the verdict, then those that would change settings.

    What was said already is not asked again.
    """
    outcomes: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for question in questions:
        if question.field in goal.model_fields_set:
            continue
        known: set[str] = set()
        for answer in question.news:
            if answer.leads_to not in known:
                known.add(answer.leads_to)
                outcomes[bool(answer.changes)].setdefault(answer.leads_to, []).append(flag(question.field, answer))
    lines = []
    if outcomes[False]:
        lines.append("Tell me more: " + "; ".join(f"{_either(f)} would make it {o}" for o, f in outcomes[False].items()) + ".")
    if outcomes[True]:
        start = "It would also change settings: " if lines else "Tell me more: "
        lines.append(start + "; ".join(f"{_either(f)} means {o}" for o, f in outcomes[True].items()) + ".")
    return lines


def flag(field: str, answer: Answer) -> str:
    """The answer as a flag: `--forgetting high`, `--ship-4bit`."""
    if answer.value is True:
        return GOAL_FLAGS[field]
    value = f"{answer.value:g}" if isinstance(answer.value, float) else answer.value
    return f"{GOAL_FLAGS[field]} {value}"


def _either(flags: list[str]) -> str:
    return flags[0] if len(flags) == 1 else f"{', '.join(flags[:-1])} or {flags[-1]}"
