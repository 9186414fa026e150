"""Set-up, model: from the cache, from the hub, and late answers."""

import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from engine.inspect import ModelInspection
from engine.inspection.child import Cancel
from recommender.errors import InputError
from tests.hub import Hub, Repository, serving
from tests.tui.driving import ready, screen, showing, wait
from tui import work_setup
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.setup import SetupScreen
from tui.widgets.choices import Options


@pytest.mark.usefixtures("known")
async def test_a_late_answer_about_an_older_model_is_dropped(
    rows: Path, runs: Path, model: ModelInspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    cancels: list[Cancel] = []
    release = threading.Event()

    def slow(name: str, **options: Any) -> ModelInspection:
        asked.append(name)
        cancels.append(options["cancel"])
        if name == "first-model":
            release.wait(20)
            raise InputError("the older answer")
        return model

    monkeypatch.setattr("engine.inspect.inspect_model", slow)
    app = LoracleApp(draft=Draft(model="first-model", data=str(rows)), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model"))) as pilot:
        await pilot.press("escape")
        await wait(pilot, lambda: asked == ["first-model"])
        assert isinstance(app.screen, SetupScreen)
        app.screen.field("model").fill("demo")
        await wait(pilot, lambda: "22.7 M" in screen(app))
        assert cancels[0].cancelled, "its child would go on fetching"
        release.set()
        await pilot.pause(0.3)
        assert "the older answer" not in screen(app)
        assert "22.7 M" in screen(app)


@pytest.mark.usefixtures("known")
async def test_set_up_opens_at_a_model_that_is_refused(rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: Any) -> ModelInspection:
        raise InputError(f"{name}: there is no such model folder.")

    monkeypatch.setattr("engine.inspect.inspect_model", refuse)
    app = LoracleApp(draft=Draft(model="./gone", data=str(rows)), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen) and "no such model folder" in screen(app)) as pilot:
        await wait(pilot, lambda: "Cannot be used: 2 Model." in screen(app))
        assert "● 2 Model" in screen(app)
        await pilot.press("tab", "4")  # on: it stays marked, and nobody is brought back
        await wait(pilot, lambda: "● 4 Limits" in screen(app) and "✗ 2 Model" in screen(app))
        assert "needs another model: step 2 says why" in screen(app)


@pytest.mark.usefixtures("known")
async def test_models_come_from_the_cache_and_from_the_hub(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--org--cached-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("tui.screens.step_model.SEARCH_PAUSE", 0.0)
    app = LoracleApp(draft=Draft(model="", data="x.csv"), runs=runs)
    names = ("org/zebra-small", "org/zebra-[b]large[/]", "org/zebra\x1b[31mred")
    with serving(Hub({name: Repository() for name in names})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        async with showing(app, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model"))) as pilot:
            app.screen._show("model")  # type: ignore[attr-defined]
            await wait(pilot, lambda: "org/cached-model" in screen(app))
            await pilot.press(*"zebra")
            await wait(pilot, lambda: "hub, 12 k downloads" in screen(app))
            assert "org/cached-model" not in screen(app)
            assert "org/zebra-[b]large[/]" in screen(app)
            assert "red" not in screen(app)
            # Whoever goes into the list means what is chosen there, not what was typed: nothing is looked at in between.
            await pilot.press("down", "down")
            await pilot.pause()
            assert "looking…" not in screen(app)
            await pilot.press("up", "enter")
            await wait(pilot, lambda: app.screen.query_one("#model", Input).value == "org/zebra-small")
            await wait(pilot, lambda: "22.7 M parameters" in screen(app))
            hub.search = (200, b"<html>a gateway</html>")
            await pilot.press("ctrl+u", *"yak")
            await wait(pilot, lambda: "no answer from the hub" in screen(app))


@pytest.mark.usefixtures("known")
async def test_without_a_network_the_search_says_so_and_rests(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert work_setup.models_on_hub("bert") is None
    asked: list[str] = []
    monkeypatch.setattr("engine.inspection.hub_list.found_on_hub", asked.append)
    monkeypatch.setattr("tui.screens.step_model.SEARCH_PAUSE", 0.0)
    app = LoracleApp(draft=Draft(model="", data="x.csv"), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen) and bool(app.screen.query("#model"))) as pilot:
        app.screen._show("model")  # type: ignore[attr-defined]
        await pilot.press(*"zebra")
        await wait(pilot, lambda: "no answer from the hub" in screen(app))
        before = len(asked)
        await pilot.press(*"fish")
        await pilot.pause(0.1)
        assert len(asked) == before


@pytest.mark.usefixtures("known")
async def test_a_page_up_in_a_list_that_has_no_size_yet_moves_nothing(runs: Path) -> None:
    app = LoracleApp(draft=Draft(), runs=runs)
    async with showing(app, lambda: "What is the model to learn" in screen(app)) as pilot:
        models = app.screen.query_one("#models", Options)  # of another step
        await wait(pilot, lambda: models.option_count > 0)
        models.highlighted = 0
        models.action_page_up()
        models.action_page_down()
        assert models.highlighted == 0


async def test_a_mistake_of_ours_behind_a_step_is_told(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(name: str, **options: Any) -> ModelInspection:
        raise KeyError("layers")

    monkeypatch.setattr("engine.inspect.inspect_model", look)
    app = LoracleApp(draft=Draft(model="demo"), runs=runs)
    async with showing(app, lambda: any("wrong: 'layers'" in note.message for note in app._notifications)):
        pass


@pytest.mark.usefixtures("known")
async def test_who_went_elsewhere_while_a_model_was_looked_at_stays_there(
    rows: Path, runs: Path, model: ModelInspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def inspect(name: str, **options: Any) -> ModelInspection:
        answers.wait(60)
        return model

    monkeypatch.setattr("engine.inspect.inspect_model", inspect)
    app = LoracleApp(draft=Draft(data=str(rows)), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen)) as pilot:
        app.screen.query_one("#model").focus()
        await pilot.press(*"demo", "enter")
        app.screen.action_go("limits")  # type: ignore[attr-defined]
        await pilot.pause()
        answers.set()
        await wait(pilot, lambda: ready(app))
        await pilot.pause(0.2)
        assert isinstance(app.screen, SetupScreen)
        assert app.screen.query_one("#step-limits").has_focus_within
