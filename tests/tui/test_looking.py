"""What is found out for a command, in which order, and what can be read meanwhile."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import inspect as inspection
from engine.inspect import DataInspection, ModelInspection
from engine.prediction import trial
from recommender.facts import Facts, Machine
from tui import commands_advice, looking, progress
from tui.cli import _parser

Order = list[str]


@pytest.fixture
def order(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, model: ModelInspection, make_data: Callable[..., DataInspection]
) -> Order:
    """What is looked at, without looking."""
    found: Order = []

    def noted(name: str, answer: Any) -> Callable[..., Any]:
        def note(*_: Any, **__: Any) -> Any:
            found.append(name)
            return answer

        return note

    def rows(*_: Any, begun: Callable[[], None] | None, **__: Any) -> DataInspection:
        if begun is not None:
            begun()
        found.append("rows")
        return make_data()

    def tried(facts: Facts) -> Facts:
        found.append("trial")
        return facts

    monkeypatch.setattr(inspection, "inspect_model", noted("model", model))
    monkeypatch.setattr(inspection, "inspect_machine", noted("machine", machine))
    monkeypatch.setattr(looking, "fastest_reading", noted("speed", {"fp32": 1e11}))
    monkeypatch.setattr(looking, "rows_of", rows)
    monkeypatch.setattr(looking, "prepare", noted("child", None))
    monkeypatch.setattr(trial, "is_wanted", lambda _: True)
    monkeypatch.setattr(trial, "with_trial", tried)
    return found


def given(*words: str) -> Any:
    return _parser().read(["plan", "--model", "m", "--data", *words])


def test_a_child_imports_beside_the_reading_and_beside_nothing_that_is_timed(order: Order) -> None:
    look = looking.look_at(given("rows.csv"))
    assert order == ["model", "machine", "speed", "child", "rows", "trial"]
    assert look.facts.measured.matmul_flops == {"fp32": 1e11}


def test_what_a_download_leaves_of_the_disk_is_looked_at_after_it(order: Order) -> None:
    looking.look_at(given("somebody/rows"))
    assert order == ["model", "machine", "speed", "rows", "machine", "speed", "trial"]


def test_a_terminal_is_told_how_many_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with looking.counting(quiet=False) as told:
        assert told is not None
        for done, total in ((0, 4), (2, 4), (0, 2), (1, 2)):
            told(done, total, "steps")
    head, line = screen.getvalue().split("\n")
    assert head == "Counting the memory of steps, two minutes at most, once for this model and such rows …"
    assert "Counted: 2 of 4 steps" in line
    assert "Counted: 5 of 6 steps" in line, "a second round goes on where the first one ended"
    assert line.endswith("\r")


def test_what_was_found_can_be_read_while_steps_are_tried(
    order: Order, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[str] = []

    def tried(facts: Facts) -> Facts:
        seen.append(capsys.readouterr().out)
        return facts

    monkeypatch.setattr(trial, "with_trial", tried)
    assert commands_advice.plan(given("rows.csv", "-o", str(tmp_path / "plan.yaml"))) == 0
    assert "Machine" in seen[0]
    assert "600 rows" in seen[0]
    after = capsys.readouterr().out
    assert "Recommended" in after
    assert "Machine" not in after, "once is enough"
