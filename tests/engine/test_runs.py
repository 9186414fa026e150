"""Runs as a person handles them."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine import launch, processes, rundir, runs
from engine.events import EventWriter
from engine.inspect import inspect_machine
from engine.rundir import RunDirectory
from recommender.errors import InputError, Refused
from recommender.plan import Plan
from recommender.plan_file import dump
from tests.conftest import LEAST

PLAN = Plan.model_validate(LEAST | {"data": {"train": "support.csv"}})
Start = Callable[[str], RunDirectory]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is started, and the developer's own runs are out of sight."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("LORACLE_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: None)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    def started(name: str) -> RunDirectory:
        run = runs.start(PLAN, None, tmp_path / "runs")
        return RunDirectory(run.path.rename(run.path.with_name(name)))

    return started


def ended(run: RunDirectory, status: str) -> None:
    writer = EventWriter(run.events)
    writer.write("run", total_steps=5)
    writer.write("end", status=status, code=5)
    writer.close()


def living(run: RunDirectory) -> None:
    mine = psutil.Process()
    known = {"pid": mine.pid, "started": mine.create_time(), "host": socket.gethostname()}
    (run.path / "worker.json").write_text(json.dumps(known))
    writer = EventWriter(run.events)
    writer.write("run", total_steps=5)
    writer.close()


def test_runs_that_are_under_way_here_are_told_with_the_machine(start: Start, tmp_path: Path) -> None:
    """A second one is planned on what is free now, in the time that it would take alone."""

    def told() -> list[str]:
        return [p for p in inspect_machine(tmp_path / "elsewhere").problems if "under way" in p]

    ended(start("20260101-imdb-full"), "stopped")
    begun = runs.start(PLAN, None, tmp_path / "runs")
    assert told() == []
    living(begun)
    assert [p.split(" is under way: ")[0] for p in told()] == [begun.name]
    second = runs.start(PLAN, None, tmp_path / "runs")
    living(second)
    assert [p.split(" under way: ")[0] for p in told()] == ["2 other runs are"]
    ended(begun, "done")
    assert [p.split(" is under way: ")[0] for p in told()] == [second.name], "the other's worker has said its last word"


def test_a_run_goes_on_in_the_space_that_it_has_taken_already(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("20260101-imdb-full")
    ended(run, "stopped")
    (run.path / "plan.yaml").write_text(dump(PLAN.model_copy(update={"method": "lora", "rank": 8, "alpha": 16})))
    usage = shutil.disk_usage(run.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=40_000_000))
    with pytest.raises(Refused, match="of disk"):
        runs.resume(run)
    run.model.mkdir()
    runs.resume(run)
    assert run.state().status == "starting"


@pytest.mark.parametrize("name", ["20260102-reviews-lora", "20260102", "last", "reviews", "runs/20260102-reviews-lora"])
def test_a_run_is_found_by_name_prefix_part_path_or_as_the_last(start: Start, name: str) -> None:
    start("20260101-imdb-full")
    wanted = start("20260102-reviews-lora")
    assert runs.attach(name, Path("runs")).path == wanted.path.resolve()


def test_an_ambiguous_name_lists_what_it_may_be(start: Start) -> None:
    start("20260101-imdb-full")
    start("20260102-imdb-lora")
    with pytest.raises(InputError, match=r"20260102-imdb-lora, 20260101-imdb-full.*more of the name"):
        runs.attach("2026", Path("runs"))


def test_an_exact_name_wins_over_longer_ones(start: Start) -> None:
    start("20260101-imdb-full-2")
    assert runs.attach(start("20260101-imdb-full").name, Path("runs")).name == "20260101-imdb-full"


def test_of_a_copied_projects_runs_those_in_the_folder_at_hand_are_meant(start: Start, tmp_path: Path) -> None:
    near = start("20260101-imdb-full")
    original = tmp_path / "original" / near.path.name
    shutil.copytree(near.path, original)
    runs.remember(original)
    assert runs.attach(near.name).path == near.path


def test_a_name_nobody_has_says_where_to_look(start: Start) -> None:
    start("20260101-imdb-full")
    with pytest.raises(InputError, match=r"No run is called nope.*loracle runs"):
        runs.attach("nope", Path("runs"))
    with pytest.raises(InputError, match=r"No run is called ''"):
        runs.attach("", Path("runs"))


def test_last_of_nothing_is_said_plainly() -> None:
    with pytest.raises(InputError, match="no run yet"):
        runs.attach("last", Path("runs"))


def test_runs_started_elsewhere_are_found_unless_a_folder_is_named(tmp_path: Path) -> None:
    far = runs.start(PLAN, None, tmp_path / "far")
    near = runs.start(PLAN, None)
    other = runs.start(PLAN, None, tmp_path / "other")
    assert {r.path for r in runs.all_runs()} == {far.path, near.path, other.path}
    assert [r.path for r in runs.all_runs(tmp_path / "far")] == [far.path]
    assert runs.attach(far.path).path == far.path


def test_runs_that_were_deleted_are_forgotten_and_a_damaged_index_is_survived(tmp_path: Path) -> None:
    far = runs.start(PLAN, None, tmp_path / "far")
    far.path.rename(tmp_path / "gone")
    with (tmp_path / "state" / "runs.jsonl").open("a") as file:
        file.write('garbage\n{"path": 3}\n[]\n')
    assert list(runs.all_runs()) == []


def test_the_runs_folder_comes_from_flag_then_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runs.runs_root() == Path("runs")
    monkeypatch.setenv("LORACLE_RUNS", str(tmp_path / "there"))
    assert runs.runs_root() == tmp_path / "there"
    assert runs.runs_root(tmp_path / "flag") == tmp_path / "flag"


def test_a_full_disk_refuses_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(Refused, match="1 kB is free"):
        runs.start(PLAN, None, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_stopping_a_living_run_leaves_a_request(start: Start) -> None:
    run = start("20260101-imdb-full")
    living(run)
    runs.stop(run)
    runs.stop(run, now=True)
    assert sorted(p.name for p in run.control.iterdir()) == ["stop", "stop-now"]


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_a_resumed_run_counts_as_starting_and_old_requests_are_gone(start: Start, status: str) -> None:
    run = start("20260101-imdb-full")
    ended(run, status)
    run.ask("stop")
    runs.resume(run)
    assert list(run.control.iterdir()) == []
    assert run.state().status == "starting"


@pytest.mark.parametrize("name", ["worker.log", "run.lock"])
def test_a_run_does_not_wait_for_a_reader_of_a_pipe(start: Start, name: str) -> None:
    run = start("20260101-imdb-full")
    ended(run, "stopped")
    os.mkfifo(run.path / name)
    with pytest.raises(InputError, match=r"cannot be written \(it is a named pipe"):
        runs.resume(run)


def test_a_run_whose_worker_came_to_nothing_is_not_dead_while_the_next_one_starts(start: Start) -> None:
    """It could not even say who it was, and no name in the folder has changed since."""
    run = start("20260101-imdb-full")
    living(run)
    (run.path / "worker.json").unlink()
    os.utime(run.path, (1, 1))
    assert run.state().status == "dead"
    runs.resume(run)
    assert run.state().status == "running"


def test_a_run_goes_on_while_its_last_worker_is_still_leaving(start: Start) -> None:
    """It has said its last word and frees its memory: a pilot goes on with the run that it tried last in that moment."""
    run = start("20260101-imdb-full")
    ended(run, "stopped")
    with subprocess.Popen(["sleep", "0.3"]) as leaving:
        begun = {"boot": processes.boot(), "ticks": processes.ticks(leaving.pid)}
        (run.path / "worker.json").write_text(json.dumps({"pid": leaving.pid, "host": socket.gethostname()} | begun))
        runs.resume(run)
        assert leaving.poll() == 0, "two workers never share a run's memory"
    assert run.state().status == "starting"


@pytest.mark.parametrize("spoken", [False, True])
def test_of_two_who_go_on_with_a_run_at_once_one_is_told_so(start: Start, monkeypatch: pytest.MonkeyPatch, spoken: bool) -> None:
    """The other one began while this one looked at the disk; its worker has said who it is, or not yet."""
    run = start("20260101-imdb-full")
    living(run)
    ended(run, "stopped")
    (run.path / "worker.json").write_text('{"pid": 4194305, "started": 1.0, "host": "here"}')
    look = launch.check_disk

    def meanwhile(*given: object, **more: object) -> None:
        monkeypatch.setattr(launch, "check_disk", look)
        runs.resume(run, stop_at=7)
        if spoken:
            living(run)

    monkeypatch.setattr(launch, "check_disk", meanwhile)
    with pytest.raises(InputError, match="is running"):
        runs.resume(run)
    assert (run.path / "worker.json").exists() is spoken
    assert (run.control / "stop-at").read_text() == "7", "what the other one wants of its worker holds"


def test_of_two_who_go_on_with_a_run_in_the_same_moment_one_waits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has taken the run, and its log, which may be long, does not say so yet."""
    run = start("20260101-imdb-full")
    ended(run, "stopped")
    said: list[object] = []

    def other() -> None:
        with pytest.raises(InputError) as told:
            runs.resume(run)
        said.append(told.value)

    second = threading.Thread(target=other)

    def slowly(path: Path) -> EventWriter:
        monkeypatch.setattr("engine.runs.EventWriter", EventWriter)
        second.start()
        second.join(0.3)
        return EventWriter(path)

    monkeypatch.setattr("engine.runs.EventWriter", slowly)
    runs.resume(run, stop_at=7)
    second.join()
    assert "is running" in str(said[0])
    assert (run.control / "stop-at").read_text() == "7"


def test_a_run_whose_disk_takes_nothing_is_stopped_by_a_signal(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("20260101-imdb-full")
    living(run)
    heard: list[int] = []

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.rundir.write_atomically", full)
    monkeypatch.setattr("os.kill", lambda pid, number: heard.append(number))
    runs.stop(run)
    assert heard == [15]
    runs.stop(run, now=True)
    assert heard == [15, 15, 15], "two of them mean at once"
    (run.path / "worker.json").write_text(json.dumps(run.worker() | {"host": "elsewhere"}))  # where that number is another's
    with pytest.raises(Refused, match=r"cannot be asked to stop \(No space left"):
        runs.stop(run)
    assert heard == [15, 15, 15]
    ended(run, "failed")
    (run.path / "worker.json").unlink()
    monkeypatch.setattr("engine.runs.EventWriter", full)
    os.utime(run.path, (1, 1))
    with pytest.raises(InputError, match=r"cannot be written \(No space left"):
        runs.resume(run)


@pytest.mark.parametrize("ahead", [0, 3600])
def test_a_run_whose_worker_was_killed_on_another_machine_a_moment_ago_goes_on_here(
    start: Start, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """A cluster begins its next try within seconds; what was heard last is as young as in a run that goes on."""
    run = start("20260101-imdb-full")
    living(run)
    (run.path / "worker.json").write_text('{"pid": 7, "started": 1.0, "host": "elsewhere"}')
    clock = [time.time()]
    silent = SimpleNamespace(time=lambda: clock[-1], monotonic=lambda: clock[-1], sleep=lambda s: clock.append(clock[-1] + s))

    def hear(seconds: float) -> None:
        with run.events.open("a") as log:
            log.write("{}\n")

    with monkeypatch.context() as while_it_goes_on:
        while_it_goes_on.setattr(time, "sleep", hear)
        with pytest.raises(InputError, match="is running"):
            runs.resume(run)
    os.utime(run.events, (clock[0] + ahead,) * 2)  # by the clock of that machine, or of the disk
    monkeypatch.setattr(rundir, "time", silent)
    runs.resume(run)
    assert 30.0 <= clock[-1] - clock[0] < 31.0, "that long it might still say something"
    assert not list(run.path.glob("*worker.json*"))


def test_a_run_that_is_done_or_running_is_not_resumed(start: Start) -> None:
    done, running = start("20260101-a-full"), start("20260102-b-full")
    ended(done, "done")
    living(running)
    with pytest.raises(InputError, match="is done"):
        runs.resume(done)
    with pytest.raises(InputError, match="is running"):
        runs.resume(running)
