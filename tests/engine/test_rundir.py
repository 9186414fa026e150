"""The run directory, the only channel between a worker and its viewers."""

import errno
import json
import os
import shutil
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine import new_run, processes, runs
from engine.events import EventTail, EventWriter
from engine.new_run import check_root, create
from engine.rundir import BEGUN_ANEW, LEAST_DISK, START_GRACE_SECONDS, RunDirectory, is_run, settle
from engine.state import RunState
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.plan import Plan
from tests.conftest import LEAST

DATA = {"train": "/data/Reviews & more.csv", "text_column": "text", "label_column": "label"}
PLAN = Plan.model_validate(LEAST | {"data": DATA})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create(tmp_path / "runs", PLAN, recommend(Facts()), Facts())


def worker(run: RunDirectory, **changes: object) -> None:
    mine = psutil.Process()
    known = {"pid": mine.pid, "started": mine.create_time(), "host": socket.gethostname()} | changes
    (run.path / "worker.json").write_text(json.dumps(known))


def old(run: RunDirectory) -> None:
    long_ago = time.time() - START_GRACE_SECONDS - 5
    os.utime(run.path, (long_ago, long_ago))


def test_a_new_run_is_private_and_named_after_data_and_method(run: RunDirectory) -> None:
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert run.name.endswith("-reviews-more-full")
    assert (run.path / "plan.yaml").stat().st_mode & 0o777 == 0o600
    assert run.plan() == PLAN
    assert (run.recommendation() or {})["verdict"] == "full"
    assert Facts.model_validate_json((run.path / "facts.json").read_text()) == Facts(), "why it was recommended is not lost"
    assert is_run(run.path)


def test_runs_of_the_same_second_get_names_of_their_own(tmp_path: Path) -> None:
    names = {create(tmp_path, PLAN, None).name for _ in range(5)}
    assert len(names) == 5


def test_a_name_that_is_taken_is_known_whatever_a_file_system_says_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one that is mounted over SSH it is no more than "failure"."""
    rename = Path.rename

    def of_few_words(self: Path, target: Path) -> Path:
        if target.exists():
            raise OSError(errno.EPERM, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", of_few_words)
    monkeypatch.setattr(time, "strftime", lambda form: "20261129-200000")
    assert create(tmp_path, PLAN, None).path != create(tmp_path, PLAN, None).path


def test_a_process_that_is_killed_while_it_makes_a_run_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is killed; what it leaves is removed with the next run, and nothing else is."""

    def killed(path: Path, *rest: object) -> None:
        path.write_text("")
        raise KeyboardInterrupt

    for last in ("write_json", "write_atomically"):  # with its plan it would be a run, but for its name
        with monkeypatch.context() as context:
            context.setattr(os, "getpid", partial(int, 4194305 + len(last)))  # above any process there is
            context.setattr(new_run, last, killed)
            context.setattr(shutil, "rmtree", lambda *given, **more: None)
            with pytest.raises(KeyboardInterrupt):
                create(tmp_path, PLAN, recommend(Facts()), Facts())
    left = os.listdir(tmp_path)
    assert len(left) == 2
    assert list(runs.all_runs(tmp_path)) == []
    (tmp_path / ".notes.2023-11").mkdir()
    first = create(tmp_path, PLAN, None)
    assert len(os.listdir(tmp_path)) == 4, "another machine may be making them"
    for name in left:
        os.utime(tmp_path / name, (0, 0))
    second = create(tmp_path, PLAN, None)
    assert sorted(os.listdir(tmp_path)) == sorted([".notes.2023-11", first.name, second.name])


def test_what_cannot_be_written_to_its_end_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(new_run, "write_atomically", full)
    with pytest.raises(InputError, match=r"runs cannot be written here \(No space left"):
        create(tmp_path, PLAN, None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("train", "slug"),
    [
        ("/data/imdb/train.csv", "imdb"), ("/data/imdb/data.csv", "imdb"), ("train.csv", "run"), ("😀.csv", "run"),
        ("客服 工单.csv", "客服-工单"), ("Re\u0301ponses.csv", "réponses"), ("हिन्दी.csv", "हिन्दी"),
        ("\udcff\x1b[31m\u202eb.csv", "31m-b"),
    ],
)  # fmt: skip
def test_a_run_is_named_after_its_data_in_any_script(tmp_path: Path, train: str, slug: str) -> None:
    """A file called train gives its folder's name."""
    plan = PLAN.model_copy(update={"data": PLAN.data.model_copy(update={"train": train})})
    run = create(tmp_path, plan, None)
    assert run.name.endswith(f"-{slug}-full")
    assert run.shown == run.name


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"runs cannot be written here .*--runs"):
        create(tmp_path / "runs", PLAN, None)
    with pytest.raises(InputError, match=r"runs/sub: runs cannot be written here \(Not a directory\)"):
        check_root(tmp_path / "runs" / "sub")
    check_root(tmp_path / "new" / "sub")
    assert not (tmp_path / "new").exists()


def test_a_disk_that_may_only_be_read_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Permission denied" sent people to chmod, as root too."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(InputError, match=r"runs cannot be written here \(Read-only file system\)"):
        check_root(tmp_path / "runs")


def test_a_new_run_counts_as_starting_then_as_dead(run: RunDirectory) -> None:
    assert run.alive()
    assert run.state().status == "starting"
    os.utime(run.path, (time.time() + 3600.0, time.time() + 3600.0))  # the clock was set back since
    assert not run.alive()
    old(run)
    assert not run.alive()
    assert run.state().status == "dead"


def test_a_worker_lives_while_its_pid_has_the_start_time_it_wrote(run: RunDirectory) -> None:
    worker(run)
    assert run.alive()
    worker(run, started=psutil.Process().create_time() - 1000)  # the pid was given to another process since
    assert not run.alive()


def test_a_clock_that_is_set_does_not_end_a_worker(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    known, begun = processes.this(), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: begun(self) + 3600.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: time.time())
    worker(run, **known)
    assert run.alive()
    worker(run, **known | {"ticks": known["ticks"] - 1})  # the pid was given to another process since
    assert not run.alive()
    assert run.likely_death() != "restarted"
    worker(run, **known | {"boot": "another start of the machine"})
    assert not run.alive()
    assert run.likely_death() == "restarted"


@pytest.mark.parametrize("pid", [2**22 + 1, 10**30, -5, "x", None])
def test_a_pid_nobody_has_is_a_dead_worker(run: RunDirectory, pid: object) -> None:
    worker(run, pid=pid)
    assert not run.alive()


def test_a_worker_that_ended_is_dead_though_nobody_waited_for_it(run: RunDirectory) -> None:
    with subprocess.Popen(["true"]) as process:
        worker(run, pid=process.pid, boot=processes.boot(), ticks=processes.ticks(process.pid))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not run.alive()


def test_a_worker_on_another_host_is_judged_by_its_log(run: RunDirectory) -> None:
    worker(run, host="elsewhere")
    assert not run.alive()
    assert run.state().death == "elsewhere"
    EventWriter(run.events).close()
    assert run.alive()


def test_a_run_whose_worker_died_without_a_word_is_dead(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(run, pid=2**22 + 1)
    writer = EventWriter(run.events)
    writer.write("run", total_steps=5)
    writer.write("step", step=1, loss=1.0, seconds=1.0)
    writer.close()
    run.log.write_text("\n".join(f"line {n}" for n in range(50)) + "\nKilled\n")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("nothing more will come"))
    state = run.wait(60.0)
    assert (state.status, state.step, state.death) == ("dead", 1, "memory")
    assert run.last_words(2) == "line 49\nKilled"
    with run.log.open("a") as log:
        log.write(BEGUN_ANEW)
    assert run.last_words() == "", "what an earlier worker said is no word of this one"
    run.log.unlink()
    assert run.last_words() == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=LEAST_DISK - 1))
    assert run.likely_death() == "disk"
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert run.likely_death() == "read_only"


def test_a_log_of_many_pieces_is_read_to_its_end(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(run.events)
    for step in range(1, 6):
        writer.write("step", step=step, loss=1.0, seconds=1.0)
    writer.close()
    poll = EventTail.poll
    monkeypatch.setattr(EventTail, "poll", lambda tail: poll(tail, 300))
    assert run.state().step == 5


def test_a_worker_that_says_its_last_word_while_it_is_looked_for_is_not_dead(run: RunDirectory) -> None:
    worker(run, pid=2**22 + 1)
    state = RunState()
    settle(run, state, lambda: state.apply({"seq": 1, "kind": "end", "status": "done", "code": 0}))
    assert state.status == "done"


def test_a_dead_run_whose_new_worker_has_not_spoken_yet_runs(run: RunDirectory) -> None:
    worker(run, pid=2**22 + 1)
    state = run.state()
    assert state.status == "dead"
    worker(run)
    assert settle(run, state, lambda: None).status == "running"


def test_an_ended_run_stays_ended_without_a_worker(run: RunDirectory) -> None:
    writer = EventWriter(run.events)
    writer.write("end", status="done", code=0)
    writer.close()
    assert run.state().status == "done"


@pytest.mark.parametrize("file", ["report.json", "recommendation.json"])
def test_files_of_a_newer_version_are_refused(run: RunDirectory, file: str) -> None:
    (run.path / file).write_text('{"version": 2}')
    read = run.report if file == "report.json" else run.recommendation
    with pytest.raises(InputError, match="update Loracle"):
        read()


@pytest.mark.parametrize("content", ["", "[]", '{"version": "x"}', "nonsense", "[" * 100_000])
def test_a_damaged_report_never_raises(run: RunDirectory, content: str) -> None:
    run.report_file.write_text(content)
    assert run.report() in (None, {"version": "x"})


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    with pytest.raises(InputError, match="is not a run"):
        RunDirectory(tmp_path).plan()


def test_a_damaged_plan_names_file_and_line(run: RunDirectory) -> None:
    (run.path / "plan.yaml").write_text("method: full\nmethod: lora\n")
    with pytest.raises(InputError, match=r"plan.yaml:2: names method a second time"):
        run.plan()


def test_requests_are_files_in_control(run: RunDirectory) -> None:
    run.ask("stop")
    assert os.listdir(run.control) == ["stop"]
