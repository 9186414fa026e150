"""Stopping a run in every way a person may, and going on."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import checkpoints
from engine.new_run import create
from engine.rundir import RunDirectory
from recommender.plan import Plan
from tests.conftest import Background, Command, make_plan
from tests.journeys.conftest import Wait
from tui.headless import attach_to, follow, leave


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = process.communicate(timeout=100)
    return process.returncode, errors


def listens(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for that signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_run_is_left_watched_and_stopped_in_every_way_and_goes_on_each_time(
    tiny: Path, plan_file: Callable[[Plan], Path], start_loracle: Background, loracle: Command, only_run: Callable[[],
    RunDirectory], wait: Wait,
) -> None:  # fmt: skip
    file = plan_file(make_plan(tiny, epochs=400, evaluations=40))

    begun = loracle("run", file, "--runs", "runs", "--detach")
    assert begun.returncode == 0, begun.stderr
    run = only_run()
    assert f"loracle attach {run.name}" in begun.stdout
    wait(run, lambda state: state.step >= 3)
    viewer = start_loracle("attach", "last", "--runs", "runs")
    assert viewer.stderr is not None
    viewer.stderr.readline()
    os.killpg(viewer.pid, signal.SIGINT)
    code, errors = ended(viewer)
    assert code == 0
    assert "continues in the background" in errors
    assert run.alive()
    twice = loracle("resume", "last", "--runs", "runs")
    assert twice.returncode == 2
    assert "is running" in twice.stderr

    viewer = start_loracle("attach", "last", "--runs", "runs")
    asked = loracle("stop", "last", "--runs", "runs")
    assert asked.returncode == 0, asked.stderr
    assert "saves a checkpoint" in asked.stdout
    code, errors = ended(viewer)
    assert code == 5
    step = run.state().step
    assert f"`loracle resume {run.name}` continues from step {step}" in " ".join(errors.split())
    assert run.state().status == "stopped"
    newest, _ = checkpoints.newest_sound(run.checkpoints)
    assert newest == run.checkpoints / f"step-{step}"

    again = start_loracle("resume", "last", "--runs", "runs")
    state = wait(run, lambda state: state.status == "running" and state.step > step + 2)
    os.killpg(again.pid, signal.SIGTERM)  # Ctrl-C: see the comparison
    code, errors = ended(again)
    assert code == 5, errors
    assert "Stopping after this step" in errors
    assert run.state().step >= state.step > step
    step = run.state().step
    assert run.state().checkpoint == step

    idle = loracle("stop", "last", "--runs", "runs")
    assert idle.returncode == 2
    assert "is not running (it is stopped)" in idle.stderr
    listed = loracle("runs", "--runs", "runs")
    assert "stopped" in listed.stdout


@pytest.mark.faults
def test_a_run_is_stopped_at_once(
    tiny: Path, start: Callable[[Plan], RunDirectory], start_loracle: Background, loracle: Command, wait: Wait
) -> None:  # fmt: skip
    run = start(make_plan(tiny, epochs=400, evaluations=40))
    wait(run, lambda state: state.checkpoint is not None)
    viewer = start_loracle("attach", run.path)
    assert loracle("stop", run.path, "--now").returncode == 0
    code, errors = ended(viewer)
    assert code == 5, errors
    assert "Traceback" not in errors


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_before_anything_was_trained_says_by_its_code_that_nothing_was_saved(
    tiny: Path, plan_file: Callable[[Plan], Path], start_loracle: Background, only_run: Callable[[], RunDirectory],
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    process = start_loracle("run", plan_file(make_plan(tiny, epochs=400)), "--runs", "runs")
    run = only_run()
    while not listens(process.pid, signal.SIGTERM):  # until then a signal would mean this process alone
        time.sleep(0.02)
    os.killpg(process.pid, number)
    found, errors = ended(process)
    assert found == code, errors
    assert "Nothing was saved yet" in " ".join(errors.split())
    assert "Traceback" not in errors
    assert list(run.checkpoints.iterdir()) == []


def test_a_ctrl_c_while_the_worker_is_being_started_stops_that_worker(
    tiny: Path, start: Callable[[Plan], RunDirectory], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody may be told that nothing was started while a worker lives on."""
    begun: list[RunDirectory] = []

    def begin() -> tuple[RunDirectory, int]:
        begun.append(start(make_plan(tiny, epochs=400)))
        os.kill(os.getpid(), signal.SIGINT)
        return begun[-1], 0

    assert follow(begin, as_json=False) == 130
    assert "no step was taken yet, so there is nothing to save" in capfd.readouterr().err
    assert begun[0].state().status == "stopped"
    assert begun[0].state().step == 0
    told: list[RunDirectory] = []
    assert leave(begin, told.append) == 130
    assert told == begun[1:], "of a run that is left alone it is said that it runs"
    assert begun[1].alive()
    assert not list(begun[1].control.iterdir())
    (begun[1].control / "stop-now").touch()


def test_a_worker_that_died_before_it_saved_anything_leaves_no_checkpoint_to_go_on_from(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, make_plan(tiny), None)
    os.utime(run.path, (0, 0))
    assert attach_to(run, as_json=False) == 4
    said = " ".join(capfd.readouterr().err.split())
    assert f"from the beginning: loracle resume {run.name}" in said
    assert "checkpoint" not in said
