"""A monkey at the keyboard: keys, clicks and sizes in odd moments, while runs grow, end and are ruined.

`LORACLE_MONKEY=5000 pytest -m faults tests/tui/test_monkey.py` begins at another seed. A seed tells what is done, not at which
moment threads come back, so what it has found is found again most of the time only.
"""

import asyncio
import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.app import ScreenStackError

from engine.rundir import RunDirectory
from recommender.errors import InputError
from tests.tui.conftest import FakeWorker
from tui import work_start
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.home import HomeScreen

FIRST = int(os.environ.get("LORACLE_MONKEY", "0"))
SEQUENCES, TURNS = 12, 100
KEYS = (
    *(["escape"] * 5), *(["enter"] * 7), *"abcdefghijklmnopqrstuvwxyzDGMNXY0123456789",
    *(f"ctrl+{letter}" for letter in "ronlpcu"),
    "tab", "shift+tab", "up", "down", "left", "right", "pageup", "pagedown", "home", "end", "space", "delete", "backspace",
    "question_mark", "slash", "less_than_sign", "plus", "comma", "f1", "f2",
)  # fmt: skip
ODD = ("[/]", "[@click=app.quit]x", "\x1b]0;owned\x07", "\u202ebidi", "漢字" * 30, "👩‍👩‍👧" * 8, "a" * 3000, "", "%s\n\r\t")
LINES = (
    b"{", b"\xff\n", b"[1]\n", b'{"kind": "step", "step": 1e308, "loss": -1e308, "tokens": -5, "time": -1}\n',
    b"a" * 70_000 + b"\n",
    b'{"kind": "evaluation", "metrics": [1]}\n', b'{"kind": "run", "total_steps": "many", "labels": 7}\n',
    b'{"kind": "phase", "name": [], "done": "x", "total": -1}\n', b'{"kind": "heartbeat", "machine": [1], "time": 1e300}\n',
)  # fmt: skip
REPORTS = ("{", "[]", '{"version": 1}', '{"version": 1, "scores": [], "memory": 7, "rows": null, "labels": 3}')


class Monkey:
    """What may happen, by chance."""

    def __init__(self, seed: int, make_run: Callable[..., FakeWorker]) -> None:
        self.chance = random.Random(seed)
        self.make_run = make_run
        self.workers: list[FakeWorker] = []
        self.done: list[str] = []
        for _run in range(self.chance.choice((0, 1, 2, 5))):
            self.new_run()

    def new_run(self) -> RunDirectory:
        """A run that has begun, and may have ended."""
        worker = self.make_run(self.chance.choice(("rows", "漢字", "a" * 60)), self.chance.choice(("full", "lora", "qlora")))
        worker.begin(labels=[self.chance.choice(ODD), "b"])
        self.workers.append(worker)
        for _event in range(self.chance.choice((0, 3, 12))):
            self.write(worker)
        if self.chance.random() < 0.5:
            self.end(worker)
        return worker.run

    def write(self, worker: FakeWorker) -> None:
        """Something happens in a run."""
        odd, step = self.chance.choice(ODD), self.chance.randrange(1, 900)
        kind = self.chance.choice(("steps", "evaluate", "line", "phase", "sample", "warning"))
        match kind:
            case "steps":
                worker.steps(step, step + self.chance.choice((0, 30)))
            case "evaluate":
                worker.evaluate(step, accuracy=self.chance.random())
            case "line":
                with worker.run.events.open("ab") as file:
                    file.write(self.chance.choice(LINES))
            case "phase":
                worker.events.write("phase", name=self.chance.choice(("load", "train", odd)), done=4, total=40, unit=odd)
            case _:
                more = {"prompt": odd, "wanted": odd, "answer": odd, "text": odd, "code": "x", "facts": {}}
                worker.events.write(kind, split="validation", step=step, number=step % 4, **more)

    def end(self, worker: FakeWorker) -> None:
        """A run ends one way or another."""
        how = self.chance.choice(("done", "stopped", "failed", "dead"))
        if how == "done" and self.chance.random() < 0.7:
            worker.report()
        if how != "dead":
            worker.end(how, cause=self.chance.choice(ODD), cure=self.chance.choice(ODD))
        worker.die(self.chance.choice(ODD))

    def ruin(self, worker: FakeWorker) -> None:
        """Its files are gone or broken."""
        match self.chance.choice(("folder", "events", "plan", "report")):
            case "folder":
                shutil.rmtree(worker.run.path)
            case "events":
                os.truncate(worker.run.events, 10)
            case "plan":
                (worker.run.path / "plan.yaml").write_text("a: &x [")
            case "report":
                worker.run.report_file.write_text(self.chance.choice(REPORTS))

    def happen(self, worker: FakeWorker) -> None:
        """One of these, to a run that may be ruined already."""
        act = self.chance.choices((self.write, self.end, self.ruin), (8, 2, 1))[0]
        self.done.append(act.__name__)
        with contextlib.suppress(OSError):
            act(worker)

    async def turn(self, app: LoracleApp, pilot: Any) -> None:
        """One thing, after which not everything is waited for."""
        kind, driver = self.chance.random(), app._driver
        assert driver is not None
        if kind < 0.6:
            keys = [self.chance.choice(KEYS)] * self.chance.choice((1, 1, 1, 2, 3))
            self.done.append(" ".join(keys))
            for key in keys:
                driver.send_message(events.Key(key, key if len(key) == 1 else None))
        elif kind < 0.75:
            x, y = self.chance.randrange(app.size.width), self.chance.randrange(app.size.height)
            self.done.append(f"click {x} {y}")
            for event in (events.MouseMove, events.MouseDown, events.MouseUp):
                driver.send_message(event(None, x, y, 0, 0, int(event is not events.MouseMove), False, False, False, x, y))
        elif kind < 0.82:
            size = self.chance.randrange(40, 200), self.chance.randrange(10, 60)
            self.done.append(f"size {size}")
            await pilot.resize_terminal(*size)
        elif self.workers:
            self.happen(self.chance.choice(self.workers))
        await asyncio.sleep(self.chance.choice((0, 0, 0.005, 0.03)))


@pytest.fixture
def odd_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads come back late, clocks go fast."""

    class Late(threading.Thread):
        def run(self) -> None:
            time.sleep(random.choice((0.0, 0.0, 0.01, 0.05)))
            super().run()

    monkeypatch.setattr("tui.background.threading.Thread", Late)
    for name in ("run.POLL", "run.SETTLE", "run.DRAW", "home.REFRESH", "compare.AGAIN", "replay.FRAME"):
        monkeypatch.setattr(f"tui.screens.{name}_SECONDS", 0.05)
    monkeypatch.setattr("tui.screens.setup_drafts.KEEP_AFTER", 0.05)
    monkeypatch.setattr("tui.work_setup.models_on_hub", lambda text: None)
    monkeypatch.setattr("tui.terminal.open_folder", lambda folder: False)


@pytest.mark.faults
@pytest.mark.usefixtures("known", "odd_moments", "rows")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEQUENCES))
async def test_nothing_that_a_monkey_does_ends_the_app(
    seed: int, tmp_path: Path, runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkey = Monkey(seed, make_run)

    def refuse(*arguments: object) -> None:
        raise InputError("It cannot be done.")

    monkeypatch.setattr("engine.runs.start", lambda *arguments, **more: monkey.new_run())
    monkeypatch.setattr("engine.runs.resume", refuse)
    monkeypatch.setattr(work_start, "start_pilot", refuse)
    draft = Draft(model="demo", data="rows.csv") if monkey.chance.random() < 0.3 else None
    app = LoracleApp(runs=runs, draft=draft)
    through = False
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            try:
                for _turn in range(TURNS):
                    await monkey.turn(app, pilot)
                    if app._exit:
                        return
                await pilot.pause(0.1)
                for _back in range(20):
                    if isinstance(app.screen, HomeScreen):
                        break
                    await pilot.press("escape")
                assert isinstance(app.screen, HomeScreen)
                assert not [note.message for note in app._notifications if "went wrong" in note.message]
                through = True
            except BaseException:
                print(f"seed {seed}:", ", ".join(monkey.done))
                raise
    except ScreenStackError:  # `run_test` takes the screens away while the last keys, or those behind quit, are still to be read
        assert app._exit or through
