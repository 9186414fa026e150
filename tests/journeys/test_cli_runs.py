"""A run from the command line from its plan to its report: one training, and every question that may be asked about it.

And the same run again, whose worker is killed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from engine.events import read_events
from engine.rundir import RunDirectory
from recommender.plan import Plan
from tests.conftest import make_plan, plain, weights
from tests.journeys.conftest import Wait

ROOT = Path(__file__).parents[2]
TRAIN, HELD_OUT = ROOT / "examples" / "support-train.csv", ROOT / "examples" / "support-heldout.csv"
SHORT = (
    "epochs=4", "effective_batch=32", "max_length=32", "evaluations=7", "early_stopping=false", "token_budget=500",
    "overrides=[]",
)  # fmt: skip
"""Of several micro-batches a step."""
Answer = subprocess.CompletedProcess[str]
Command = Callable[..., Answer]
Start = Callable[[Plan], RunDirectory]


@dataclass(frozen=True)
class Place:
    """A folder with one finished run, and what the program said on the way there."""

    folder: Path
    begun: Answer
    watched: Answer

    def loracle(self, *arguments: str) -> Answer:
        """The real program, in this folder."""
        return called(self.folder, *arguments)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def run(self) -> RunDirectory:
        (name,) = os.listdir(self.folder / "runs")
        return RunDirectory(self.folder / "runs" / name)


def called(folder: Path, *arguments: str, state: Path | None = None) -> Answer:
    env = os.environ | {"COLUMNS": "120", "LORACLE_LANG": "en", "LORACLE_CONFIG": str(folder / "no-config.toml")}
    env |= {"LORACLE_STATE": str(state or folder / "state")}
    env |= {"LORACLE_TRIAL": "0", "LORACLE_TRACE": "1"}  # the one journey whose advice counts by traces
    env.pop("LORACLE_RUNS", None)
    command = [sys.executable, "-m", "tui.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=folder, env=env, check=False)


@pytest.fixture(scope="module")
def place(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Begun with LoRA against the advice, left running, and watched to its end."""
    folder = tmp_path_factory.mktemp("place")
    settings = [word for s in SHORT for word in ("--set", s)]
    situation = ("--model", str(tiny), "--data", str(TRAIN), "--eval", str(HELD_OUT), "--method", "lora", "--eval-rows", "48")
    begun = called(folder, "--auto", *situation, *settings, "--anyway", "--detach")
    return Place(folder, begun, called(folder, "attach", "last"))


def test_a_run_that_is_left_running_is_named_and_watched_to_its_end(place: Place) -> None:
    assert place.begun.returncode == 0, place.begun.stderr
    assert place.begun.stdout.splitlines()[-1] == f"{place.run.name} is running. Watch it: loracle attach {place.run.name}"
    assert place.watched.returncode == 0, place.watched.stderr
    assert "lora on" in place.watched.stderr
    assert "before and after, on 48 held-out rows" in plain(place.watched.stdout)
    assert "Traceback" not in place.watched.stderr


def test_the_run_keeps_everything_in_a_folder_that_is_private(place: Place) -> None:
    assert place.run.path.stat().st_mode & 0o777 == 0o700
    assert {"plan.yaml", "events.jsonl", "worker.log", "report.json", "model"} <= set(os.listdir(place.run.path))
    report = place.run.report()
    assert report is not None
    assert report["method"] == "lora"
    assert report["rows"]["held_out"] == 48


def test_the_advice_that_was_set_aside_is_on_record_and_cannot_be_wiped(place: Place, loracle_here: Command) -> None:
    (override,) = place.run.plan().overrides  # although the plan was made with `--set overrides=[]`
    assert "LoRA instead of the recommended Full fine-tuning" in override or "adapters save nothing" in override
    reason = override.partition(": ")[2]  # the rule has a code, which is not for people
    assert plain(reason) in plain(loracle_here("report", "last", "--runs", place.runs).stdout)


def test_watching_in_json_gives_the_events_and_nothing_else(place: Place) -> None:
    done = place.loracle("attach", place.run.name, "--json")
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[-1]["kind"], events[-1]["status"]) == ("end", "done")
    assert done.stderr == ""


def test_the_list_names_the_run_from_anywhere(place: Place, tmp_path: Path) -> None:
    assert any(place.run.name in line and "done" in line for line in place.loracle("runs").stdout.splitlines())
    (line,) = place.loracle("runs", "--json").stdout.splitlines()
    listed = json.loads(line)
    assert (listed["name"], listed["method"], listed["path"]) == (place.run.name, "lora", str(place.run.path))
    assert "done" in listed.values()
    elsewhere = called(tmp_path, "report", place.run.name[:-2], "--json", state=place.folder / "state")
    assert json.loads(elsewhere.stdout) == place.run.report()


@pytest.mark.parametrize(("command", "told"), [("resume", "is done"), ("stop", "is not running (it is done)")])
def test_what_is_done_can_neither_be_resumed_nor_stopped(place: Place, loracle_here: Command, command: str, told: str) -> None:
    done = loracle_here(command, "last", "--runs", place.runs)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_start_that_several_names_share_is_not_guessed(place: Place, loracle_here: Command, tmp_path: Path) -> None:
    for name in ("20260101-000000-a", "20260101-000000-b"):
        shutil.copytree(place.run.path, tmp_path / "runs" / name)
    done = loracle_here("report", "20260101", "--runs", "runs")
    assert (done.returncode, done.stdout) == (2, "")
    assert "may be any of 20260101-000000-b, 20260101-000000-a" in done.stderr


def test_a_run_with_a_damaged_plan_is_listed_and_the_rest_with_it(place: Place, loracle_here: Command, tmp_path: Path) -> None:
    for name in ("20260101-000000-a", "20260101-000000-b"):
        shutil.copytree(place.run.path, tmp_path / "runs" / name)
    (tmp_path / "runs" / "20260101-000000-b" / "plan.yaml").write_bytes(b"\xff\xfe\x00method")
    (tmp_path / "runs" / "20260101-000000-b" / "events.jsonl").write_bytes(b"\x00\x01 not json\n")
    done = loracle_here("runs", "--runs", "runs")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[1:]
    assert "20260101-000000-b" in first
    assert "damaged" in first
    assert "20260101-000000-a" in second
    assert "done" in second


def test_a_finished_adapter_becomes_a_model_of_its_own(place: Place, tmp_path: Path) -> None:
    done = place.loracle("merge", "last", "--to", str(tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    assert "Comparing the merged model with the adapter" in done.stderr
    assert re.fullmatch(r"Merged: \S+ \(.*, float32\)\. On 16 rows its outputs equal the adapter's .*\n", done.stdout)
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    assert not (tmp_path / "whole" / "adapter_model.safetensors").exists()
    twice = place.loracle("merge", "last", "--to", str(tmp_path / "whole"))
    assert twice.returncode == 2
    assert "exists already" in twice.stderr


@pytest.mark.parametrize(
    "method", [pytest.param("full", marks=pytest.mark.faults), "lora", pytest.param("qlora", marks=pytest.mark.faults)]
)
def test_a_killed_run_goes_on_to_the_very_same_model(
    *, place: Place, tiny: Path, start: Start, wait: Wait, loracle: Command, tmp_path: Path, method: str
) -> None:  # fmt: skip
    """Its worker is killed without warning; the run goes on as if nothing had happened."""
    for decided in (place.folder / "state").glob("products.json"):  # by the clock, and perhaps otherwise here
        (tmp_path / "state").mkdir(exist_ok=True)
        shutil.copy(decided, tmp_path / "state")
    known = place.run.plan()
    plan = known if known.method == method else make_plan(tiny, method, epochs=6, evaluations=7)
    run = start(plan)
    wait(run, lambda state: state.checkpoint is not None)
    psutil.Process(int(run.worker()["pid"])).kill()
    undisturbed = place.run if plan is known else start(plan)
    wait(undisturbed, lambda state: state.status == "done")
    with run.log.open("a") as log:
        log.write("the last thing it said\x1b]0;title\x07\n")

    listed = loracle("runs", "--runs", "runs")
    assert "died" in next(line for line in listed.stdout.splitlines() if run.name in line)
    seen = loracle("attach", run.path)
    assert seen.returncode == 4
    assert "died unexpectedly" in seen.stderr
    assert "the last thing it said" in seen.stderr
    assert "\x1b" not in seen.stdout + seen.stderr
    assert f"from the newest intact checkpoint: loracle resume {run.name}" in " ".join(seen.stderr.split())

    moved = RunDirectory(tmp_path / "another place" / run.name)
    moved.path.parent.mkdir()
    run.path.rename(moved.path)
    half = moved.scores / ".before.json.4194305-7"
    half.write_text("{")
    done = loracle("resume", moved.path)
    assert done.returncode == 0, done.stderr
    assert not half.exists(), "of a worker that is no more"
    begun = [e for e in read_events(moved.events) if e["kind"] == "run"][-1]
    assert begun["resumed_from"] % (begun["total_steps"] / plan.epochs) != 0, "the checkpoint should lie inside an epoch"
    assert 0 < begun["resumed_from"] < begun["total_steps"]
    assert begun["resume"] == "exact"
    assert weights(moved) == weights(undisturbed)
    assert moved.state().losses == undisturbed.state().losses
    same = ("scores", "gains", "best_step", "steps", "validation")
    first, second = (r.report() or {} for r in (undisturbed, moved))
    for report in (first, second):
        for score in report["validation"]:
            score.pop("seconds", None)
    assert {k: second[k] for k in same if k != "validation"} == {k: first[k] for k in same if k != "validation"}
    assert second["validation"][-7:][-1] == first["validation"][-1]
