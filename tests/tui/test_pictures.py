"""What set-up and the plan look like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.inspect import DataInspection, ModelInspection
from tests.tui.driving import showing, wait
from tests.tui.snapshots import same_picture, settled
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.edit import EditScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.setup import SetupScreen

SIZES = [(80, 24), (120, 40)]


@pytest.fixture(autouse=True)
def _fakes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: ModelInspection, make_data: Callable[..., DataInspection]
) -> None:
    odd = {"duplicate_share": 0.06, "conflict_share": 0.02, "format": "csv"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\nhello,a\nbye,b\n")
    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr("engine.prediction.candidates.each", _counted)
    monkeypatch.setattr("engine.prediction.candidates.checked", lambda model: model)
    monkeypatch.setattr("engine.inspect.inspect_model", lambda name, **options: model)
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(**odd))


def _counted(_: dict[str, Any], plans: list[dict[str, Any]], **__: object) -> tuple[dict[str, Any], set[str]]:
    parts = {"weights": 130_000_000, "optimizer": 90_000_000, "gradients": 90_000_000, "activations": 800_000_000}
    return {plan["name"]: {"peak": sum(parts.values()), "parts": parts, "phases": {"backward": parts}} for plan in plans}, set()


@pytest.mark.parametrize("size", SIZES)
async def test_set_up(size: tuple[int, int], runs: Path) -> None:
    app = LoracleApp(draft=Draft(model="demo", data="rows.csv"), runs=runs)
    async with app.run_test(size=size) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, SetupScreen) and app.screen.ready and app.machine is not None)
        assert isinstance(app.screen, SetupScreen)
        app.screen.query_one("#found").focus()
        await settled(pilot)
        same_picture(app, f"set-up-data-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES)
async def test_the_plan(size: tuple[int, int], runs: Path, model: ModelInspection, make_data: Any) -> None:
    app = LoracleApp(draft=Draft(model="demo"), runs=runs)
    async with showing(app, lambda: app.machine is not None, size) as pilot:
        screen = RecommendationScreen(model, make_data(), Draft(model="demo", data="rows.csv"))
        await app.push_screen(screen)
        await wait(pilot, lambda: screen.advice is not None)
        await settled(pilot)
        same_picture(app, f"plan-{size[0]}x{size[1]}")
        await pilot.press("2", "e")
        await wait(pilot, lambda: isinstance(app.screen, EditScreen))
        await settled(pilot)
        same_picture(app, f"edit-{size[0]}x{size[1]}")
