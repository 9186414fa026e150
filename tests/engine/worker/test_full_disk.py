"""A disk that is full for one file of a run: told in a sentence, and going on brings what an undisturbed run brings."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.rundir import RunDirectory
from recommender.plan import Plan
from tests.conftest import make_plan, weights
from tests.engine.worker import writing
from tests.engine.worker.inside import work

CHAT = {"samples-before.json": "answers were written", "samples-after.json": "answers were written"}
"""Files of a run that writes, and what is said to have been done."""
FILES = {
    "before.json": "the held-out rows were scored",
    "majority.json": "the held-out rows were scored",
    "manifest.json": "the checkpoint of step 3 could not be written",
    "finished.json": "the optimizer took a step",
    "README.md": "the result could not be written",
    "after.json": "the result was scored",
    "probe.json": "the run was at work",
    "report.json": "the report was written",
} | CHAT


@pytest.fixture(scope="module")
def plans(tiny: Path, tiny_chat: Path) -> dict[bool, Plan]:
    """One that writes, and one that does not."""
    return {
        False: make_plan(tiny, epochs=0.5, evaluations=2),
        True: writing.plan_of(tiny_chat, epochs=0.5, evaluations=1, data={"train_rows": 30, "eval_rows": 4}),
    }


@pytest.fixture(scope="module")
def undisturbed(plans: dict[bool, Plan], begin: Callable[[Plan], RunDirectory]) -> dict[bool, RunDirectory]:
    """By all that a worker does: it chooses what multiplies, and so the order of sums."""
    runs = {writes: begin(plan) for writes, plan in plans.items()}
    assert [work(run)["status"] for run in runs.values()] == ["done", "done"]
    return runs


def _work_where_it_fails(run: RunDirectory, name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How a run ends whose file of that name cannot be written."""
    replace = os.replace

    def fails(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(number, os.strerror(number))
        replace(source, target)

    with monkeypatch.context() as now:
        now.setattr(os, "replace", fails)
        return work(run)


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_for_one_file_costs_no_more_than_that_file(
    plans: dict[bool, Plan], undisturbed: dict[bool, RunDirectory], begin: Callable[[Plan], RunDirectory],
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    run, expected = begin(plans[name in CHAT]), undisturbed[name in CHAT]
    end = _work_where_it_fails(run, name, errno.ENOSPC, monkeypatch)
    assert (end["status"], end["code"]) == ("failed", 4)
    assert FILES[name] in end["cause"]
    assert "free some disk" in (end["cause"] + end["cure"]).lower()
    assert "`loracle resume" in end["cause"] + end["cure"]
    assert not [file for file in run.path.rglob("*") if file.name == name or file.name.startswith(f".{name}")], "nothing half"
    assert not (run.path / ".model").exists()
    assert work(run)["status"] == "done"
    assert weights(run) == weights(expected)
    one, other = (r.report() or {} for r in (run, expected))
    same = ("scores", "gains", "samples", "worst", "fit", "best_step", "steps")
    assert {k: one[k] for k in same} == {k: other[k] for k in same}


@pytest.mark.faults
@pytest.mark.parametrize("name", ["before.json", "manifest.json"])
def test_a_disk_that_may_only_be_read_all_at_once_is_not_called_full(
    plans: dict[bool, Plan], begin: Callable[[Plan], RunDirectory], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As Linux mounts one after an error."""
    run = begin(plans[False])
    end = _work_where_it_fails(run, name, errno.EROFS, monkeypatch)
    said = end["cause"] + end["cure"]
    assert all(part in said for part in (FILES[name], "Read-only file system", "can be written again"))
    assert not any(part in said for part in ("OSError", "disk space"))
    assert work(run)["status"] == "done"
