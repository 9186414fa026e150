"""The goal in words: what was said of it, and which flags would say more."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tui.flags import GOAL_FLAGS
from tui.i18n import _
from tui.words import duration

if TYPE_CHECKING:
    from recommender.facts import Goal
    from recommender.questions import Answer, Question

TO_LEARN = {
    "": _("let the data say (usual)"),
    "task": _("one task: classify, tag or score texts, or turn one text into another"),
    "assistant": _("to be an assistant that follows instructions"),
    "style": _("a style or a format"),
    "knowledge": _("facts to recall"),
    "domain": _("a field or a language"),
    "code": _("code"),
}
"""Answers to what the model is to learn; the first is no answer."""


def in_words(goal: "Goal") -> list[str]:
    """What differs from the defaults, a few words each; the note is not among them."""
    said = []
    if goal.purpose != "task":
        from recommender.questions import ANSWERS

        said.append(_("for {purpose}").format(purpose=_(dict(ANSWERS["purpose"])[goal.purpose])))
    if goal.time_budget_hours is not None:
        said.append(_("within {time}").format(time=duration(goal.time_budget_hours * 3600)))
    if goal.forgetting != "low":
        said.append(_("forgetting would hurt much") if goal.forgetting == "high" else _("forgetting would hurt somewhat"))
    if goal.adapters_wanted > 1:
        said.append(_("{n} variants of the model").format(n=goal.adapters_wanted))
    if goal.sequential_updates > 1:
        said.append(_("trained on top of itself {n} times").format(n=goal.sequential_updates))
    if goal.ship_in_4_bit:
        said.append(_("to be used in 4 bits"))
    if goal.continued_pretraining:
        said.append(_("raw text to be learned as it is"))
    return said


def tell_me_more(questions: "Iterable[Question]", goal: "Goal") -> list[str]:
    """At most two lines: the flags that would change the verdict, then those that would change settings.

    What was said already is not asked again.
    """
    verdicts: dict[str, list[str]] = {}
    settings: dict[str, list[str]] = {}
    for question in questions:
        if question.field in goal.model_fields_set:
            continue
        first = {a.leads_to: a for a in reversed(question.news)}  # of several answers to the same end, the first
        for answer in sorted(first.values(), key=question.news.index):
            if answer.verdict == "does_not_fit":
                continue  # that less time may be too little needs no telling
            outcomes = settings if answer.changes else verdicts
            outcomes.setdefault(_outcome(answer), []).append(flag(question.field, answer))
    said = ["; ".join(f"{_either(flags)} {outcome}" for outcome, flags in found.items()) for found in (verdicts, settings)]
    starts = (_("Tell me more: {words}."), _("And: {words}."))
    return [start.format(words=line) for start, line in zip(starts, filter(None, said), strict=False)]


def _outcome(answer: "Answer") -> str:
    if answer.changes:
        return _("means {change}").format(change=answer.leads_to)
    if answer.verdict == "not_yet":
        return _("means not to fine-tune yet")
    return _("would make it {method}").format(method=answer.leads_to)


def flag(field: str, answer: "Answer") -> str:
    """The answer as a flag: `--forgetting high`, `--ship-4bit`."""
    if answer.value is True:
        return GOAL_FLAGS[field]
    value = f"{answer.value:g}" if isinstance(answer.value, float) else answer.value
    return f"{GOAL_FLAGS[field]} {value}"


def _either(flags: list[str]) -> str:
    return flags[0] if len(flags) == 1 else f"{', '.join(flags[:-1])}{_(' or ')}{flags[-1]}"
