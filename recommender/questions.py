"""Questions about the goal that are worth asking: those with an answer that would change the advice.

As with flip conditions nothing is guessed: every answer is tried by deciding again on changed facts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from recommender.candidates import TIME_SHARE
from recommender.decide import completed
from recommender.facts import CLASSIFYING, Facts, Goal
from recommender.figures import plain
from recommender.flips import Decide
from recommender.language import marked, said
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation, Settings, Verdict

Value = str | int | float | bool | None

SETTINGS_THAT_MATTER = ("trained", "rank", "learning_rate", "epochs", "effective_batch", "max_length")
"""Settings of the winner that decide what comes out. Those that only decide speed, or follow from these, are no reason to ask."""
USUAL_HOURS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 48.0, 96.0, 168.0, 336.0, 720.0)
"""Time budgets as people have them: an hour, a night, a week-end."""

_SENTENCES: dict[str, str] = {
    "purpose": marked("What is the fine-tune for?"),
    "time_budget_hours": marked("How long may one run take?"),
    "forgetting": marked("How much would it hurt if the model forgot what it can do now?"),
    "adapters_wanted": marked("How many variants of this model do you want?"),
    "sequential_updates": marked("How often will this model be trained on top of itself?"),
    "ship_in_4_bit": marked("Will the model be used in 4 bits?"),
    "continued_pretraining": marked("Is raw text to be learned as it is, a language or a field of its own?"),
}
ANSWERS: dict[str, tuple[tuple[Value, str], ...]] = {
    "purpose": (
        ("task", marked("one task")),
        ("assistant", marked("an assistant")),
        ("style", marked("a style or format")),
        ("knowledge", marked("facts to recall")),
        ("domain", marked("a field or language")),
        ("code", marked("code")),
    ),
    "forgetting": (("low", marked("little")), ("medium", marked("somewhat")), ("high", marked("much"))),
    "adapters_wanted": ((1, marked("one")), (2, marked("two or three")), (4, marked("four or more"))),
    "sequential_updates": ((1, marked("once")), (2, marked("twice")), (5, marked("again and again"))),
    "ship_in_4_bit": ((False, marked("no")), (True, marked("yes"))),
    "continued_pretraining": ((False, marked("no")), (True, marked("yes"))),
}
_OF_TEXT = frozenset({"purpose", "continued_pretraining"})
"""Labelled rows say themselves what they are for; only for tasks that write text is there more to ask."""
_OF_RAW_TEXT = (None, "continued_pretraining")
"""Conversations, and questions with answers, are not raw text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One possible answer and what it leads to."""

    value: Value
    words: str
    verdict: Verdict
    changes: tuple[tuple[str, Value], ...] = ()
    """Settings that would be others than they are now, where the verdict stays: name and new value."""

    @property
    def leads_to(self) -> str:
        """The outcome in a few words: `LoRA`, `not yet`, `rank 256`."""
        if self.changes:
            return ", ".join(f"{_setting(name)} {_short(value)}".strip() for name, value in self.changes[:2])
        return verdict_word(self.verdict)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of which some answer would change the advice."""

    field: str
    """Of `Goal`."""
    sentence: str
    answers: tuple[Answer, ...]
    default: Value
    current: Value

    @property
    def news(self) -> tuple[Answer, ...]:
        """The answers that would change something; where nothing can run now, only those that open a way."""
        others = (a for a in self.answers if a.value != self.current and (a.changes or a.verdict != self.now.verdict))
        return tuple(a for a in others if a.verdict in METHODS or self.now.verdict in METHODS)

    @property
    def matters(self) -> bool:
        """Whether it is worth asking."""
        return bool(self.news)

    @property
    def now(self) -> Answer:
        """The answer that the advice rests on."""
        return next(a for a in self.answers if a.value == self.current)


_SETTING_WORDS = {
    "learning_rate": marked("learning rate"),
    "effective_batch": marked("batch"),
    "max_length": marked("length"),
    "trained": "",  # the parts say it
    "rank": marked("rank"),
    "epochs": marked("epochs"),
}


_PARTS = {
    "all": marked("training all layers"),
    "last_layers": marked("training only the last layers"),
    "no_embeddings": marked("training all but the embeddings"),
}
"""What `trained` means."""


def verdict_word(verdict: Verdict) -> str:
    """`LoRA`, `not yet`, `nothing fits`."""
    words = {"not_yet": marked("not yet"), "does_not_fit": marked("nothing fits")}
    return said(METHOD_NAMES[verdict] if verdict in METHOD_NAMES else words[verdict])


def questions_that_matter(facts: Facts, decide: Decide) -> tuple[Question, ...]:
    """The questions of which at least one answer changes the verdict, or a setting in `SETTINGS_THAT_MATTER`.

    Those that would change the verdict come first. Where no answer changes anything, nothing is asked: a gate that the
    data closed, or a machine on which nothing fits, is not opened by a goal.
    """
    found = [q for q in every_question(facts, decide) if q.matters]
    return tuple(sorted(found, key=lambda q: not any(a.verdict != q.now.verdict for a in q.news)))


def every_question(facts: Facts, decide: Decide) -> tuple[Question, ...]:
    """All questions that make sense for the task, always in the same order, with what each answer leads to.

    Facts that leave task or device open are completed as `recommend` does it, for each answer anew: a goal may name the task.
    """
    whole = completed(facts)[0]
    now = decide(whole)
    senseless = set(_OF_TEXT) if whole.data.task in CLASSIFYING else set()
    if facts.data.task not in _OF_RAW_TEXT:
        senseless.add("continued_pretraining")
    found = []
    for field, sentence in _SENTENCES.items():
        if field not in senseless:
            current: Value = getattr(facts.goal, field)
            answers = tuple(_tried(facts, field, current, now, decide))
            found.append(Question(field, sentence, answers, Goal.model_fields[field].default, current))
    return tuple(found)


def _tried(facts: Facts, field: str, current: Value, now: Recommendation, decide: Decide) -> Iterator[Answer]:
    for value, words in _possible(field, current, now):
        if value == current:
            yield Answer(value, words, now.verdict)
            continue
        then = decide(completed(facts.changed("goal", **{field: value}))[0])
        yield Answer(value, words, then.verdict, _changes(now, then))


def _possible(field: str, current: Value, now: Recommendation) -> tuple[tuple[Value, str], ...]:
    """The answers to try; the current one is always among them."""
    answers = _hours(now) if field == "time_budget_hours" else ANSWERS[field]
    if any(value == current for value, _ in answers):
        return answers
    return (*answers, (current, _hours_words(current) if field == "time_budget_hours" else _short(current)))


def _hours(now: Recommendation) -> tuple[tuple[Value, str], ...]:
    """No limit, and for each candidate the longest usual budget that it would break."""
    broken = set()
    for candidate in now.candidates:
        longer = [h for h in USUAL_HOURS if candidate.hours.predicted > TIME_SHARE * h]
        if candidate.fits and longer:
            broken.add(longer[-1])
    return ((None, "no limit"), *((h, _hours_words(h)) for h in sorted(broken, reverse=True)))


def _hours_words(hours: Value) -> str:
    if not isinstance(hours, int | float):
        return "no limit"
    if hours < 1:
        return f"{hours * 60:g} min"
    return f"{hours:g} h" if hours < 48 else f"{hours / 24:g} days"


def _changes(now: Recommendation, then: Recommendation) -> tuple[tuple[str, Value], ...]:
    """What is trained otherwise, where the verdict stays and means training."""
    if now.verdict != then.verdict or now.verdict not in METHODS:
        return ()
    before, after = _values(now.settings), _values(then.settings)
    return tuple((name, after[name]) for name in SETTINGS_THAT_MATTER if before[name] != after[name])


def _values(settings: Settings) -> dict[str, Value]:
    return {name: getattr(settings, name) for name in SETTINGS_THAT_MATTER}


def _short(value: Value) -> str:
    if isinstance(value, float):
        return plain(value)
    words = _PARTS.get(str(value), str(value).replace("_", " "))
    return said(words)


def _setting(name: str) -> str:
    words = _SETTING_WORDS.get(name, name)
    return said(words)
