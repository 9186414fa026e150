"""From set-up to a started run, as a person goes through it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.inspect import DataInspection
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import Facts, Machine
from recommender.plan import Plan
from tests.tui.driving import ready, screen, set_up, showing, wait
from tui import draft as drafts
from tui import views_setup, work_plan
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.recommendation import RecommendationScreen
from tui.screens.run import RunScreen
from tui.screens.setup import SetupScreen


def test_the_line_of_memory_tells_bytes_only_where_they_were_counted(facts: Facts) -> None:
    def line(free: float, **memory: object) -> str:
        machine = facts.machine.model_copy(update={"ram_available": int(free)})
        found = recommend(facts.model_copy(update={"machine": machine})).candidates
        told = [c.model_copy(update={"memory": c.memory.model_copy(update=memory)}) for c in found]
        return str(views_setup.memory_line(told, whole=True))

    assert line(30e9) == "Memory  Full ✓  LoRA ✓  QLoRA ✓  30.0 GB free; figures come with the plan"
    assert "Full ✗" in line(0.3e9)
    assert "Full ?" in line(2.2e9)  # the formula says 1.9
    assert line(2.2e9).endswith("2.2 GB free; ? is close, the plan tells")
    counted = line(2.2e9, counted=True, near=False, predicted=10**9)
    assert counted == "Memory  Full ✓ ~1.0 GB  LoRA ✓ ~1.0 GB  QLoRA ✓ ~1.0 GB  of 2.2 GB free"


@pytest.mark.usefixtures("known")
async def test_the_machine_may_be_known_before_set_up_is_put_together(runs: Path, machine: Machine) -> None:
    app = LoracleApp(draft=Draft(), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen) and "2 cores" in screen(app)) as pilot:
        app.open_setup()
        app.know_machine(machine)
        await wait(pilot, lambda: len(app.screen_stack) == 3 and "2 cores" in screen(app))


@pytest.mark.usefixtures("known")
async def test_the_whole_way_to_a_started_run(
    rows: Path, runs: Path, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Plan, object]] = []
    worker = make_run()

    def start(plan: Plan, recommendation: object, root: Path, *, facts: Facts, waiting: object) -> Any:
        started.append((plan, recommendation))
        assert root == runs
        return worker.run

    monkeypatch.setattr("engine.runs.start", start)
    async with set_up(rows, runs) as (app, pilot):
        await wait(pilot, lambda: "where is my parcel" in screen(app))
        shown = screen(app)
        assert "600 rows · 2 classes" in shown
        assert "billing: 300 · delivery: 300" in shown
        await wait(pilot, lambda: "LoRA ✓" in screen(app))  # the memory line
        await pilot.press("escape")
        await wait(pilot, lambda: "22.7 M parameters" in screen(app))
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await wait(pilot, lambda: screen(app).count("fits") >= 3)
        shown = screen(app)
        assert all(f"{n} {name}" in shown for n, name in ((1, "Full"), (2, "LoRA"), (3, "QLoRA")))
        assert "Recommended: Full" in shown
        assert "~" in shown
        await pilot.press("2", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape", "n")  # the next one begins with nothing said
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and "● 1 Goal" in screen(app))
    plan, recommendation = started[0]
    assert plan.method == "lora"
    assert plan.overrides
    assert recommendation is not None


@pytest.mark.usefixtures("known")
async def test_a_draft_that_one_was_in_the_middle_of_outlives_another_one(rows: Path, runs: Path) -> None:
    drafts.keep(Draft(model="mine", goal={"purpose": "code"}))
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app) and any("ctrl+l lists all drafts" in n.message for n in app._notifications))
        await pilot.press("ctrl+l")
        await wait(pilot, lambda: "mine · no data yet" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.draft.model == "mine")
        await pilot.press("ctrl+q")
    assert drafts.kept() == Draft(model="mine", goal={"purpose": "code"})
    assert [d.model for d in drafts.aside()] == ["demo"]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.faults)])
async def test_the_flow_by_keyboard_and_the_draft_it_leaves(
    size: tuple[int, int], rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rows.parent)
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn?" in screen(app), size) as pilot:
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: "to choose from" in screen(app))
        assert "needs a model" in screen(app)
        await pilot.press("down", "enter")  # the first of the list is the demo's
        await wait(pilot, lambda: "22.7 M parameters" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: app.screen.query_one("#data").has_focus)
        await pilot.press(*rows.name)
        await pilot.press("enter")
        await wait(pilot, lambda: ready(app) and app.screen.query_one("#held-out").has_focus)
        await pilot.press("enter")
        await wait(pilot, lambda: app.screen.query_one("#found").has_focus)
        await pilot.press("enter")
        await wait(pilot, lambda: "Hours one run may take" in screen(app))
        await pilot.press(*"2.5", "tab", "1", "shift+tab", "enter")  # but not past one that is wrong
        await wait(pilot, lambda: app.focused is app.screen.query_one("#take") and "At least 2 rows" in screen(app))
        await pilot.press("backspace", *"400", "enter")  # enter goes on from any line
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen))
        await pilot.press("escape", "escape", "escape", "escape", "escape")
        await wait(pilot, lambda: not isinstance(app.screen, SetupScreen))
    again = LoracleApp(runs=runs)
    async with again.run_test(size=size) as pilot:
        await wait(pilot, lambda: ready(again))
        setup = again.screen
        assert isinstance(setup, SetupScreen)
        assert (setup.draft.model, setup.draft.data) == ("demo", rows.name)
        assert setup.draft.goal == {"purpose": "assistant", "time_budget_hours": 2.5}
        assert setup.draft.train_rows == 400
        await pilot.press("ctrl+n")
        await wait(pilot, lambda: "What is the model to learn?" in screen(again))
        assert isinstance(again.screen, SetupScreen)
        assert again.screen.draft == Draft()


@pytest.mark.usefixtures("known")
async def test_the_demo_is_one_key(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "d tries the demo" in screen(app)) as pilot:
        await pilot.press("d")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)


@pytest.mark.usefixtures("known")
async def test_what_cannot_be_used_is_said_in_place_and_the_app_goes_on(
    rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(data: str, **options: object) -> DataInspection:
        asked.append(data)
        raise InputError(f"{data}: every row has the label [/], so there is nothing to learn \x1b]52;c;aGk=\x07.")

    monkeypatch.setattr("engine.inspect.inspect_data", refuse)
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with showing(app, lambda: "nothing to learn" in screen(app), (120, 40)) as pilot:
        assert "[/]" in screen(app)
        assert "\x1b" not in screen(app)
        looks = len(asked)
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: len(asked) > looks and "nothing to learn" in screen(app))  # put right, perhaps
        assert isinstance(app.screen, SetupScreen)


@pytest.mark.usefixtures("known")
async def test_a_mistake_in_a_worker_is_said_and_ends_nothing(rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> work_plan.Advice:
        raise ZeroDivisionError("[/] oops")

    monkeypatch.setattr(work_plan, "advise", broken)
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait(pilot, lambda: ready(app))
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "oops" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen))
