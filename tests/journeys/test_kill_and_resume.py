"""A worker is killed without warning; the run goes on as if nothing had happened."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine.events import read_events
from engine.rundir import RunDirectory
from engine.state import RunState
from recommender.plan import Plan
from tests.conftest import weights

Start = Callable[[Plan], RunDirectory]
Wait = Callable[[RunDirectory, Callable[[RunState], bool]], RunState]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    "method", [pytest.param("full", marks=pytest.mark.faults), "lora", pytest.param("qlora", marks=pytest.mark.faults)]
)
def test_a_killed_run_goes_on_to_the_very_same_model(
    tiny: Path, make_plan: Callable[..., Plan], start: Start, wait: Wait, loracle: Command, tmp_path: Path, method: str
) -> None:
    plan = make_plan(tiny, method, epochs=6, evaluations=7)
    undisturbed, run = start(plan), start(plan)
    wait(run, lambda state: state.checkpoint is not None)
    psutil.Process(int(run.worker()["pid"])).kill()
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
    assert begun["resumed_from"] % 12 != 0, "the checkpoint should lie inside an epoch"
    assert 0 < begun["resumed_from"] < begun["total_steps"] == 72
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
