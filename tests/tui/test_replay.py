"""A recorded run, played back."""

import threading
from pathlib import Path
from typing import Any

import pytest

from engine import events
from tests.tui.driving import screen, showing, wait
from tui.app import LoracleApp
from tui.screens.replay import ReplayScreen
from tui.watching import LONGEST_PAUSE, Playback


class Clock:
    """Stands in for `time` where events are written."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = process_time = time


@pytest.fixture
def recorded(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Twenty steps of a second each, a night between the tenth and the next, then the end."""
    clock = Clock()
    monkeypatch.setattr(events, "time", clock)
    worker = make_run()
    worker.begin(total=20)
    for step in range(1, 21):
        clock.now += 30_000 if step == 11 else 1
        worker.steps(step, step)
    worker.end()
    return worker.run


def test_a_recording_runs_at_its_speed_with_pauses_cut_short(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("tui.watching.time", clock)
    recording = Playback(recorded)
    assert recording.length == pytest.approx(19 + LONGEST_PAUSE)
    recording.speed = 2.0
    clock.now += 2.6
    recording.poll()
    assert recording.state.step == 5
    recording.paused = True
    clock.now += 60
    recording.poll()
    assert recording.state.step == 5
    recording.seek(recording.length)
    assert recording.over
    assert recording.state.status == "done"
    recording.seek(3.0)
    assert (recording.state.step, recording.state.status) == (3, "running")


def test_jumps_one_upon_the_other_take_every_event_once(recorded: Any) -> None:
    recording = Playback(recorded)
    taken: list[int] = []
    first_began, go_on = threading.Event(), threading.Event()
    take = recording.log.take

    def slowly(event: Any) -> Any:
        taken.append(event["seq"])
        first_began.set()
        go_on.wait(10)
        return take(event)

    recording.log.take = slowly  # type: ignore[method-assign]
    jumps = [threading.Thread(target=recording.seek, args=(place,)) for place in (10.0, recording.length)]
    jumps[0].start()
    assert first_began.wait(10)
    jumps[1].start()
    assert recording.poll() == [], "the screen waits for no jump"
    go_on.set()
    for jump in jumps:
        jump.join(10)
    assert taken == sorted(set(taken))
    assert recording.state.step == 20


async def test_keys_play_faster_hold_and_jump(runs: Path, recorded: Any) -> None:
    app = LoracleApp(runs=runs, attach=recorded)
    async with showing(app, lambda: "Done: enter" in screen(app)) as pilot:
        await pilot.press("p")
        await wait(pilot, lambda: isinstance(app.screen, ReplayScreen) and app.screen.playback is not None)
        assert isinstance(app.screen, ReplayScreen)
        await pilot.press("space", "plus", "plus", "plus", "plus")
        await wait(pilot, lambda: "100x" in screen(app) and "of 0:24" in screen(app))
        await pilot.press("0")
        await wait(pilot, lambda: "0:00 of 0:24" in screen(app))
        await pilot.press(*["full_stop"] * 25)
        await wait(pilot, lambda: "0:24 of 0:24" in screen(app) and "done" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: not isinstance(app.screen, ReplayScreen))
