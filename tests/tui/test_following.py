"""Following a run or a group from the command line: what is shown, signals, exit codes."""

import argparse
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.rundir import RunDirectory
from engine.state import RunState
from recommender.errors import InputError, Refused
from tui import commands_group, headless, show, stopping


def test_a_run_whose_folder_went_away_is_not_said_to_have_run_out_of_memory(
    make_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run().run
    run.path.rename(run.path.with_name("elsewhere"))
    assert headless._closing(run, RunState(status="dead"), as_json=False, in_group=False) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "was moved or removed. `loracle attach` with its new path shows it." in said
    assert "memory" not in said


def test_a_stop_that_cannot_be_asked_for_says_so(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(run: object, *, now: bool) -> None:
        raise Refused("a-run cannot be asked to stop (No space left on device) and goes on.")

    def ended(run: object, *, now: bool) -> None:
        raise InputError("it is not running")

    told = []
    for answer in (full, ended):
        monkeypatch.setattr("tui.stopping.stop", answer)
        asked = stopping.Stopping()
        asked.found(make_run().run)
        asked.hear(2, None)
        told.append(capfd.readouterr().err.strip())
    assert "cannot be asked to stop (No space left on device) and goes on" in told[0]
    assert told[1] == ""


def test_a_signal_that_comes_twice_at_once_is_one_request(make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `timeout 60 make demo`: the group is told, and make tells its child once more."""
    told: list[bool] = []
    now = iter((100.0, 100.01, 100.4, 100.6))
    monkeypatch.setattr("tui.stopping.stop", lambda run, *, now: told.append(now))
    monkeypatch.setattr("tui.stopping.monotonic", lambda: next(now))
    asked = stopping.Stopping()
    asked.found(make_run().run)
    for _ in range(3):
        asked.hear(15, None)
    assert told == [False]
    asked.hear(15, None)  # of somebody who presses Ctrl-C again and again the last one counts as well
    assert told == [False, True]


def test_without_a_terminal_one_hears_what_a_worker_does_before_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    view = headless._LineView(Console(file=out, width=200))
    state = RunState()
    state.total_steps = 30
    evaluations = [("train", 0, 30), ("evaluate", 0, 20)] * 3  # quick ones
    for phase, done, total in (("starting", 0, 0), ("load", 0, 0), ("tokenize", 500, 1_000), *evaluations):
        state.phase, state.phase_done, state.phase_total = phase, done, total
        view.tick(state)
    monkeypatch.setattr(headless, "LINE_EVERY", 0.0)
    view.tick(state)  # a long one is said once
    assert out.getvalue().splitlines() == [
        "starting the worker …",
        "loading the model …",
        "tokenizing the texts 500/1 000 …",
        "step 0/30 · epoch 0.0",
        "scoring the validation rows 0/20 …",
    ]


def test_a_log_is_no_terminal_though_colours_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich says it is one, and a line that is redrawn four times a second would fill the log of a build service."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(headless._view()) is headless._LineView


def test_a_damaged_event_ends_no_view() -> None:
    out = io.StringIO()
    headless._LineView(Console(file=out)).event({"kind": "run", "seq": 1, "time": "noon", "train_rows": []}, RunState())
    assert out.getvalue() == ""


def test_what_was_known_before_a_resume_is_read_up_to_there(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.steps(1, 20)
    offset = worker.run.events.stat().st_size
    worker.steps(21, 30)
    for chunk in (300, 10_000):
        monkeypatch.setattr(headless, "CHUNK", chunk)
        state = RunState()
        headless._fold(worker.run, state, offset)
        assert (state.step, len(state.losses)) == (20, 20)


def test_a_run_that_goes_on_is_watched_from_there_and_until_its_new_worker_has_ended(
    worker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.steps(1, 3)
    worker.end(status="stopped", code=5)
    offset, settled = worker.run.events.stat().st_size, list[str]()

    def settle(run: RunDirectory, state: RunState, read: object) -> RunState:
        settled.append(state.status)
        if len(settled) == 1:  # its worker has not spoken yet
            worker.steps(4, 5)
            worker.end()
        return state

    monkeypatch.setattr(headless, "settle", settle)
    assert headless.watch(worker.run, as_json=True, offset=offset) == 0
    assert settled[0] == "starting"
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["step"] for event in told if event["kind"] == "step"] == [4, 5], "what was told before is not told again"


def test_a_run_whose_worker_is_gone_is_not_watched_for_ever(worker: Any) -> None:
    worker.die()
    assert headless.attach_to(worker.run, as_json=True) == 4


def test_a_group_between_two_of_its_runs_can_be_stopped(monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Any]) -> None:
    run = make_run().run
    found = iter((None, None, run))

    class Between:
        name = shown = "a-group"

        def current(self) -> Any:
            return next(found)

        def driven(self) -> bool:
            return True

    asked: list[Any] = []
    monkeypatch.setattr("engine.runs.stop", lambda run, *, now: asked.append((run, now)))
    assert commands_group.stop(Between(), argparse.Namespace(now=False)) == 0  # type: ignore[arg-type]
    assert asked == [(run, False)]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ({}, 0, ""),
        ({"status": "failed", "code": 4, "cause": "It broke.", "cure": "Mend it."}, 4, "loracle: It broke. Mend it."),
        ({"status": "refused", "code": 2, "cause": "The rows have changed."}, 2, "loracle: The rows have changed."),
        ({"status": "stopped", "code": 5, "cause": "stopped on request", "cure": "Go on."}, 5, "stopped on request. Go on."),
        ({"status": "stopped", "code": "?"}, 4, ""),
    ],
)
def test_whoever_watches_a_run_ends_with_its_code(
    worker: Any, end: dict[str, Any], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.end(**end)
    assert headless.attach_to(worker.run, as_json=True) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_run_that_had_begun_and_is_refused_is_not_lost(worker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    worker.events.write("checkpoint", step=20)
    worker.end("refused", code=2, cause="The rows have changed.")
    headless.attach_to(worker.run, as_json=True)
    said = " ".join(capsys.readouterr().err.split())
    assert f"is kept: once this is put right, `loracle resume {worker.run.name}` continues it." in said


@pytest.mark.parametrize(
    ("number", "ended", "code"),
    [
        (signal.SIGINT, 143, 130), (signal.SIGTERM, 130, 143), (signal.SIGHUP, 130, 143), (None, 143, 143),
        (signal.SIGINT, 5, 5), (signal.SIGINT, 0, 0),
    ],
)  # fmt: skip
def test_where_nothing_was_saved_the_code_is_that_of_the_signal(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, number: signal.Signals | None, ended: int, code: int
) -> None:
    def watched(run: object, **how: object) -> int:
        if number is not None:
            signal.raise_signal(number)
        return ended

    run = make_run().run
    monkeypatch.setattr(headless, "watch", watched)
    monkeypatch.setattr("tui.stopping.stop", lambda run, *, now: None)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under `nohup make test` it would not be heard
    try:
        assert headless.follow(lambda: (run, 0), as_json=True) == code
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_while_a_worker_is_being_started_is_passed_on_and_the_next_stops_at_once(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("tui.stopping.stop", lambda run, *, now: asked.append(now))
    monkeypatch.setattr(stopping, "SAME", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    with stopping.stopping_by_signals() as heard:
        signal.raise_signal(signal.SIGUSR1)  # a cluster's warning, before it sends the other
        assert asked == []
        heard.found(make_run().run)
        assert asked == [False]
        signal.raise_signal(signal.SIGTERM)
    assert asked == [False, True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_under_nohup_a_lost_connection_does_not_stop_the_run(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("tui.stopping.stop", lambda run, *, now: asked.append(now))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.stopping_by_signals() as heard:
            heard.found(make_run().run)
            signal.raise_signal(signal.SIGHUP)
        assert (asked, signal.getsignal(signal.SIGHUP)) == ([], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_whoever_leaves_a_run_to_itself_is_told_how_to_come_back(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, told = make_run().run, list[RunDirectory]()

    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    def begin() -> tuple[RunDirectory, int]:
        signal.raise_signal(signal.SIGINT)
        return run, 0

    monkeypatch.setattr(headless, "watch", interrupted)
    assert headless.attach_to(run, as_json=True) == 0
    assert f"{run.name} continues in the background. Watch it: loracle attach {run.name}" in capsys.readouterr().err
    assert headless.leave(lambda: (run, 0), told.append) == 0
    assert headless.leave(begin, told.append) == 130
    assert told == [run, run], "who pressed Ctrl-C meanwhile is told that it runs"


def test_the_last_words_of_a_run_in_a_group_are_those_of_the_group(
    worker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(in_group: bool = False, as_json: bool = False, **state: Any) -> tuple[int, str, str]:
        code = headless._closing(worker.run, RunState(**state), as_json=as_json, in_group=in_group)
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    monkeypatch.setattr(show, "report", lambda *_: print("the report"))
    (worker.run.path / "report.json").write_text("{}")
    assert [said(**how, status="done")[1] for how in ({}, {"in_group": True}, {"as_json": True})] == ["the report\n", "", ""]
    stop: dict[str, Any] = {"status": "stopped", "end": {"cause": "stopped on request", "cure": "Go on.", "code": 5}}
    assert said(**stop)[2].endswith(": stopped on request. Go on.")
    assert said(in_group=True, **stop) == (5, "", "")
    fault: dict[str, Any] = {"status": "failed", "end": {"cause": "It broke.", "cure": "Mend it.", "code": 4}}
    assert said(in_group=True, **fault) == (4, "", "loracle: It broke. Mend it.")
    name = worker.run.name
    assert f"Start again from the beginning: loracle resume {name}" in said(status="dead")[2]
    assert f"Resume from the newest intact checkpoint: loracle resume {name}" in said(status="dead", checkpoint=5)[2]


def test_ctrl_c_in_the_moment_in_which_a_run_ends_stops_its_group(worker: Any) -> None:
    def begin() -> tuple[RunDirectory, int]:
        signal.raise_signal(signal.SIGINT)
        worker.end()
        return worker.run, 0

    assert headless.follow(begin, as_json=True) == 0
    with pytest.raises(KeyboardInterrupt):
        headless.follow(begin, as_json=True, in_group=True)


def test_a_reader_that_goes_away_takes_along_who_watches_and_not_who_drives(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    worker.end()
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        headless.attach_to(worker.run, as_json=True)
    assert headless.follow(lambda: (worker.run, 0), as_json=True) == 0
    sys.stdout.close()  # it is another one since
    monkeypatch.setattr(sys, "stdout", Gone())
    commands_group._announce(worker.run, None, as_json=True, driving=True)
    sys.stdout.close()


@pytest.mark.parametrize(("report", "code"), [({"complete": True}, 0), ({"complete": False}, 4), (None, 5)])
def test_a_group_ends_well_only_where_all_its_runs_did(
    report: dict[str, Any] | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Ended:
        name = shown = "a-group"
        report_file = tmp_path / "report.json"

        def current(self) -> None:
            return None

        def driven(self) -> bool:
            return False

        def status(self) -> str:
            return "stopped"

        def content(self) -> dict[str, Any]:
            return {"kind": "compare"}

        def report(self) -> dict[str, Any] | None:
            return report

    given = argparse.Namespace(json=True, detach=False)
    monkeypatch.setattr("engine.groups.drive", lambda *how: (report is None, frozenset()))
    assert commands_group.attach(Ended(), given) == code  # type: ignore[arg-type]
    assert commands_group._go(Ended(), given) == code  # type: ignore[arg-type]
