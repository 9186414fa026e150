"""Starting from the plan: against advice, where it cannot be, and where it is refused."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from recommender.errors import Refused
from recommender.facts import Machine
from recommender.plan import Plan
from tests.tui.driving import screen, set_up, wait
from tui.screens import plan_starts
from tui.screens.confirm import ConfirmScreen
from tui.screens.recommendation import RecommendationScreen


@pytest.mark.usefixtures("known")
async def test_advice_against_a_run_asks_before_starting(
    rows: Path, runs: Path, make_data: Any, started: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(rows_each=12))
    async with set_up(rows, runs) as (app, pilot):
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
    rows: Path, runs: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = machine.model_copy(update={"ram_available": 200_000_000})
    monkeypatch.setattr("engine.inspect.inspect_machine", lambda runs=None: tiny)
    monkeypatch.setattr("engine.runs.start", lambda *a, **more: pytest.fail("started"))
    async with set_up(rows, runs) as (app, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "Nothing fits" in screen(app))
        await pilot.press("1", "enter")
        await wait(pilot, lambda: "cannot start" in screen(app))
        assert "far too little" in screen(app)


@pytest.mark.usefixtures("known")
async def test_a_refused_start_is_said_and_the_choice_stays(rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise Refused("the disk is [bold]full")

    monkeypatch.setattr("engine.runs.start", refuse)
    async with set_up(rows, runs) as (app, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await pilot.press("enter")
        await wait(pilot, lambda: "the disk is [bold]full" in screen(app))


class Imports:
    """What stands for a worker that imports its libraries."""

    all: ClassVar[list["Imports"]] = []

    def __init__(self, plan: Plan) -> None:
        self.method, self.left = plan.method, False
        Imports.all.append(self)

    def __enter__(self) -> "Imports":
        return self

    def __exit__(self, *error: object) -> None:
        self.left = True

    def serves(self, plan: Plan) -> bool:
        return not self.left and (self.method == "qlora") == (plan.method == "qlora")

    @staticmethod
    def waiting() -> list[str]:
        return [one.method for one in Imports.all if not one.left]


@pytest.fixture
def imports(known: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("engine.launch.is_room_beside", lambda machine: True)
    monkeypatch.setattr("engine.launch.Waiting", Imports)
    monkeypatch.setattr(plan_starts, "LOOKED_AT", 0.0)
    yield
    Imports.all.clear()


@pytest.mark.usefixtures("imports")
async def test_a_worker_imports_while_the_plan_is_read_and_takes_the_run(
    rows: Path, runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    run = make_run().run

    def start(*plan: object, facts: object, waiting: Imports) -> Any:
        given.append((waiting, waiting.left))
        return run

    monkeypatch.setattr("engine.runs.start", start)
    async with set_up(rows, runs) as (_, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: len(Imports.waiting()) == 1)
        await pilot.press("3")
        await wait(pilot, lambda: Imports.waiting() == ["qlora"])
        await pilot.press("2")
        await wait(pilot, lambda: Imports.waiting() == ["lora"])
        await pilot.press("1", "enter")
        await wait(pilot, lambda: bool(given))
    assert given == [(Imports.all[-1], False)]
    assert Imports.all[-1].method == "lora", "its libraries are the same"


@pytest.mark.usefixtures("imports")
@pytest.mark.parametrize("leave", ["escape", "ctrl+q"])
async def test_a_worker_that_was_not_wanted_is_gone_with_the_plan(leave: str, rows: Path, runs: Path) -> None:
    async with set_up(rows, runs) as (_, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: bool(Imports.waiting()))
        await pilot.press(leave)
        if leave == "escape":
            await wait(pilot, lambda: not Imports.waiting())
    until = time.monotonic() + 30  # a thread does it, which nobody waits for
    while Imports.waiting():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("imports")
async def test_the_machine_is_looked_at_again_without_what_a_ready_worker_holds(
    rows: Path, runs: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with set_up(rows, runs) as (app, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: bool(Imports.waiting()))
        beside: list[list[str]] = []

        def looked(runs: Path | None = None) -> Machine:
            app.call_from_thread(app.screen.action_choose, "qlora")  # type: ignore[attr-defined]
            time.sleep(0.1)
            beside.append(Imports.waiting())
            return machine

        monkeypatch.setattr("engine.inspect.inspect_machine", looked)
        await pilot.press("m")
        await wait(pilot, lambda: bool(beside) and bool(Imports.waiting()))
    assert beside == [[]]


@pytest.mark.usefixtures("imports")
async def test_a_pilot_begins_without_the_worker_that_waits(rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[list[str]] = []

    def begun(*given: object) -> None:
        beside.append(Imports.waiting())
        raise Refused("no disk")

    plan = SimpleNamespace(hours=0.1, labels={"lora": "LoRA", "full": "full"}, mode="slice")
    monkeypatch.setattr("tui.work_start._pilot", lambda advice, model: plan)
    monkeypatch.setattr("engine.pilot.create", begun)
    async with set_up(rows, runs) as (app, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: bool(Imports.waiting()))
        await pilot.press("p")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("right", "enter")
        await wait(pilot, lambda: bool(beside))
    assert beside == [[]], "its runs have more use for the memory"


@pytest.mark.usefixtures("imports")
async def test_a_plan_that_nobody_touches_holds_no_worker_for_ever(
    rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_starts, "READ", 0.05)
    async with set_up(rows, runs) as (_, pilot):
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: bool(Imports.all) and not Imports.waiting())
        before = len(Imports.all)
        await pilot.press("2")
        await wait(pilot, lambda: len(Imports.all) > before)
