"""Comparing methods from the command line, through everything that may happen on the way."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine import runs
from engine.events import read_events
from engine.groups import Group
from engine.rundir import RunDirectory, is_group
from tests.conftest import HELD_OUT, TRAIN, Background, Command, json_lines

PATIENCE = 300.0


def all_groups(folder: Path) -> list[Group]:
    return [Group(path) for path in runs.folders(folder) if is_group(path)]


@pytest.fixture
def nobody_left(tmp_path: Path) -> Iterator[None]:
    """Workers that a failing test would leave behind are ended."""
    yield
    for group in all_groups(tmp_path / "runs"):
        for run in group.begun():
            if run.worker() and run.alive():
                psutil.Process(int(run.worker()["pid"])).kill()


def training(folder: Path, key: str, beyond: int = 0) -> tuple[Group, RunDirectory]:
    """The only group, once its run of that key is training beyond that step."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for group in all_groups(folder):
            run = group.run(key)
            if run.events.exists():
                state = run.state()
                if state.status == "running" and state.step > beyond:
                    return group, run
        time.sleep(0.02)
    raise AssertionError(f"{key} does not train")


@pytest.mark.usefixtures("nobody_left")
@pytest.mark.parametrize("seeds", [[1], pytest.param([1, 2], marks=pytest.mark.faults)])
def test_a_comparison_survives_ctrl_c_and_the_death_of_its_driver(
    tiny: Path, start_loracle: Background, loracle: Command, tmp_path: Path, seeds: list[int]
) -> None:
    rows = ("--data", TRAIN, "--eval", HELD_OUT, "--train-rows", "150", "--eval-rows", "40")
    # Small batches: so many steps that no run is over before it is looked at.
    settings = ("epochs=3", "effective_batch=4", "max_length=32", "early_stopping=false")
    short = [*(word for setting in settings for word in ("--set", setting)), "--anyway"]
    said = ",".join(map(str, seeds))
    first = start_loracle("compare", "--model", tiny, *rows, *short, "--methods", "full,lora", "--seeds", said, "--runs", "runs")
    group, run = training(tmp_path / "runs", "full-1")
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 5, errors
    assert f"loracle resume {group.name}" in errors
    assert group.status() == "stopped"
    reached = run.state().step
    assert run.state().checkpoint == reached

    second = start_loracle("resume", group.path, "--json")
    training(tmp_path / "runs", "full-1", beyond=reached)
    listed = loracle("runs", "--runs", "runs").stdout
    assert "running" in next(line for line in listed.splitlines() if "compare" in line)
    assert any(line.startswith("  full-1") for line in listed.splitlines()), listed
    second.kill()
    second.communicate()
    assert run.alive() or run.state().status == "done", "the worker outlives its driver"

    done = loracle("resume", "last", "--runs", "runs")
    assert done.returncode == 0, done.stderr
    assert [r.path.name for r in group.begun()] == [f"{m}-{seed}" for seed in seeds for m in ("full", "lora")]
    assert {r.state().status for r in group.begun()} == {"done"}
    resumed = [e["resumed_from"] for e in read_events(run.events) if e["kind"] == "run"]
    assert resumed == [None, reached], "nothing was begun anew"
    assert all(e["resume"] == "exact" for e in read_events(run.events) if e["kind"] == "run" and e["resumed_from"])

    report = json_lines(loracle("report", group.name, "--json", "--runs", "runs").stdout)[-1]
    assert report == json.loads((group.path / "report.json").read_text())
    assert [row["method"] for row in report["methods"]] == ["full", "lora"]
    assert report["seeds"] == seeds
    assert any("another seed may" in s for s in report["statements"]) == (len(seeds) == 1), "of several it is known how far"
    assert report["held_out"] == 40
    scores = [(group.run(f"full-{seed}").report() or {})["scores"]["after"]["accuracy"] for seed in seeds]
    assert report["methods"][0]["accuracy"]["mean"] == pytest.approx(sum(scores) / len(scores))
    shown = ("macro-F1 against the best", "gap (overfitting)", "peak memory", "trained parameters", "saved size")
    for words in (*shown, *(["sd over seeds"] if len(seeds) > 1 else [])):
        assert words in done.stdout
    assert "Same budget" in done.stdout

    again = loracle("resume", group.name, "--runs", "runs")
    assert again.returncode == 2
    assert f"loracle report {group.name}" in again.stderr
    one = loracle("report", f"{group.name}/lora-{seeds[-1]}", "--runs", "runs")
    assert one.returncode == 0
    assert f"lora-{seeds[-1]}: before and after" in one.stdout
