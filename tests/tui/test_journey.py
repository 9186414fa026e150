"""From set-up to the result by keyboard alone: a real terminal, a real worker."""

import os
import time
from pathlib import Path

import pytest

from engine.runs import all_runs
from tests.conftest import HELD_OUT, TRAIN
from tests.tui.test_terminal import Terminal

ENTER, ESCAPE, CONTROL_Q, CONTROL_R = b"\r", b"\x1b", b"\x11", b"\x12"


def test_from_set_up_to_the_result_by_keyboard_alone(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    terminal = Terminal(runs)

    def press(keys: bytes, then: str) -> None:
        terminal.seen = b""
        os.write(terminal.master, keys)
        terminal.read_until(then.encode(), 90)

    terminal.read_until(b"What is the model to learn?", 60)
    press(ENTER, "to choose from")
    press(str(tiny).encode() + ENTER, "parameters")
    press(ENTER, "Training data")
    press(str(TRAIN).encode() + ENTER, "6 classes")
    press(str(HELD_OUT).encode() + ENTER, "132 rows")
    press(ENTER, "Columns")  # the keys of what was found
    press(ENTER, "Hours one run may take")
    press(CONTROL_R, "Recommended")
    press(b"1", "Full")
    press(b"e", "Settings of")
    press(b"j" + ENTER, "enter keeps it")
    press(b"1", " 32 steps")  # takes the place of what stood there
    press(ENTER, "1 changed")
    press(ESCAPE, "Enter starts it")
    os.write(terminal.master, ENTER)
    deadline = time.monotonic() + 180
    while not any(run.report() for run in all_runs(runs)):
        assert time.monotonic() < deadline, terminal.seen[-2000:]
        terminal.read_until(b"", 1)
        time.sleep(0.2)
    run = next(all_runs(runs))
    assert run.plan().epochs == 1
    assert run.plan().data.eval == str(HELD_OUT)
    press(b"", "after")
    os.write(terminal.master, CONTROL_Q)
    assert terminal.end() == 0
