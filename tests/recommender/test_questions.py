"""Questions are asked only where an answer changes the advice, and say what each answer leads to."""

import json
from pathlib import Path
from typing import Any

import pytest

from recommender.decide import decide, recommend
from recommender.facts import DataFacts, Facts, Goal, Machine, ModelFacts
from recommender.questions import SETTINGS_THAT_MATTER, Question, every_question, questions_that_matter

GB = 1_000_000_000
CARD = Machine.model_validate(
    {"backend": "cuda", "devices": [{"name": "card", "memory_total": 80 * GB, "memory_free": 78 * GB, "bf16": True}], "nf4": True}
)
ENCODER = ModelFacts(family="encoder", parameters=110_000_000, embedding_parameters=24_000_000, layers=12, hidden_size=768,
                     intermediate_size=3072, attention_heads=12, vocabulary_size=30_522, max_positions=512)  # fmt: skip
DECODER = ModelFacts(family="decoder", parameters=1_200_000_000, embedding_parameters=260_000_000, layers=16, hidden_size=2048,
                     intermediate_size=8192, attention_heads=32, kv_heads=8, vocabulary_size=128_256,
                     max_positions=8192)  # fmt: skip
LABELLED = DataFacts(task="classification", rows=8_000, unique_rows=8_000, classes=2, label_counts=(4_000, 4_000), tokens_p50=100,
                     tokens_p95=200, tokens_p99=240, tokens_max=300, tokens_total=800_000)  # fmt: skip
WRITTEN = DataFacts(task="instruction", rows=20_000, unique_rows=20_000, tokens_p50=250, tokens_p95=600, tokens_p99=800,
                    tokens_max=1_000, tokens_total=6_000_000, trained_tokens=3_000_000)  # fmt: skip


def asked(facts: Facts) -> dict[str, Question]:
    return {q.field: q for q in questions_that_matter(facts, decide)}


@pytest.fixture(params=[(ENCODER, LABELLED), (DECODER, WRITTEN)], ids=["labels", "text"])
def facts(request: pytest.FixtureRequest) -> Facts:
    model, data = request.param
    return Facts(machine=CARD, model=model, data=data)


def test_every_answer_leads_where_deciding_on_it_leads(facts: Facts) -> None:
    now = decide(facts)
    found = questions_that_matter(facts, decide)
    assert found
    for question in found:
        assert question.current == getattr(facts.goal, question.field)
        assert question.default == getattr(Goal(), question.field)
        for answer in question.answers:
            then = recommend(facts.model_copy(update={"goal": facts.goal.model_copy(update={question.field: answer.value})}))
            assert then.verdict == answer.verdict
            differs = {n for n in SETTINGS_THAT_MATTER if getattr(then.settings, n) != getattr(now.settings, n)}
            if then.verdict == now.verdict:
                assert dict(answer.changes).keys() == differs
            assert (answer in question.news) == (then.verdict != now.verdict or bool(differs))


@pytest.mark.parametrize("field", ["task", "devices"])
def test_what_is_not_known_is_completed_before_it_is_asked_about(facts: Facts, field: str) -> None:
    """A task that only the model tells, a card that nobody named: what an answer leads to is what deciding on it says."""
    if field == "task":
        facts = facts.model_copy(update={"data": facts.data.model_copy(update={"task": None})})
    else:
        facts = facts.model_copy(update={"machine": Machine(backend="cuda")})
    for question in every_question(facts, decide):
        for answer in question.answers:
            then = recommend(facts.model_copy(update={"goal": facts.goal.model_copy(update={question.field: answer.value})}))
            assert then.verdict == answer.verdict


def test_nothing_is_asked_that_changes_nothing(facts: Facts) -> None:
    """Every field that is not asked about was tried: no answer changes verdict or settings."""
    now, found = decide(facts), asked(facts)
    tried: dict[str, tuple[Any, ...]] = {
        "forgetting": ("low", "medium", "high"), "adapters_wanted": (1, 2, 4), "sequential_updates": (1, 2, 5),
        "ship_in_4_bit": (False, True),
    }  # fmt: skip
    for field, values in tried.items():
        verdicts = {decide(facts.model_copy(update={"goal": Goal(**{field: v})})).verdict for v in values}
        if verdicts != {now.verdict}:
            assert field in found


def test_labelled_rows_are_not_asked_what_they_are_for() -> None:
    found = asked(Facts(machine=CARD, model=ENCODER, data=LABELLED))
    assert "adapters_wanted" in found, "several variants speak against full copies"
    assert not {"purpose", "continued_pretraining"} & found.keys()


@pytest.mark.parametrize("task", ["chat", "instruction", "preference", "seq2seq"])
def test_of_questions_with_answers_it_is_not_asked_whether_they_are_raw_text(task: str) -> None:
    decoder = Facts(machine=CARD, model=DECODER, data=WRITTEN)
    of_task = decoder.model_copy(update={"data": decoder.data.model_copy(update={"task": task})})
    assert not any(q.field == "continued_pretraining" for q in every_question(of_task, decide))


def test_text_is_asked_what_it_is_for_and_facts_lead_to_not_yet() -> None:
    purpose = asked(Facts(machine=CARD, model=DECODER, data=WRITTEN))["purpose"]
    (knowledge,) = (a for a in purpose.answers if a.value == "knowledge")
    assert knowledge.verdict == "not_yet"
    assert knowledge.leads_to == "not yet"


def test_where_nothing_can_be_changed_nothing_is_asked() -> None:
    """One label, or no room for any method: no goal helps, and nobody is troubled."""
    one_label = LABELLED.model_copy(update={"classes": 1, "label_counts": (8_000,)})
    assert questions_that_matter(Facts(machine=CARD, model=ENCODER, data=one_label), decide) == ()
    no_room = Machine(backend="cpu", ram_available=50_000_000)
    for model, data in ((ENCODER, LABELLED), (DECODER, WRITTEN)):
        assert questions_that_matter(Facts(machine=no_room, model=model, data=data), decide) == ()


def test_a_budget_is_asked_for_with_budgets_that_would_be_broken() -> None:
    slow = Machine(backend="cpu", cpu_cores=2, ram_available=60 * GB)
    facts = Facts(machine=slow, model=ENCODER, data=LABELLED.model_copy(update={"rows": 200_000, "unique_rows": 200_000}))
    budget = asked(facts)["time_budget_hours"]
    assert budget.answers[0].value is None
    assert {a.verdict for a in budget.news}
    for answer in budget.answers[1:]:
        assert isinstance(answer.value, float)
        assert any(c.hours.predicted > 0.8 * answer.value for c in decide(facts).candidates)


def test_an_answer_that_was_given_stays_among_the_answers() -> None:
    facts = Facts(machine=CARD, model=ENCODER, data=LABELLED, goal=Goal(adapters_wanted=7, time_budget_hours=5))
    for question in questions_that_matter(facts, decide):
        assert question.now.value == question.current


def test_a_verdict_is_asked_about_before_a_setting() -> None:
    changing = [any(a.verdict != q.now.verdict for a in q.news) for q in questions_that_matter(
        Facts(machine=CARD, model=DECODER, data=WRITTEN), decide)]  # fmt: skip
    assert changing == sorted(changing, reverse=True)


def test_situations_with_nothing_known_are_no_problem() -> None:
    situations = sorted((Path(__file__).parent / "situations").glob("*.json"))[:20]
    assert situations
    for facts in (Facts(), *(Facts.model_validate(json.loads(f.read_text())["facts"]) for f in situations)):
        for question in questions_that_matter(facts, decide):
            assert question.news
            assert all(a.verdict != question.now.verdict or a.changes for a in question.news)
