"""The worker's process: one at a time, and one sentence for every end."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import checkpoints
from engine.events import EventWriter, read_events
from engine.launch import environment
from engine.processes import this
from engine.rundir import RunDirectory
from engine.runs import SIGNALS_APART
from engine.worker import __main__ as worker_main
from engine.worker import control as worker_control
from engine.worker import export, heartbeat, session
from engine.worker.control import Control, StopNow
from engine.worker.modeling import build
from recommender.errors import TrainingFailed
from tests.conftest import make_plan
from tests.engine.worker.conftest import Begin
from tests.engine.worker.inside import work


def test_a_second_worker_is_refused_and_touches_nothing(tiny: Path, begin: Begin) -> None:
    run = begin(make_plan(tiny))
    mine = json.dumps({"pid": os.getpid(), "started": 0.0, "host": "here"})
    (run.path / "worker.json").write_text(mine)
    with (run.path / "run.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "engine.worker", str(run.path)],
            capture_output=True, text=True, timeout=60, env=environment(), cwd=run.path, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == f"{run.name}: another worker has this run.\n"
    assert (run.path / "worker.json").read_text() == mine
    assert not run.events.exists()


def test_a_worker_that_cannot_write_into_its_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "engine.worker", str(tmp_path)],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (4, f"{tmp_path} cannot be written (Is a directory).\n")


def test_where_a_file_system_has_no_locks_a_living_worker_is_told_by_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    monkeypatch.setattr(worker_main, "LOCK_SECONDS", 0.0)
    run = RunDirectory(tmp_path)
    with worker_main._lock(run) as held:
        assert held.writable()
    (tmp_path / "worker.json").write_text(json.dumps(this()))
    assert worker_main._lock(run) is None


def test_a_loss_that_is_no_number_fails_with_the_last_good_checkpoint_kept(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaking(*args: Any) -> Any:
        built = build(*args)
        rows = 0

        def after(module: Any, given: Any, output: Any) -> Any:
            nonlocal rows
            rows += len(output.logits) if module.training else 0
            if rows > 27 * 8:  # of which preflight reads the first eight
                output.logits = output.logits * float("nan")
            return output

        built.model.register_forward_hook(after)
        return built

    monkeypatch.setattr(session, "build", breaking)
    run = begin(make_plan(tiny, token_budget=10**6, evaluations=6, epochs=4))
    end = work(run)
    assert (end["status"], end["code"]) == ("failed", 4)
    assert "no longer a number at step 27" in end["cause"]
    assert "learning_rate" in end["cause"]
    assert end["checkpoint"] == 24
    assert f"loracle run {run.path / 'plan.yaml'} --set learning_rate=0.0003" in end["cure"]
    assert end["setting"] == "learning_rate=0.0003"
    assert "are kept in" in end["cure"]
    assert "resume" not in end["cure"], "which would come to the same step"
    found, put_aside = checkpoints.newest_sound(run.checkpoints)
    assert (found, put_aside) == (run.checkpoints / "step-24", [])
    assert max(e["step"] for e in read_events(run.events) if e["kind"] == "step") == 26
    assert "Traceback" in capsys.readouterr().err  # goes to worker.log


@pytest.mark.parametrize(("asked", "code"), [("stop", 130), ("stop-now", 130), ("SIGTERM", 143)])
def test_a_stop_before_anything_was_trained_leaves_nothing_and_says_so(tiny: Path, begin: Begin, asked: Any, code: int) -> None:
    run = begin(make_plan(tiny))
    if asked != "SIGTERM":
        run.ask(asked)
    end = work(run, terminated=int(asked == "SIGTERM"))
    assert (end["status"], end["code"], end["checkpoint"]) == ("stopped", code, None)
    assert "Nothing was saved yet" in end["cure"]
    assert list(run.checkpoints.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "cause"), [({"stop-at": "3"}, "paused as planned"), ({"stop-at": "9", "stop": ""}, "stopped on request")]
)
def test_a_run_that_is_not_at_its_end_says_why_and_which_checkpoint_goes_on(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], cause: str
) -> None:
    run = begin(make_plan(tiny))
    for name, content in asked.items():
        (run.control / name).write_text(content)
    monkeypatch.setattr(session, "Session", lambda *_: SimpleNamespace(go=lambda: True))
    for step in (3, 4):
        (run.checkpoints / f"step-{step}").mkdir()
        (run.checkpoints / f"step-{step}" / "weights").touch()
    checkpoints.seal(run.checkpoints / "step-3")  # the other one was not written to its end
    end = work(run)
    assert (end["status"], end["code"], end["cause"], end["checkpoint"]) == ("stopped", 5, cause, 3)
    assert end["cure"] == f"`loracle resume {run.name}` continues from step 3."


def test_rows_that_changed_are_a_refusal_not_a_crash(tiny: Path, begin: Begin) -> None:
    end = work(begin(make_plan(tiny, data={"train_fingerprint": "0" * 64})))
    assert (end["status"], end["code"]) == ("refused", 2)
    assert "has changed since the plan was made" in end["cause"]


def test_where_model_or_rows_were_moved_a_run_goes_on_by_its_plan(tiny: Path, begin: Begin, tmp_path: Path) -> None:
    rows = {"train": str(tmp_path / "gone.csv"), "train_fingerprint": "0"}
    closed = tmp_path / ("x" * 300)  # cannot even be asked for, as what lies in a folder of another's
    for plan in (make_plan(tmp_path / "gone"), make_plan(closed), make_plan(tiny, data=rows)):
        end = work(begin(plan))
        assert (end["status"], end["code"]) == ("refused", 2)
        assert end["cause"].endswith("If it lies elsewhere now, write that place into the run's plan.yaml.")


@pytest.mark.parametrize(
    ("error", "said", "cure"),
    [
        (RuntimeError("first line\nsecond \x1b[31mline"), "RuntimeError: first line", "Details"),
        (MemoryError(), "Memory ran out while the model was loaded.", "Close other programs, or choose LoRA or QLoRA; or take"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The disk of {} was full while the model was loaded; what was saved",
            "Free some disk",
        ),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later"),
            "The GPU failed while the model was loaded (CUDA error: an illegal memory access was encountered), and this process",
            "If it comes again",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
            "The GPU failed while the model was loaded (cuDNN error: CUDNN_STATUS_EXECUTION_FAILED), and this process can",
            "If it comes again",
        ),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be"),
            "The GPU could not be used while the model was loaded (CUDA error: no kernel image is available for execution on the",
            "The installed torch, or bitsandbytes, was built without kernels for this GPU",
        ),
    ],
)
def test_any_error_of_a_library_becomes_one_sentence(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, cure: str
) -> None:
    def broken(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(session, "build", broken)
    run = begin(make_plan(tiny))
    end = work(run)
    assert (end["status"], end["code"], end["checkpoint"]) == ("failed", 4, None)
    assert end["cause"].startswith(said.format(run.path))
    assert not {"\n", "\x1b"} & set(end["cause"])
    assert end["cause"].endswith("."), "a sentence stands behind it"
    assert end["cure"].startswith(cure)
    assert str(run.log) in end["cure"]
    assert end["cure"].endswith(f"`loracle resume {run.name}` continues it.") is not said.startswith("RuntimeError")


def test_a_folder_that_was_moved_is_told_as_that(tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(make_plan(tiny))

    def moved(*args: Any) -> Any:
        run.path.rename(run.path.with_name("elsewhere"))
        checkpoints.check_space(run.checkpoints, 1)

    monkeypatch.setattr(session, "build", moved)
    end = work(run)
    assert (end["status"], end["code"]) == ("failed", 4)
    assert end["cause"].startswith(f"The folder of the run, {run.path}, was moved or removed while the model was loaded;")
    assert end["cure"] == "`loracle resume` with its new path continues it."


def test_memory_that_runs_out_while_the_result_is_saved_is_told_as_that_and_going_on_saves_it(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*args: Any, **more: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as now:
        now.setattr(export, "_write", short)
        run = begin(make_plan(tiny, epochs=1, evaluations=1))
        end = work(run)
    assert (end["status"], end["cause"]) == ("failed", "Memory ran out while the result was saved.")
    assert not (run.path / ".model").exists()
    flushed: set[int] = set()
    fsync = os.fsync

    def noted(file: int) -> None:
        flushed.add(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    assert work(run)["status"] == "done"
    assert {file.stat().st_ino for file in run.model.iterdir()} <= flushed, "a power cut would leave a model that is torn"


def failing(error: BaseException, cause: BaseException | None = None, keeps: str = "") -> Callable[..., Any]:
    """In place of a session: its training comes to its end, or was at it, it `keeps` scores, and then it fails."""

    def of(run: RunDirectory, *rest: Any) -> Any:
        def go() -> None:
            (run.checkpoints / checkpoints.FINISHED).write_text("{}")
            if keeps:
                (run.scores / keeps).write_text("{}")
            raise error from cause

        return SimpleNamespace(go=go)

    return of


@pytest.mark.parametrize(
    ("error", "trained", "spared"),
    [
        (failing(MemoryError()), True, True), (failing(TrainingFailed("not one row"), torch.OutOfMemoryError()), True, True),
        (failing(MemoryError(), keeps="after.json"), False, True), (failing(MemoryError()), False, False),
        (failing(ValueError()), True, False), (failing(TrainingFailed("?")), True, False),
    ],
)  # fmt: skip
def test_memory_that_runs_out_after_the_training_is_looked_for_in_another_life_of_the_process(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, error: Any, trained: bool, spared: bool
) -> None:
    """Not where that life had kept nothing."""
    run = begin(make_plan(tiny))
    if not trained:
        (run.checkpoints / checkpoints.FINISHED).write_text("{}")
    monkeypatch.setattr(session, "Session", error)
    begun: list[str] = []
    writer = EventWriter(run.events)
    end = worker_main._work(run, writer, Control(run.control), None, lambda: begun.append("anew"))
    writer.close()
    told = [e["text"] for e in read_events(run.events) if e["kind"] == "recovery"]
    assert begun == ["anew"] * spared
    anew = "Memory ran out while the model was loaded; a new process goes on, which holds nothing of what came before."
    assert told == [anew] * spared
    assert end["status"] == "failed", "where no other life can begin"


def test_who_is_told_to_stop_begins_no_other_life(tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not know of a signal."""
    run = begin(make_plan(tiny))
    monkeypatch.setattr(session, "Session", failing(MemoryError()))
    control = Control(run.control)
    control.terminated = 1
    begun: list[str] = []
    writer = EventWriter(run.events)
    end = worker_main._work(run, writer, control, None, lambda: begun.append("anew"))
    writer.close()
    assert (begun, end["status"]) == ([], "failed")


def test_no_other_life_begins_while_the_last_word_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process leaves behind it: an end in the log would be followed by a beginning."""
    last_word = threading.Lock()
    monkeypatch.setattr(worker_main, "become", lambda words: alone.append(last_word.locked()))
    alone: list[bool] = []
    run: Any = SimpleNamespace(path=tmp_path)
    worker_main._begin_anew(run, heartbeat.Heartbeat(run, tmp_path), last_word)
    assert alone == [True]
    assert not last_word.locked(), "the system did not let it, and the end is still to be told"


def test_a_process_becomes_another_without_ceasing_to_be_itself() -> None:
    program = "from engine.processes import become; become(['timeit', '-n1', '-r1', 'import os; print(os.getpid())'])"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0].splitlines()[0] == str(process.pid)


def test_a_gpu_that_has_failed_does_not_end_the_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed() -> int:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(heartbeat, "memory_available", failed)
    assert set(heartbeat.Heartbeat(EventWriter(tmp_path / "events.jsonl"), tmp_path).gauges()) == {"memory", "cpu", "disk_free"}


BUSY = """
import hashlib, os, sys
from pathlib import Path
from engine.worker.control import Control
control = Control(Path(sys.argv[1]))
control.listen(lambda: os._exit(5))
with control.steps():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # minutes in one operation, as a backward pass may be
"""


def pending(pid: int) -> bool:
    """Whether a SIGTERM has not reached that process yet."""
    (waits,) = re.findall(r"^ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(waits, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_clusters_warning_is_a_stop_however_often_it_comes(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stdout=subprocess.PIPE, env=environment())
    try:
        assert process.stdout is not None
        process.stdout.readline()
        for number in worker_control.WARNINGS:
            process.send_signal(number)
        time.sleep(2 * worker_control.LOOKS_EVERY)
        assert process.poll() is None, "it finishes its step"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("asked", ["signals", "file"])
def test_stopping_at_once_waits_for_no_operation(tmp_path: Path, asked: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stdout=subprocess.PIPE, env=environment())
    try:
        assert process.stdout is not None
        process.stdout.readline()
        if asked == "file":
            (tmp_path / "stop-now").write_text("")
        else:
            process.terminate()
            time.sleep(SIGNALS_APART)
            while pending(process.pid):  # two that come together are one
                time.sleep(0.01)
            assert process.poll() is None, "the first one waits for the step's end"
            process.terminate()
        assert process.wait(timeout=60) == 5
    finally:
        process.kill()
        process.communicate()


def test_a_stop_waits_for_the_step_and_one_at_once_for_nothing(tmp_path: Path) -> None:
    def leaves(control: Control) -> bool:
        try:
            control.interrupt()
        except StopNow:
            return True
        return False

    for asked, times, stop, now in (("", 0, False, False), ("stop", 0, True, False), ("stop-now", 0, True, True),
                                    ("", 1, True, False), ("", 2, True, True), ("warned", 0, True, False)):  # fmt: skip
        folder = tmp_path / f"{asked} {times}"
        folder.mkdir()
        if asked:
            (folder / asked).touch()
        control = Control(folder)
        control.terminated, control.warned = times, asked == "warned"
        assert (control.stop, control.now) == (stop, now)
        assert leaves(control) is stop, "nothing is lost between steps"
        with control.steps():
            assert leaves(control) is now
        assert leaves(control) is stop


def test_a_worker_that_takes_no_steps_has_a_while_to_leave_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_control, "LOOKS_EVERY", 0.01)
    monkeypatch.setattr(worker_control, "PATIENCE", 0.1)
    control, left, (heard, tells) = Control(tmp_path), threading.Event(), os.pipe()
    listening = threading.Thread(target=control._listen, args=(heard, left.set), daemon=True)
    with control.steps():
        (tmp_path / "stop").touch()
        listening.start()
        assert not left.wait(0.4), "a step may take long"
    assert left.wait(10)
    listening.join()
    os.close(tells)
    os.close(heard)


@pytest.mark.parametrize(("written", "step"), [("7", 7), ("0", 1), ("soon", None), ("", None)])
def test_a_pause_is_after_a_step(tmp_path: Path, written: str, step: int | None) -> None:
    (tmp_path / "stop-at").write_text(written)
    assert Control(tmp_path).stop_at == step


def test_a_request_to_save_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "save").write_text("")
    control = Control(tmp_path)
    assert control.take_save()
    assert not control.take_save()
