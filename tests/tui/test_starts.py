"""Starting from the plan: against advice, where it cannot be, and where it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recommender.errors import Refused
from recommender.facts import Machine
from recommender.plan import Plan
from tests.tui.driving import ready
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.confirm import ConfirmScreen
from tui.screens.recommendation import RecommendationScreen

Screen = Callable[[LoracleApp], str]


@pytest.mark.usefixtures("known")
async def test_advice_against_a_run_asks_before_starting(
    *, rows: Path, runs: Path, make_data: Any, started: list[Plan], monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(rows_each=12))
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "Not yet" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen))
        assert not started
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("right", "enter")
        await wait(pilot, lambda: bool(started))
    assert started[0].overrides


@pytest.mark.usefixtures("known")
async def test_what_does_not_fit_cannot_be_started(
    *, rows: Path, runs: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    tiny = machine.model_copy(update={"ram_available": 200_000_000})
    monkeypatch.setattr("engine.inspect.inspect_machine", lambda runs=None: tiny)
    monkeypatch.setattr("engine.runs.start", lambda *a, **more: pytest.fail("started"))
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "Nothing fits" in screen(app))
        await pilot.press("1", "enter")
        await wait(pilot, lambda: "cannot start" in screen(app))
        assert "far too little" in screen(app)


@pytest.mark.usefixtures("known")
async def test_a_refused_start_is_said_and_the_choice_stays(
    *, rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise Refused("the disk is [bold]full")

    monkeypatch.setattr("engine.runs.start", refuse)
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await pilot.press("enter")
        await wait(pilot, lambda: "the disk is [bold]full" in screen(app))
