"""What runs, results and comparisons look like, with a clock that stands still."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import events
from engine.rundir import RunDirectory
from tests.tui.driving import screen, wait
from tests.tui.snapshots import same_picture, settled
from tui.app import LoracleApp
from tui.screens.help import HelpScreen
from tui.screens.replay import ReplayScreen
from tui.screens.run import RunScreen

SMALL, LARGE = (80, 24), (120, 40)
NOW = 1_800_000_000.0


class Still:
    """Stands in for `time`: a second a step, and never later than the last one."""

    now = NOW

    def time(self) -> float:
        return self.now

    monotonic = process_time = time


@pytest.fixture
def at_greenwich() -> Iterator[None]:
    """Hours are told as there."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def recorded(make_run: Any, monkeypatch: pytest.MonkeyPatch, at_greenwich: None) -> Callable[..., Any]:
    """A run of sixty steps that was stopped, or went to its end, at a fixed hour."""
    monkeypatch.setattr(RunDirectory, "model", property(lambda run: Path("/runs") / run.path.name / "model"))
    clock = Still()
    monkeypatch.setattr(events, "time", clock)

    def make(name: str = "reviews", *, done: bool = False) -> Any:
        made = make_run(name)
        folder = made.run.path.rename(made.run.path.parent / f"20270115-080000-{name}-lora")
        worker = type(made)(RunDirectory(folder))
        worker.begin(total=60, method="lora")
        worker.events.write("phase", name="train", done=0, total=60, unit="steps")
        for step in range(1, 61):
            clock.now += 1
            worker.steps(step, step, loss=3.0)
            if step % 20 == 0:
                worker.evaluate(step, accuracy=0.6 + step / 300)
        worker.events.write("heartbeat", machine={"memory": 1_500_000_000, "cpu": 97.0, "disk_free": 50_000_000_000})
        worker.events.write("warning", code="rows_cut", text="12 training rows are longer than 64 tokens and were cut.", facts={})
        if done:
            said = [0, 1] * 25 + [1, 0] * 5
            kept = {"truth": [0, 1] * 30, "predicted": said, "losses": [0.3] * 60, "weights": None, "score": {}}
            (worker.run.scores / "after.json").write_text(json.dumps(kept))
            worst = [{"row": 7, "text": "The battery lasts a day.", "wanted": "a", "said": "b", "loss": 2.5}]
            worker.report(name="reviews", worst=worst, warnings=["Few rows."])
        worker.end("done" if done else "stopped", 0 if done else 5, checkpoint=60)
        worker.die()
        return worker.run

    return make


@pytest.mark.parametrize(("size", "theme"), [(SMALL, "textual-dark"), (LARGE, "textual-light"), (LARGE, "ansi-dark")])
async def test_run(runs: Path, recorded: Any, size: tuple[int, int], theme: str) -> None:
    app = LoracleApp(runs=runs, attach=recorded())
    async with app.run_test(size=size) as pilot:
        app.theme = theme
        await wait(pilot, lambda: "stopped" in screen(app) and "step 60/60" in screen(app))
        await settled(pilot)
        same_picture(app, f"run-{theme}-{size[0]}")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_result(runs: Path, recorded: Any, size: tuple[int, int]) -> None:
    app = LoracleApp(runs=runs)
    run = recorded(done=True)
    async with app.run_test(size=size) as pilot:
        app.open_run(run, result=True)
        await wait(pilot, lambda: "b mistaken for a" in screen(app))
        await settled(pilot)
        same_picture(app, f"result-{size[0]}")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_compare(runs: Path, recorded: Any, size: tuple[int, int]) -> None:
    app = LoracleApp(runs=runs)
    both = [recorded(done=True), recorded("others", done=True)]
    async with app.run_test(size=size) as pilot:
        app.open_compare(both)
        await wait(pilot, lambda: "against" in screen(app))
        await settled(pilot)
        same_picture(app, f"compare-{size[0]}")


async def test_replay_and_help(runs: Path, recorded: Any) -> None:
    app = LoracleApp(runs=runs, attach=recorded())
    async with app.run_test(size=SMALL) as pilot:
        await wait(pilot, lambda: isinstance(app.screen, RunScreen) and "stopped" in screen(app))
        await pilot.press("p")
        await wait(pilot, lambda: isinstance(app.screen, ReplayScreen) and app.screen.playback is not None)
        assert isinstance(app.screen, ReplayScreen)
        assert app.screen.playback is not None
        app.screen.playback.paused = True
        app.screen.playback.seek(30.0)
        app.screen._draw()
        await wait(pilot, lambda: "step 30/60" in screen(app))
        await pilot.press("f1")
        await wait(pilot, lambda: isinstance(app.screen, HelpScreen))
        await settled(pilot)
        same_picture(app, "replay-help-80")
