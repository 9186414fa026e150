"""From set-up to a started run, as a person goes through it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Button, Select

from engine.inspect import DataInspection, ModelInspection
from recommender.errors import InputError, Refused
from recommender.facts import Facts, Machine
from recommender.plan import Plan
from tui import work_plan
from tui.app import LoracleApp
from tui.screens.confirm import ConfirmScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.run import RunScreen
from tui.screens.setup import SetupScreen

Screen = Callable[[LoracleApp], str]


@pytest.fixture
def known(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, model: ModelInspection, make_data: Callable[..., DataInspection]
) -> None:
    monkeypatch.setattr("engine.inspect.inspect_machine", lambda runs=None: machine)
    monkeypatch.setattr("engine.inspect.inspect_model", lambda name, **options: model)
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data())
    monkeypatch.setattr("engine.inspection.machine.calibrate", dict)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\nhello,a\nbye,b\n")
    return file


@pytest.mark.usefixtures("known")
async def test_the_whole_way_to_a_started_run(
    *, rows: Path, runs: Path, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    started: list[tuple[Plan, object]] = []
    worker = make_run()

    def start(plan: Plan, recommendation: object, root: Path, *, facts: Facts) -> Any:
        started.append((plan, recommendation))
        assert root == runs
        return worker.run

    monkeypatch.setattr("engine.runs.start", start)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
        await wait(pilot, lambda: "where is my parcel" in screen(app))
        shown = screen(app)
        assert "22.7 M parameters" in shown
        assert "600 rows · 2 classes" in shown
        assert "billing 300 · delivery 300" in shown
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await pilot.pause(0.2)
        shown = screen(app)
        assert all(f"{n} {name}" in shown for n, name in ((1, "Full"), (2, "LoRA"), (3, "QLoRA")))
        assert shown.count("fits") >= 3
        assert "Recommended: Full" in shown
        assert "~" in shown
        await pilot.press("2", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
    plan, recommendation = started[0]
    assert plan.method == "lora"
    assert plan.overrides
    assert recommendation is not None


@pytest.mark.usefixtures("known")
async def test_what_cannot_be_used_is_said_in_place_and_the_app_goes_on(
    *, rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    def refuse(data: str, **options: object) -> DataInspection:
        raise InputError(f"{data}: every row has the label [/], so there is nothing to learn \x1b]52;c;aGk=\x07.")

    monkeypatch.setattr("engine.inspect.inspect_data", refuse)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait(pilot, lambda: "nothing to learn" in screen(app))
        assert "[/]" in screen(app)
        assert "\x1b" not in screen(app)
        await pilot.press("ctrl+r")
        assert isinstance(app.screen, SetupScreen)


@pytest.mark.usefixtures("known")
async def test_a_late_answer_about_an_older_model_is_dropped(
    *, rows: Path, runs: Path, model: ModelInspection, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    asked: list[str] = []
    release = threading.Event()

    def slow(name: str, **options: Any) -> ModelInspection:
        asked.append(name)
        if name == "first-model":
            release.wait(20)
            raise InputError("the older answer")
        return model

    monkeypatch.setattr("engine.inspect.inspect_model", slow)
    app = LoracleApp(model="first-model", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen))
        app.screen.query_one("#model").focus()
        await pilot.press("enter")
        await wait(pilot, lambda: asked == ["first-model"])
        assert isinstance(app.screen, SetupScreen)
        app.screen.field("model").fill("demo")
        await wait(pilot, lambda: "22.7 M" in screen(app))
        release.set()
        await pilot.pause(0.3)
        assert "the older answer" not in screen(app)
        assert "22.7 M" in screen(app)


@pytest.mark.usefixtures("known")
async def test_other_columns_can_be_chosen(
    *, rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    asked: list[tuple[object, object]] = []

    def data(name: str, **options: Any) -> DataInspection:
        asked.append((options["text_column"], options["label_column"]))
        return make_data(label_column=options["label_column"] or "label")

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
        app.screen.query_one("#label", Select).value = "id"
        await wait(pilot, lambda: ("text", "id") in asked)


@pytest.mark.usefixtures("known")
async def test_advice_against_a_run_asks_before_starting(
    *, rows: Path, runs: Path, make_data: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(rows_each=12))
    started: list[Plan] = []
    run = make_run().run

    def start(plan: Plan, recommendation: object, root: Path, *, facts: Facts) -> Any:
        started.append(plan)
        return run

    monkeypatch.setattr("engine.runs.start", start)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
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
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "Nothing fits" in screen(app))
        await pilot.press("1", "enter")
        await wait(pilot, lambda: "cannot start" in screen(app))
        assert "does not fit" in screen(app)


@pytest.mark.usefixtures("known")
async def test_a_refused_start_is_said_and_the_choice_stays(
    *, rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise Refused("the disk is [bold]full")

    monkeypatch.setattr("engine.runs.start", refuse)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await pilot.press("enter")
        await wait(pilot, lambda: "the disk is [bold]full" in screen(app))


@pytest.mark.usefixtures("known")
async def test_a_mistake_in_a_worker_is_said_and_ends_nothing(
    *, rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    def broken(*args: object) -> work_plan.Advice:
        raise ZeroDivisionError("[/] oops")

    monkeypatch.setattr(work_plan, "advise", broken)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and not app.screen.query_one("#go", Button).disabled)
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: "oops" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen))


@pytest.mark.usefixtures("known")
async def test_files_are_completed_and_picked_by_keyboard(tmp_path: Path, runs: Path, screen: Screen, wait: Any) -> None:
    folder = tmp_path / "a folder with a name so long that its path takes more than one line of the dialog" / "many"
    (folder / "inner").mkdir(parents=True)
    (folder / "train-one.csv").write_text("text,label\na,b\n")
    (folder / "train-two.csv").write_text("text,label\na,b\n")
    (folder / "notes.bin").write_bytes(b"x")
    (folder / "bad\x1b]0;title\x07.csv").write_text("text,label\na,b\n")
    app = LoracleApp(model="demo", runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        setup.query_one("#data").focus()
        setup.field("data").fill(f"{folder}/tr")
        await pilot.press("tab")
        await wait(pilot, lambda: setup.field("data").value == f"{folder}/train-")
        await wait(pilot, lambda: "train-one.csv · train-two.csv" in screen(app))
        await pilot.press("ctrl+o")
        await wait(pilot, lambda: "train-two.csv" in screen(app) and "folder above" in screen(app))
        assert "notes.bin" not in screen(app)
        assert "title" not in screen(app)
        await pilot.press("down", "enter")
        await wait(pilot, lambda: setup.field("data").value == str(folder / "train-one.csv"))
