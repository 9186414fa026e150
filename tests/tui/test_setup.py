"""From set-up to a started run, as a person goes through it."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from engine.inspect import DataInspection, ModelInspection
from recommender.errors import InputError, Refused
from recommender.facts import Facts, Machine
from recommender.plan import Plan
from tui import work_plan, work_setup
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.confirm import ConfirmScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.run import RunScreen
from tui.screens.setup import SetupScreen

Screen = Callable[[LoracleApp], str]


def ready(app: LoracleApp) -> bool:
    """Whether set-up is shown and knows model and data."""
    return isinstance(app.screen, SetupScreen) and app.screen.ready


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
        await wait(pilot, lambda: ready(app))
        await wait(pilot, lambda: "where is my parcel" in screen(app))
        shown = screen(app)
        assert "600 rows · 2 classes" in shown
        assert "billing: 300 · delivery: 300" in shown
        await wait(pilot, lambda: "LoRA ✓" in screen(app))  # the memory line
        await pilot.press("escape")
        await wait(pilot, lambda: "22.7 M parameters" in screen(app))
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
async def test_a_sample_of_the_held_out_rows_is_asked_for_and_goes_into_the_command(
    *, rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch, screen: Screen,
    wait: Any,
) -> None:  # fmt: skip
    asked: list[int | None] = []

    def inspect(data: str, **options: Any) -> DataInspection:
        asked.append(options["eval_rows"])
        return make_data(eval_rows=options["eval_rows"] or 120 if options["eval"] else None)

    monkeypatch.setattr("engine.inspect.inspect_data", inspect)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        setup.action_go("limits")
        await wait(pilot, lambda: "No held-out file is named" in screen(app))
        setup.field("held-out").fill(str(rows))
        await wait(pilot, lambda: "A sample of the 120 held-out rows." in screen(app))
        await pilot.press("enter", "enter", "5", "0")
        await wait(pilot, lambda: asked[-1] == 50 and ready(app))
        assert setup.draft.eval_rows == 50
        assert "--eval-rows 50" in setup.draft.command()


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
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model")))
        await pilot.press("escape")
        await wait(pilot, lambda: asked == ["first-model"])
        assert isinstance(app.screen, SetupScreen)
        app.screen.field("model").fill("demo")
        await wait(pilot, lambda: "22.7 M" in screen(app))
        release.set()
        await pilot.pause(0.3)
        assert "the older answer" not in screen(app)
        assert "22.7 M" in screen(app)


@pytest.mark.usefixtures("known")
async def test_columns_and_task_are_changed_where_they_are_shown(
    *, rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    asked: list[tuple[object, object, object]] = []

    def data(name: str, **options: Any) -> Any:
        asked.append((options["text_column"], options["label_column"], options["task"]))
        return make_data(label_column=options["label_column"] or "label")

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        app.screen.query_one("#found").focus()
        await pilot.press("c")
        await wait(pilot, lambda: "label: label" in screen(app))
        await pilot.press("j", "enter")
        await wait(pilot, lambda: "which column?" in screen(app))
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: ("text", "id", None) in asked and ready(app))
        await pilot.press("t")
        await wait(pilot, lambda: "What are the rows for?" in screen(app))
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: (None, None, "regression") in asked and ready(app))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        assert setup.draft.task == "regression"


@pytest.mark.usefixtures("known")
async def test_rows_that_are_cut_are_read_to_their_end_with_one_key(
    *, rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    long = {"tokens_p50": 300, "tokens_p95": 400, "tokens_p99": 560, "tokens_max": 600}
    cut = [{"length": 400, "rows_cut": 60, "tokens_kept": 250_000}]
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(**long, truncation=cut))
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        app.screen.query_one("#found").focus()
        await wait(pilot, lambda: "l reads" in screen(app))
        await pilot.press("l", "ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        assert isinstance(app.screen, RecommendationScreen)
        assert app.screen.advice is not None
        assert {m: app.screen.advice.candidate(m).settings.max_length for m in ("full", "lora")} == {"full": 512, "lora": 512}


@pytest.mark.usefixtures("known")
async def test_rows_that_contradict_others_are_left_out_with_one_key(
    *, rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    def data(name: str, **options: Any) -> Any:
        found = make_data(conflict_share=0.0 if options["drop_conflicts"] else 0.04)
        return dataclasses.replace(found, drop_conflicts=options["drop_conflicts"])

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
        app.screen.query_one("#found").focus()
        await wait(pilot, lambda: "4% of the rows have a text that also" in screen(app))
        await pilot.press("x")
        await wait(pilot, lambda: "rows that contradict others are left out" in screen(app))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        assert "--drop-conflicts" in setup.draft.arguments()
        await pilot.press("x")
        await wait(pilot, lambda: "4% of the rows have a text that also" in screen(app))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_flow_by_keyboard_and_the_draft_it_leaves(
    *, size: tuple[int, int], rows: Path, runs: Path, screen: Screen, wait: Any
) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=size) as pilot:
        await wait(pilot, lambda: "What is the model to learn?" in screen(app))
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: "to choose from" in screen(app))
        assert "needs a model" in screen(app)
        await pilot.press("down", "enter")  # the first of the list is the demo's
        await wait(pilot, lambda: "22.7 M parameters" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: app.screen.query_one("#data").has_focus)
        await pilot.press(*str(rows))
        await pilot.press("enter")
        await wait(pilot, lambda: ready(app) and app.screen.query_one("#held-out").has_focus)
        await pilot.press("enter")
        await wait(pilot, lambda: app.screen.query_one("#found").has_focus)
        await pilot.press("enter")
        await wait(pilot, lambda: "Hours one run may take" in screen(app))
        await pilot.press(*"2.5", "enter", *"400", "enter", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen))
        await pilot.press("escape", "escape", "escape", "escape", "escape")
        await wait(pilot, lambda: not isinstance(app.screen, SetupScreen))
    again = LoracleApp(runs=runs)
    async with again.run_test(size=size) as pilot:
        await wait(pilot, lambda: ready(again))
        setup = again.screen
        assert isinstance(setup, SetupScreen)
        assert (setup.draft.model, setup.draft.data) == ("demo", str(rows))
        assert setup.draft.goal == {"purpose": "assistant", "time_budget_hours": 2.5}
        assert setup.draft.train_rows == 400
        await pilot.press("ctrl+n")
        await wait(pilot, lambda: "What is the model to learn?" in screen(again))
        assert isinstance(again.screen, SetupScreen)
        assert again.screen.draft == Draft()


@pytest.mark.usefixtures("known")
async def test_the_demo_is_one_key(runs: Path, screen: Screen, wait: Any) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: "d tries the demo" in screen(app))
        await pilot.press("d")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)


@pytest.mark.usefixtures("known")
async def test_models_come_from_the_cache_and_from_the_hub(
    *, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    snapshot = tmp_path / "hub" / "models--org--cached-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("engine.inspection.hub_list.found_on_hub", lambda text: [f"org/{text}-from-hub", "bad\x1b[31m"])
    app = LoracleApp(model="", data="x.csv", runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model")))
        app.screen._show("model")  # type: ignore[attr-defined]
        await wait(pilot, lambda: "org/cached-model" in screen(app))
        await pilot.press(*"zebra")
        await wait(pilot, lambda: "org/zebra-from-hub" in screen(app))
        assert "org/cached-model" not in screen(app)
        assert app.screen.query_one("#models", OptionList).option_count == 1


@pytest.mark.usefixtures("known")
async def test_without_a_network_the_search_says_so_and_rests(
    *, runs: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen, wait: Any
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert work_setup.models_on_hub("bert") is None
    asked: list[str] = []
    monkeypatch.setattr("engine.inspection.hub_list.found_on_hub", asked.append)
    monkeypatch.setattr("tui.screens.step_model.SEARCH_PAUSE", 0.0)
    app = LoracleApp(model="", data="x.csv", runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model")))
        app.screen._show("model")  # type: ignore[attr-defined]
        await pilot.press(*"zebra")
        await wait(pilot, lambda: "no connection to the hub" in screen(app))
        before = len(asked)
        await pilot.press(*"fish")
        await pilot.pause(0.1)
        assert len(asked) == before


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
    app = LoracleApp(model="demo", data=str(rows), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: ready(app))
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
        await wait(pilot, lambda: ready(app))
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
        await wait(pilot, lambda: ready(app))
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
