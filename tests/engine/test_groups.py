"""Groups of runs: found like runs, worked off in order, and nothing lost when a driver or a worker dies."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine import groups, launch, runs, trash
from engine.events import EventWriter
from engine.files import write_json
from engine.groups import Group, Task
from engine.rundir import RunDirectory
from recommender.decide import recommend
from recommender.errors import InputError, TrainingFailed
from recommender.facts import Facts
from tests.engine.test_runs import PLAN

Make = Callable[..., Group]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: None)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(*keys: str, root: str = "runs") -> Group:
        plans = {key: PLAN.model_copy(update={"seed": n}) for n, key in enumerate(keys or ("full-1", "lora-1", "full-2"))}
        return groups.create(tmp_path / root, "compare", plans, advice=recommend(Facts()), facts=Facts())

    return made


def ends(run: RunDirectory, status: str, code: int = 0) -> None:
    """What a worker that ended so leaves behind."""
    writer = EventWriter(run.events)
    writer.write("run", total_steps=5)
    if status != "dead":
        writer.write("end", status=status, code=code, cause="because")
    writer.close()
    write_json(run.path / "worker.json", {"pid": 2**22 + 1, "started": 0.0, "host": os.uname().nodename})
    if status == "done":
        write_json(run.report_file, {"version": 1})


def in_order(group: Group, failed: frozenset[str]) -> Task | None:
    return next((Task(k) for k in group.plans() if k not in failed and not groups.done(group.run(k))), None)


def test_a_group_keeps_its_plans_and_its_runs_bear_its_name(make: Make) -> None:
    group = make()
    assert list(group.plans()) == ["full-1", "lora-1", "full-2"]
    assert group.plans()["lora-1"] == PLAN.model_copy(update={"seed": 1})
    assert group.begun() == []
    run = runs.start(group.plans()["lora-1"], None, group.path, name="lora-1", stop_at=7)
    assert run.name == f"{group.name}/lora-1"
    assert (run.control / "stop-at").read_text() == "7"
    assert group.begun() == [run]
    assert list(runs.all_runs()) == [run]
    for name in (run.name, run.path, "lora-1", f"runs/{run.name}"):
        assert runs.attach(name).path == run.path
    assert [p.name for p in (group.path.parent).iterdir()] == [group.name]


@pytest.mark.parametrize("how", ["name", "path", "start", "last"])
def test_a_group_is_found_as_a_run_is(make: Make, how: str) -> None:
    runs.start(PLAN, None)
    group = make(root="runs")
    group.path.rename(group.path.with_name("29990101-reviews-compare"))
    name = {"name": "29990101-reviews-compare", "path": "runs/29990101-reviews-compare", "start": "2999", "last": "last"}[how]
    found = groups.find(name)
    assert found is not None
    assert found.name == "29990101-reviews-compare"


def test_a_name_of_a_run_or_of_several_things_is_no_group(make: Make) -> None:
    make()
    run = runs.start(PLAN, None)
    run.path.rename(run.path.with_name("29990101-imdb-full"))
    assert groups.find("2999") is None
    assert groups.find("last") is None
    assert groups.find("2") is None, "both begin so"
    group = make()
    group.path.rename(group.path.with_name("2000-2998"))
    begins = make()
    begins.path.rename(begins.path.with_name("29980101-support-compare"))
    found = groups.find("2998")
    assert found is not None
    assert found.name == "29980101-support-compare", "what begins so is meant before what holds it"
    assert groups.find("") is None


def test_a_group_started_elsewhere_is_found_by_the_index(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = make(root="elsewhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert groups.find("last") == group
    assert groups.find(group.name) == group
    assert groups.find("last", tmp_path / "here") is None


def test_of_a_copied_projects_groups_the_one_in_the_folder_at_hand_is_meant(make: Make, tmp_path: Path) -> None:
    group = make()
    original = tmp_path / "original" / group.name
    shutil.copytree(group.path, original)
    runs.remember(original)
    assert groups.find(group.name) == group


def test_a_failed_run_does_not_keep_the_others_from_theirs(make: Make) -> None:
    group = make()
    seen = []

    def watch(begin: groups.Begin) -> None:
        run, _ = begin()
        seen.append(run.path.name)
        assert group.driven()
        ends(run, "failed" if run.path.name == "lora-1" else "done")

    def report(group: Group, failed: frozenset[str]) -> dict[str, Any]:
        assert group.driven(), "nobody may take it for stopped before its report is there"
        with pytest.raises(InputError, match="is running"):
            trash.discard(group.run("full-1"))
        return {"failed": sorted(failed), "complete": False}

    assert groups.drive(group, in_order, watch, report) == (False, frozenset({"lora-1"}))
    assert group.report() == {"failed": ["lora-1"], "complete": False}
    assert group.status() == "failed"
    assert seen == ["full-1", "lora-1", "full-2"]
    assert not group.driven()


def test_of_two_drivers_that_begin_in_one_moment_one_drives(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    group, look, driven = make("full-1"), Group.driven, threading.Event()

    def slowly(one: Group) -> bool:
        seen = look(one)
        time.sleep(0.1)  # in which the other looks too
        return seen

    def watch(begin: groups.Begin) -> None:
        driven.wait(60)
        ends(begin()[0], "done")

    def drive() -> Any:
        try:
            return groups.drive(group, in_order, watch)
        except InputError as error:
            driven.set()
            return error.message

    monkeypatch.setattr(Group, "driven", slowly)
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: drive(), range(2))
    assert {type(first), type(second)} == {tuple, str}
    assert not {path.name for path in group.path.iterdir()} - {"group.json", "recommendation.json", "facts.json", "full-1"}


@pytest.mark.parametrize("name", ["driver.json", "report.json"])
def test_a_disk_that_is_full_for_the_groups_own_files_is_a_sentence_and_costs_no_run(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    group, replace = make("full-1"), os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).parent == group.path and Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    def drive() -> Any:
        return groups.drive(group, in_order, lambda begin: ends(begin()[0], "done"), lambda *_: {"complete": True})

    with monkeypatch.context() as now:
        now.setattr(os, "replace", full)
        wrong = TrainingFailed if name == "report.json" else InputError
        with pytest.raises(wrong, match=r"(could not|cannot) be written \(No space left on device\)"):
            drive()
    assert not group.driven()
    assert not list(group.path.glob(f".{name}*"))
    assert group.report() is None
    assert drive() == (False, frozenset())
    assert group.report() == {"complete": True}


def test_a_run_whose_worker_died_is_taken_up_once_more(make: Make) -> None:
    group = make("full-1", "full-2")
    ways = {"full-1": ["dead", "done"], "full-2": ["dead", "dead", "done"]}
    seen = []

    def watch(begin: groups.Begin) -> None:
        run, _ = begin()
        seen.append(run.path.name)
        ends(run, ways[run.path.name].pop(0))

    assert groups.drive(group, in_order, watch) == (False, frozenset({"full-2"}))
    assert seen == ["full-1", "full-1", "full-2", "full-2"]


@pytest.mark.parametrize("asked", [True, False])
def test_a_stop_ends_the_group_and_another_driver_goes_on_where_it_was(make: Make, asked: bool) -> None:
    """By a request to the run, or by a signal to its worker alone."""
    group = make()
    seen = []

    def stopped(begin: groups.Begin) -> None:
        run, _ = begin()
        seen.append(run.path.name)
        if run.path.name == "lora-1":
            if asked:
                run.ask("stop")
            ends(run, "stopped", 5)
        else:
            ends(run, "done")

    assert groups.drive(group, in_order, stopped) == (True, frozenset())
    assert group.status() == "stopped"

    def undisturbed(begin: groups.Begin) -> None:
        run, _ = begin()
        seen.append(run.path.name)
        assert not (run.control / "stop").exists()
        ends(run, "done")

    assert groups.drive(group, in_order, undisturbed) == (False, frozenset())
    assert seen == ["full-1", "lora-1", "lora-1", "full-2"]


def test_a_slice_that_goes_on_pauses_again_at_its_next_stage(make: Make) -> None:
    group = make("full-1")
    stages = iter([Task("full-1", 2), Task("full-1", 4)])
    pauses = []

    def paused(begin: groups.Begin) -> None:
        run, _ = begin()
        pauses.append((run.control / "stop-at").read_text())
        write_json(run.validation_scores(int(pauses[-1])), {})
        ends(run, "stopped", 5)

    assert groups.drive(group, lambda group, failed: next(stages, None), paused) == (False, frozenset())
    assert pauses == ["2", "4"]


def test_a_worker_that_outlived_its_driver_is_watched_and_not_started_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    group = make("full-1")
    run = runs.start(group.plans()["full-1"], None, group.path, name="full-1")
    mine = psutil.Process()
    write_json(run.path / "worker.json", {"pid": mine.pid, "started": mine.create_time(), "host": os.uname().nodename})
    writer = EventWriter(run.events)
    writer.write("run", total_steps=5)
    writer.close()
    assert group.current() == run
    assert group.status() == "running"
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: pytest.fail("a second worker"))
    groups.drive(group, in_order, lambda begin: ends(begin()[0], "done"))
    assert groups.done(run)
    run.report_file.unlink()
    assert not groups.done(run)


def test_a_run_whose_driver_died_before_its_worker_was_started_is_started(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    group, launched = make("full-1"), []
    run = runs.start(group.plans()["full-1"], None, group.path, name="full-1", stop_at=7)
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: launched.append(run))
    tasks = iter([Task("full-1", 9)])

    def watch(begin: groups.Begin) -> None:
        begin()
        assert (run.control / "stop-at").read_text() == "9"
        write_json(run.validation_scores(9), {})

    assert groups.drive(group, lambda group, failed: next(tasks, None), watch) == (False, frozenset())
    assert launched == [run]


def test_a_folder_left_by_a_driver_that_died_before_the_plan_was_written_is_made_anew(make: Make) -> None:
    group = make("full-1")
    (group.path / "full-1" / "control").mkdir(parents=True)
    groups.drive(group, in_order, lambda begin: ends(begin()[0], "done"))
    assert group.run("full-1").plan() == group.plans()["full-1"]


def test_two_drivers_at_once_are_refused(make: Make) -> None:
    group = make("full-1")

    def second(begin: groups.Begin) -> None:
        run, _ = begin()
        with pytest.raises(InputError, match="is already being run"):
            groups.drive(group, in_order, lambda begin: None)
        ends(run, "done")

    groups.drive(group, in_order, second)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", '{"version": 1, "kind": "compare"}', '{"kind": "x", "plans": {}}', '{"kind": "compare", "plans": {}}',
        '{"kind": "compare", "plans": {"../elsewhere": {}}}', '{"kind": "pilot", "plans": {"full": {}}}',
        '{"kind": "pilot", "plans": {"full": {}}, "labels": {"full": "f"}, "left_out": [], "mode": "slice", "raised": {}}',
        '{"kind": "pilot", "plans": {"full": {}}, "labels": {}, "left_out": [], "mode": "slice", "raised": {}, "stages": [5]}',
    ],
)  # fmt: skip
def test_a_damaged_group_says_so(make: Make, content: str) -> None:
    group = make()
    (group.path / "group.json").write_text(content)
    with pytest.raises(InputError, match=r"group\.json cannot be read"):
        group.plans()
    (group.path / "group.json").write_text(json.dumps({"kind": "compare", "plans": {"a": {"method": "full"}}}))
    with pytest.raises(InputError, match=r"a plan in its group\.json is damaged"):
        group.plans()
    (group.path / "group.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(InputError, match="newer Loracle"):
        group.plans()
