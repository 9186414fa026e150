"""The goal is asked for where it matters, and the advice follows at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.inspect import DataInspection, ModelInspection
from recommender.facts import Facts, Goal
from recommender.plan import Plan
from recommender.questions import Answer, Question
from tests.tui.driving import screen, wait
from tui.app import LoracleApp
from tui.draft import Draft
from tui.goal import in_words, tell_me_more
from tui.screens.goal import GoalScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.run import RunScreen
from tui.screens.setup import SetupScreen


@pytest.fixture
def app(
    model: ModelInspection, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: Path
) -> LoracleApp:  # fmt: skip
    """A model large enough for adapters to be worth something: several variants speak for them."""
    larger = model.facts.model_copy(update={"parameters": 110_000_000})
    known = ModelInspection(facts=larger, path=model.path, revision=None, fingerprint=model.fingerprint)
    monkeypatch.setattr("engine.inspect.inspect_model", lambda name, **options: known)
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(rows_each=2_000))
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nhello,a\nbye,b\n")
    return LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)


async def to_recommendation(app: LoracleApp, pilot: Any) -> RecommendationScreen:
    await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.ready)
    await pilot.press("ctrl+r")
    await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
    assert isinstance(app.screen, RecommendationScreen)
    return app.screen


async def test_an_answer_changes_the_advice_at_once_and_goes_with_the_run(
    app: LoracleApp, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Plan, Facts]] = []
    run = make_run().run

    def start(plan: Plan, recommendation: object, root: Path, *, facts: Facts, waiting: object) -> Any:
        started.append((plan, facts))
        return run

    monkeypatch.setattr("engine.runs.start", start)
    async with app.run_test(size=(80, 24)) as pilot:
        below = await to_recommendation(app, pilot)
        assert "Recommended: Full" in screen(app)
        await wait(pilot, lambda: "g: your goal could make it LoRA" in screen(app))
        await pilot.press("g")
        await wait(pilot, lambda: isinstance(app.screen, GoalScreen) and "(●) one" in screen(app))
        assert "two or three  → LoRA" in screen(app)
        while "two or three" not in str(app.screen.query_one("#questions").highlighted_option.prompt):  # type: ignore[attr-defined]
            await pilot.press("down")
        await pilot.press("enter")
        await wait(pilot, lambda: "Advice now: LoRA" in screen(app))
        assert "(●) two or three" in screen(app)
        await pilot.press("escape")
        await wait(pilot, lambda: app.screen is below and "Recommended: LoRA" in screen(app))
        assert "Goal: 2 variants of the model" in screen(app)
        await pilot.press("escape")  # to set-up and back: what was said is not forgotten
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen))
        again = await to_recommendation(app, pilot)
        await wait(pilot, lambda: "Goal: 2 variants of the model" in screen(app))
        before = again.advice
        await pilot.press("m")
        await wait(pilot, lambda: again.advice is not None and again.advice is not before)
        assert again.advice is not None
        assert again.advice.facts.goal.adapters_wanted == 2, "looking at the machine again keeps the goal"
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
    ((plan, facts),) = started
    assert plan.method == "lora"
    assert not plan.overrides
    assert facts.goal.adapters_wanted == 2


async def test_where_no_answer_changes_anything_that_is_said(
    app: LoracleApp, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(rows_each=12))
    async with app.run_test(size=(80, 24)) as pilot:
        below = await to_recommendation(app, pilot)
        await wait(pilot, lambda: "Not yet" in screen(app))
        assert "your goal" not in screen(app)
        await pilot.press("g")
        await wait(pilot, lambda: "No other goal would change" in screen(app))
        assert app.screen is below


def test_a_goal_in_words_says_what_is_no_default() -> None:
    assert in_words(Goal()) == []
    said = in_words(Goal(purpose="code", time_budget_hours=2, forgetting="medium", adapters_wanted=3, ship_in_4_bit=True))
    assert said == [
        "for code",
        "within 2.0 h",
        "forgetting would hurt somewhat",
        "3 variants of the model",
        "to be used in 4 bits",
    ]


def test_hints_name_flags_by_what_they_lead_to() -> None:
    forgetting = Question("forgetting", "?", (Answer("low", "little", "full"), Answer("high", "much", "lora")), "low", "low")
    four_bit = Question("ship_in_4_bit", "?", (Answer(False, "no", "full"), Answer(True, "yes", "lora")), False, False)
    rank = (("rank", 256),)
    answers = (Answer("task", "task", "full"), Answer("knowledge", "facts", "not_yet"), Answer("code", "code", "full", rank))
    purpose = Question("purpose", "?", (*answers, Answer("domain", "field", "full", rank)), "task", "task")
    asked = (forgetting, four_bit, purpose)
    assert tell_me_more(asked, Goal()) == [
        "Tell me more: --forgetting high or --ship-4bit would make it LoRA; --purpose knowledge means not to fine-tune yet.",
        "And: --purpose code means rank 256.",
    ]
    assert tell_me_more(asked, Goal(forgetting="low", ship_in_4_bit=False)) == [
        "Tell me more: --purpose knowledge means not to fine-tune yet.", "And: --purpose code means rank 256.",
    ]  # fmt: skip
    assert tell_me_more((), Goal()) == []
