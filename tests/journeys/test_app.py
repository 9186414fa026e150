"""The app in a real terminal with real workers, by keyboard alone; every step waits for what a person would see."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from engine import runs as engine_runs
from engine.runs import all_runs
from tests.conftest import HELD_OUT, TRAIN, make_plan
from tests.tui.real_terminal import CONTROL_C, CONTROL_Q, CONTROL_R, ENTER, ESCAPE, RealTerminal


def test_from_set_up_to_the_result_by_keyboard_alone(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    with RealTerminal("--runs", str(runs)) as screen:
        screen.wait("What is the model to learn")
        screen.then(ENTER, "to choose from")
        screen.then(str(tiny) + ENTER, "Training data")
        screen.then(str(TRAIN) + ENTER, "6 classes")
        screen.then(str(HELD_OUT) + ENTER, "c Columns")  # the keys of what was found
        screen.then(ENTER, "Hours one run may take")
        screen.then(CONTROL_R, "Recommended")
        screen.then("1", "Full .*steps")
        screen.then("e", "Settings of")
        screen.then("j" + ENTER, "enter keeps it")
        screen.then("1", " 32 steps")  # takes the place of what stood there
        screen.then(ENTER, "1 changed")
        screen.then(ESCAPE, "Enter starts it", gone="Settings of")
        screen.press(ENTER)
        screen.wait("before and after")  # the run is watched to its end, and leads there
        screen.then("t", "Ready: type a text")
        screen.then("my parcel never arrived" + ENTER, "Answered in")
        screen.then(ESCAPE, "predicted and actual")
        screen.press(CONTROL_Q)
        assert screen.end() == 0
    run = next(all_runs(runs))
    assert run.plan().epochs == 1
    assert run.plan().data.eval == str(HELD_OUT)


@pytest.mark.faults
def test_one_run_in_two_apps_resized_left_killed_and_resumed(tmp_path: Path, tiny: Path) -> None:
    runs = tmp_path / "runs"
    run = engine_runs.start(make_plan(tiny, epochs=400.0, evaluations=40, early_stopping=False), None, runs)
    here = ("attach", run.name, "--runs", str(runs))
    try:
        with RealTerminal(*here) as one, RealTerminal(*here, size=(120, 40)) as other:
            for screen in (one, other):
                screen.wait(r"step [1-9][0-9]*/")
            one.resize(120, 40)
            one.wait(r"3 machine(.|\n)*5 evaluations(.|\n)*4 log")
            one.resize(60, 20)
            one.wait("Made for 80x24")
            one.resize(80, 24)
            one.wait(r"2 now ─+╮\n", gone="Made for 80x24")
            one.then(CONTROL_C, "ctrl+q|\\^q")
            one.press(CONTROL_Q)
            assert one.end() == 0
            assert run.alive()
            at = run.state().step
            with RealTerminal(*here) as back:
                back.wait(r"2 now")
                deadline = time.monotonic() + 240
                while run.state().step <= at:  # it went on, whoever looked
                    assert time.monotonic() < deadline
                    back.wait(r"step [1-9]", seconds=30)
                os.kill(int(run.worker()["pid"]), signal.SIGKILL)
                for screen in (back, other):
                    screen.wait("The worker died")
                back.then("r", r"✓ load|training", gone="The worker died")
                other.wait(r"training", gone="The worker died")
                other.press("x")
                for screen in (other, back):
                    screen.wait("Stopped")
                back.press(CONTROL_Q)
                assert back.end() == 0
            other.press(CONTROL_Q)
            assert other.end() == 0
        assert run.state().status == "stopped"
    finally:
        if run.worker() and run.alive():
            psutil.Process(int(run.worker()["pid"])).kill()
