"""The plan screen: settings changed and judged while one types, the run as a command, a pilot."""

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.widgets import Input

from engine.groups import Group
from engine.inspect import DataInspection, ModelInspection
from engine.prediction.candidates import with_counted_steps
from recommender.decide import recommend
from recommender.facts import Facts, Machine
from recommender.plan import Plan
from recommender.recommendation import Caution
from tests.tui.driving import screen, wait
from tui import commands_advice, editable, words, work_plan, work_start
from tui.app import LoracleApp
from tui.cli import _parser
from tui.draft import Draft, of_plan
from tui.screens.confirm import ConfirmScreen
from tui.screens.edit import EditScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.run import RunScreen
from tui.widgets.candidate_card import CandidateCard


@pytest.fixture
def advice(facts: Facts, model: ModelInspection, make_data: Callable[..., DataInspection]) -> work_plan.Advice:
    return work_plan.decided(facts, model, make_data(), Draft(model="demo", data="rows.csv"))


@pytest.fixture
def plan_screen(model: ModelInspection, make_data: Callable[..., DataInspection]) -> RecommendationScreen:
    return RecommendationScreen(model, make_data(), Draft(model="demo", data="rows.csv"))


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.faults)])
async def test_a_setting_is_changed_and_judged_at_once(
    size: tuple[int, int], runs: Path, plan_screen: RecommendationScreen, started: list[Plan]
) -> None:  # fmt: skip
    app = LoracleApp(runs=runs)
    async with app.run_test(size=size) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        await pilot.press("y")
        await wait(pilot, lambda: "Recommended: Full" in app.clipboard)
        assert "LoRA: fits" in app.clipboard
        await pilot.press("2")
        await wait(pilot, lambda: "Recommended: Full" in screen(app) and "Enter starts LoRA." in screen(app))
        await pilot.press("e")
        await wait(pilot, lambda: isinstance(app.screen, EditScreen))
        await pilot.pause()
        assert "learning rate" in screen(app)
        await pilot.press("f1")
        await wait(pilot, lambda: "take or change what is marked" in screen(app))
        await pilot.press("escape", "enter")
        await wait(pilot, lambda: "enter keeps it" in screen(app))
        await pilot.press("backspace", "backspace", "backspace", "backspace", "0")
        await wait(pilot, lambda: "greater than 0" in screen(app))
        await pilot.press("enter")  # what cannot be is not taken
        assert isinstance(app.screen, EditScreen)
        app.screen.query_one("#edit-value", Input).value = "1e-5"
        await wait(pilot, lambda: "far too low for LoRA" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: "1 changed" in screen(app))
        assert "advised: 5e-4" in screen(app)
        await pilot.press("j", "enter")
        app.screen.query_one("#edit-value", Input).value = "2"
        before = plan_screen.advice.candidate("lora").hours.predicted if plan_screen.advice else 0
        await pilot.press("enter")
        await wait(pilot, lambda: "2 changed" in screen(app))
        assert plan_screen.advice is not None
        assert plan_screen.advice.candidate("lora").hours.predicted < before / 2
        await pilot.press("delete")
        await wait(pilot, lambda: "1 changed" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen))
        await pilot.pause()
        assert "edited" in str(plan_screen.query_one("#card-lora", CandidateCard).render())
        assert "far too low for LoRA" in screen(app)
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
    assert started[0].method == "lora"
    assert started[0].learning_rate == 1e-5
    assert started[0].epochs != 2


async def test_a_run_longer_than_a_night_is_started_only_after_a_question(
    runs: Path, plan_screen: RecommendationScreen, advice: work_plan.Advice, started: list[Plan]
) -> None:
    long = advice.recommendation.best.hours.model_copy(update={"predicted": 22.7})
    late = tuple(c.model_copy(update={"hours": long}) for c in advice.recommendation.candidates)
    told = Caution(code="slow", text="This would take about 22.7 h here. Try about 900 rows first.", facts={})
    slow = advice.recommendation.model_copy(update={"candidates": late, "warnings": (told,)})
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        plan_screen._take(replace(advice, recommendation=slow))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen) and "Try about 900 rows first." in screen(app))
        await pilot.press("escape", "3", "enter")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen) and "QLoRA would take about 22.7 h here." in screen(app))
        assert "Start it all the same?" in screen(app)
        assert not started
        await pilot.press("right", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
    assert [plan.method for plan in started] == ["qlora"]


async def test_warnings_below_the_fold_are_counted_above_it(
    runs: Path, plan_screen: RecommendationScreen, advice: work_plan.Advice
) -> None:
    warned = advice.recommendation.model_copy(update={"warnings": [Caution(code="other", text="Other rows.", facts={})] * 2})
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        plan_screen._take(replace(advice, recommendation=warned))
        await wait(pilot, lambda: "Why   ! 2 things worth knowing, below" in screen(app))
        assert "Other rows." not in screen(app)
        await pilot.resize_terminal(120, 40)
        await wait(pilot, lambda: "Other rows." in screen(app) and "below" not in screen(app))


async def test_settings_that_do_not_fit_are_refused_before_anything_starts(
    runs: Path, plan_screen: RecommendationScreen, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run()  # with none the app would open set-up
    monkeypatch.setattr("engine.runs.start", lambda *args, **more: pytest.fail("it started"))
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        assert plan_screen.advice is not None
        edited = work_plan.change(plan_screen.advice, "full", "token_budget", "50000000")
        plan_screen._take(work_plan.change(edited, "full", "effective_batch", "500000"), choose="full")
        await pilot.pause()
        assert "far too little" in screen(app)
        await pilot.press("enter")
        await wait(pilot, lambda: "This cannot start" in screen(app))


async def test_a_pilot_says_what_it_would_do_and_starts(
    runs: Path, plan_screen: RecommendationScreen, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[Group] = []
    run = make_run().run
    monkeypatch.setattr("tui.driver.leave_running", driven.append)
    monkeypatch.setattr(Group, "current", lambda self: run)
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        await pilot.press("p")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await wait(pilot, lambda: "Start the pilot" in screen(app))
        assert "cross-validated to the end" in " ".join(screen(app).split())  # of 600 rows no slice says much
        await pilot.press("right", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
    assert driven[0].content()["kind"] == "pilot"


async def test_a_trial_of_bf16_changes_the_plan_that_is_already_there(
    *, runs: Path, machine: Machine, model: ModelInspection, make_data: Callable[..., DataInspection], make_run: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was said while it was tried holds, and a start that was asked for before it ended starts what it found."""
    started: list[Any] = []
    run = make_run().run

    def start(plan: Any, *_: object, **__: object) -> Any:
        started.append(plan)
        return run

    monkeypatch.setattr("engine.runs.start", start)
    here = machine.model_copy(update={"cpu_bf16": True})
    go_on = threading.Event()

    def answers(*_: object, **__: object) -> dict[str, Any]:
        go_on.wait(60)
        return {"methods": {"full": {"speedup": 2.0, "loss": 0.7, "loss_fp32": 0.7, "gradients_apart": 0.01}}, "whole": True}

    monkeypatch.delenv("LORACLE_TRIAL")
    monkeypatch.setattr("engine.prediction.trial.ask", answers)
    monkeypatch.setattr("engine.inspect.inspect_machine", lambda runs=None: here)
    facts = model.facts.model_copy(update={"path": model.path, "id": "/a/long/way/to/models/of-ours"})
    known = replace(model, facts=facts)
    plan_screen = RecommendationScreen(known, make_data(), Draft(model="demo", data="rows.csv"))
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: "(trying bf16…)" in screen(app))
        assert screen(app).startswith(" of-ours on "), "not the folder's whole path"
        assert plan_screen.advice is not None
        assert plan_screen.advice.candidate("full").settings.precision == "fp32"
        plan_screen._take(work_plan.change(plan_screen.advice, "full", "epochs", "7"), choose="full")
        await pilot.press("enter")
        await wait(pilot, lambda: "once bf16 has been tried" in screen(app))
        go_on.set()
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
        settings = plan_screen.advice.candidate("full").settings
        assert (settings.precision, settings.epochs) == ("bf16-mixed", 7)
    assert started[0].precision == "bf16-mixed"


async def test_a_plan_is_made_for_the_machine_as_it_is_when_it_is_opened(
    runs: Path, plan_screen: RecommendationScreen, machine: Machine
) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.know_machine(machine.model_copy(update={"problems": ("run-1 is under way.",), "ram_available": 10**6}))
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        assert plan_screen.advice is not None
        assert plan_screen.advice.facts.machine == machine


async def test_who_looks_at_the_machine_again_starts_nothing_that_waited(
    runs: Path, plan_screen: RecommendationScreen, started: list[Plan]
) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None)
        before, plan_screen._trying = plan_screen.advice, True
        await pilot.press("enter")
        await wait(pilot, lambda: "once bf16 has been tried" in screen(app))
        plan_screen._trying = False
        await pilot.press("m")
        await wait(pilot, lambda: plan_screen.advice is not before)
        await pilot.pause(0.1)
        assert not started
        assert app.screen is plan_screen


async def test_memory_is_counted_beside_a_plan_that_is_already_there(
    runs: Path, plan_screen: RecommendationScreen, started: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Until then no number stands there, or the last one that was counted; then it is the one that --auto tells, and decides
    whether a plan may start."""
    go_on = threading.Event()
    asked: list[list[dict[str, Any]]] = []

    def answers(_: dict[str, Any], plans: list[dict[str, Any]], **__: object) -> tuple[dict[str, Any], set[str]]:
        left = {plan["name"] for plan in plans if plan["beside"]}  # what decides beside: there was no time for it
        plans = [plan for plan in plans if not plan["beside"]]
        if not plans:
            return {}, left
        asked.append(plans)
        go_on.wait(60)
        step = {"peak": 123_000_000, "low": 120_000_000, "high": 130_000_000, "parts": {"weights": 123_000_000}}
        return {plan["name"]: step for plan in plans}, left

    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr("engine.prediction.candidates.each", answers)
    monkeypatch.setattr("engine.prediction.candidates.checked", lambda model: model)
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: screen(app).count("? of 12.0 GB (counting") == 3)
        assert plan_screen.advice is not None
        before = plan_screen.advice
        go_on.set()
        await wait(pilot, lambda: "counting" not in screen(app))
        memory = plan_screen.advice.candidate("full").memory
        assert memory.predicted == 123_000_000 + memory.parts["runtime"]
        auto = recommend(with_counted_steps(before.facts))
        assert plan_screen.advice.recommendation == auto
        # Another rank is another step: it is counted anew.
        times = len(asked)
        plan_screen._changed(work_plan.change(plan_screen.advice, "lora", "rank", "32"))
        await wait(pilot, lambda: len(asked) > times and "counting" not in screen(app))
        assert [(p["method"], p["settings"]["rank"]) for p in asked[-1]] == [("lora", 32)]
        # What the formula would refuse is not refused before it was counted.
        go_on.clear()
        facts = plan_screen.advice.facts
        many = facts.model_copy(update={"data": facts.data.model_copy(update={"rows": 500_000})})
        wide = work_plan.change(dataclasses.replace(plan_screen.advice, facts=many), "full", "token_budget", "50000000")
        plan_screen._changed(work_plan.change(wide, "full", "effective_batch", "500000"))
        told = words.memory_sum(memory)
        await wait(pilot, lambda: "far too little" in screen(app) and f"{told} (counting" in screen(app))
        await pilot.press("1", "enter")
        await wait(pilot, lambda: "once its memory is counted" in screen(app))
        assert not started
        go_on.set()
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))  # so much takes longer than a night
        await pilot.press("right", "enter")
        await wait(pilot, lambda: [plan.effective_batch for plan in started] == [500_000])


def test_the_copied_command_makes_the_same_plan(advice: work_plan.Advice, model: ModelInspection) -> None:
    changed = work_plan.change(work_plan.change(advice, "lora", "learning_rate", "1e-3"), "lora", "data.validation_rows", "50")
    typed = changed.draft.arguments("lora")
    given = _parser().parse_args(typed)
    look = SimpleNamespace(model=model, data=changed.data, facts=changed.facts)
    assert commands_advice._plan(given, look, changed.recommendation) == work_start.plan_of(changed, "lora", anyway=False)  # type: ignore[arg-type]
    assert given.assignments == ["learning_rate=1e-3", "data.validation_rows=50"]


def test_a_command_works_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my rows.csv").write_text("text,label\n")
    monkeypatch.chdir(tmp_path)
    draft = Draft(
        model="org/name", data="my rows.csv", columns={"text": "review"}, train_rows=100,
        goal={"forgetting": "high", "time_budget_hours": 0.5, "ship_in_4_bit": True, "purpose": None},
    )  # fmt: skip
    assert draft.command("qlora", anyway=True) == (
        f"loracle --auto --model org/name --data '{tmp_path}/my rows.csv' --text-column review --train-rows 100"
        " --hours 0.5 --forgetting high --ship-4bit --method qlora --anyway"
    )


def test_the_draft_of_a_plan_leads_to_that_plan_again(advice: work_plan.Advice) -> None:
    changed = work_plan.change(work_plan.change(advice, "lora", "rank", "64"), "lora", "seed", "7")
    plan = work_start.plan_of(changed, "lora", anyway=False)
    again = work_plan.decided(advice.facts, advice.model, advice.data, of_plan(plan))
    assert again.draft.settings == {"lora": {"rank": "64", "seed": "7"}}
    assert work_start.plan_of(again, "lora", anyway=False) == plan


def test_options_for_experts_are_settings_of_adapters_and_judged_like_others(advice: work_plan.Advice) -> None:
    experts = {"rslora", "dora", "pissa", "lora_plus_ratio"}
    assert experts < set(editable.names("lora", held_out=False, classifies=True))
    assert not experts & set(editable.names("full", held_out=False, classifies=True))
    scaled = work_plan.change(advice, "lora", "rslora", "true")
    assert "rslora" in {c.code for c in scaled.cautions("lora")}
    started = work_plan.change(advice, "lora", "pissa", "true")
    plan = work_plan.plan_with(started, "lora", started.draft.assignments("lora"))
    assert (plan.pissa, plan.dropout) == (True, 0)


def test_the_advised_value_typed_again_is_no_change(advice: work_plan.Advice) -> None:
    changed = work_plan.change(advice, "lora", "rank", "64")
    assert changed.draft.settings == {"lora": {"rank": "64"}}
    usual = work_plan.plan_with(advice, "lora", []).rank
    back = work_plan.change(changed, "lora", "rank", str(usual))
    assert back.draft.settings == {}
    assert back.edits == {}


def test_training_the_last_layers_names_how_many(advice: work_plan.Advice) -> None:
    changed = work_plan.change(advice, "full", "trained", "last_layers")
    assert work_start.plan_of(changed, "full", anyway=False).last_layers == 2
    back = work_plan.change(changed, "full", "trained", "all")
    assert back.draft.settings == {}


async def test_leaving_while_the_model_is_downloaded_starts_nothing(
    runs: Path, plan_screen: RecommendationScreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over, started = threading.Event(), threading.Event(), []

    def download(name: str, *, progress: Any, cancel: Any) -> ModelInspection:
        progress(30_000_000, 90_000_000, "bytes to download")
        begun.set()
        while not cancel.cancelled:
            time.sleep(0.01)
        over.set()
        return replace(plan_screen._model, weights_here=True)

    monkeypatch.setattr("engine.inspect.inspect_model", download)
    monkeypatch.setattr("engine.runs.start", lambda *arguments, **options: started.append(arguments))
    plan_screen._model = replace(plan_screen._model, weights_here=False)
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(plan_screen)
        await wait(pilot, lambda: plan_screen.advice is not None and not plan_screen._counting)
        await pilot.press("enter")
        await wait(pilot, begun.is_set)
        await wait(pilot, lambda: "downloaded 33% of 90.0 MB, then starting… esc cancels it" in screen(app))
        await pilot.press("escape")
        await wait(pilot, over.is_set)
        await pilot.pause(0.1)
    assert started == []
