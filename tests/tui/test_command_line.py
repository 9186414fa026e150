"""The command line around the commands: where flags go, what is written where, and what never ends in a traceback."""

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.prediction.calibration import Learned
from engine.runs import attach, remember, runs_root
from recommender.errors import InputError
from recommender.plan_file import dump
from tests.engine.test_runs import PLAN
from tui import commands, commands_estimate, serve, show
from tui.cli import _parser, main
from tui.draft import Draft


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends are a terminal that shows the app. Called in a test: pytest puts its own ends back before that."""
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO(), encoding="utf-8"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("ACCESSIBLE", raising=False)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", None),
        ("--data a.csv --eval b.csv", Draft(data="a.csv", held_out="b.csv")),
        ("--task regression --text-column x --column prompt=q --drop-conflicts --train-rows 9 --eval-rows 3 --hours 2",
         Draft(task="regression", columns={"text": "x", "prompt": "q"}, drop_conflicts=True, train_rows=9, eval_rows=3,
               goal={"time_budget_hours": 2.0})),
        ("--model m --data a.csv --method lora --seed 7 --set rank=8",
         Draft(model="m", data="a.csv", method="lora", settings={"lora": {"seed": "7", "rank": "8"}})),
        ("--model m --data a.csv --set epochs=1 --set rank=8",
         Draft(model="m", data="a.csv", settings={"full": {"epochs": "1"}, "lora": {"epochs": "1", "rank": "8"},
                                                  "qlora": {"epochs": "1", "rank": "8"}})),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prompts", [False, True])
def test_what_flags_say_is_where_app_and_prompts_begin(
    flags: str, said: Draft | None, prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[bool, Draft | None]] = []

    def app(*, draft: Draft | None, runs: Path | None) -> int:
        begun.append((False, draft))
        return 0

    def ask(draft: Draft | None, runs: Path | None, run: object) -> int:
        begun.append((True, draft))
        return 0

    monkeypatch.setattr("tui.start.run_app", app)
    monkeypatch.setattr("tui.plain.ask", ask)
    in_a_terminal(monkeypatch)
    assert main([*flags.split(), *(["--plain"] if prompts else [])]) == 0
    assert begun == [(prompts, said)]


def test_every_command_says_what_it_does_and_its_examples_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = _parser()
    every = parser.commands() | {f"inspect {name}": one for name, one in parser.commands()["inspect"].commands().items()}
    examples = 0
    for command in every.values():
        assert command.description
        assert "  loracle " in (command.epilog or "")
        for line in (command.epilog or "").splitlines():
            if line.startswith("  loracle "):
                parser.read(shlex.split(line.partition(" > ")[0])[1:])
                examples += 1
    assert examples > 25
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", ["--anyway", "--seed 3", "--method lora", "--data a.csv --set rank=8", "--model m --data a --set rnak=8"]
)
def test_what_the_app_cannot_take_is_refused_and_not_ignored(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags.split()) == 2
    assert flags.split()[-2 if "=" in flags else 0].partition("=")[0] in capsys.readouterr().err


def test_whoever_asked_for_lines_attaches_with_lines(worker: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.end("stopped", 5, cause="Stopped")
    in_a_terminal(monkeypatch)
    monkeypatch.setattr("tui.start.run_app", lambda **options: pytest.fail("the app was shown"))
    monkeypatch.setenv("ACCESSIBLE", "1")
    assert main(["attach", "last", "--runs", str(runs)]) == 5


def test_a_stop_is_asked_for_as_it_was_typed(worker: Any, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker.begin()
    worker.steps(1, 3)
    for flags, asked, said in (((), "stop", "after its current step"), (("--now",), "stop-now", "stops at once")):
        assert main(["stop", "last", "--runs", str(runs), *flags]) == 0
        assert said in capsys.readouterr().out
        (request,) = worker.run.control.iterdir()
        assert request.name == asked
        request.unlink()


def test_what_an_output_cannot_show_is_written_out_and_json_is_utf_8(
    make_run: Callable[..., Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_run()
    worker.report(statements=["中文 → better"], name="rows")
    written = {}
    for flag in ((), ("--json",)):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        assert main(["report", worker.run.name, "--runs", str(runs), *flag]) == 0
        written[flag] = raw.getvalue()
    assert b"\\u4e2d\\u6587 -> better" in written[()]
    assert b" - peak memory " in written[()]
    assert json.loads(written[("--json",)].decode())["statements"] == ["中文 → better"]


def test_who_reads_a_pipe_gets_names_whole(
    make_run: Callable[..., Any], runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    worker = make_run("a-data-set-with-a-very-long-name-indeed")
    worker.begin()
    worker.end("stopped", 5)
    assert main(["runs", "--runs", str(runs)]) == 0
    assert worker.run.name in capsys.readouterr().out


def test_names_that_others_chose_reach_no_terminal_as_they_are(
    worker: Any, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.end("stopped", 5)
    copied = worker.run.path.rename(runs / "\x1b[31mred")
    assert main(["attach", str(copied), "--json"]) == 5
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\\x1b[31mred: " in said
    screen = show.Screen(file=io.StringIO())
    screen.print("a step's fields: [/bold]x, :smile:")
    assert screen.file.getvalue() == "a step's fields: [/bold]x, :smile:\n"  # type: ignore[attr-defined]


def test_where_the_list_of_runs_is_too_wide_names_stay_whole(
    make_run: Callable[..., Any], runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_run("reviews-of-the-year").run.name
    for columns, headings in ((54, "run state"), (60, "run state result"), (120, "run state method progress result age")):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["runs", "--runs", str(runs)]) == 0
        head, *rows = capsys.readouterr().out.splitlines()
        assert (head.split(), [row.split()[0] for row in rows]) == (headings.split(), [name])


@pytest.mark.parametrize(
    "words", [["inspect", "{}"], ["{}"], ["runs", "--runs", "{}"], ["report", "{}"], ["plan", "--method", "{}"], ["runs", "--{}"]]
)
def test_what_is_typed_never_reaches_the_terminal_as_more_than_text(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([word.format("x\x1b]0;hi\x07\x9b2J\u202ey") for word in words])
    said = capsys.readouterr()
    assert "hi" in said.out + said.err
    assert not set("\x1b\x07\x9b\u202e") & set(said.out + said.err)


def test_names_in_a_file_of_facts_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"predicted": 1, "low": 1, "high": 1}
    sizes = {"allocated": value, "reserved": value, "device": value, "seconds_per_step": value}
    rest: dict[str, Any] = {"phases": dict.fromkeys(commands_estimate.PHASES, 0), "parts": {}, "assumed": []}
    commands_estimate._show({**sizes, **rest, "ignored": ["\x1b]0;hi\x07"]})
    assert "\\x1b]0;hi\\x07" in capsys.readouterr().out


def test_a_home_that_nobody_has_is_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--runs", "~nobody-at-all/runs"]) == 0
    assert "No runs in ~nobody-at-all/runs." in capsys.readouterr().out
    assert main(["inspect", "model", "~nobody-at-all/model"]) == 2
    assert "there is no such model folder" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def closed(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "/root/runs")

    monkeypatch.setattr("engine.runs.folders", closed)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "loracle: /root/runs: Permission denied.\n"


@pytest.mark.parametrize("broken", [{"scores": [1]}, {"rows": "many"}, {"memory": {"peak": "much"}}])
def test_a_damaged_report_is_a_sentence(
    broken: dict[str, Any], make_run: Callable[..., Any], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run().report(**broken)
    assert main(["report", "last", "--runs", str(runs)]) == 2
    assert "report.json: is damaged" in capsys.readouterr().err


def test_a_plan_that_cannot_be_written_is_refused_before_the_long_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "demo", "--data", "missing.csv", "-o", "no-such-folder/plan.yaml"]) == 2
    assert "there is no folder no-such-folder" in capsys.readouterr().err


def test_a_plan_by_hand_may_name_model_and_rows_alone_and_rows_are_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.yaml").write_text("model: demo\ndata: rows.csv\n")
    assert main(["run", str(tmp_path / "plan.yaml")]) == 2
    said = capsys.readouterr().err
    assert "plan.yaml: learning_rate is missing." in said
    assert "model" not in said
    (tmp_path / "rows.csv").write_bytes(b"text,label\nna\xefve,c\n")  # in another encoding than plans are
    assert main(["run", str(tmp_path / "rows.csv")]) == 2
    assert "rows.csv: is a file of rows, not a plan; `loracle plan --data " in capsys.readouterr().err
    assert main(["run", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"loracle: {tmp_path}: cannot be read (Is a directory).\n"
    (tmp_path / "plan.json").write_text('{"model": "demo", "data": "rows.csv"}')  # JSON is YAML
    assert main(["run", str(tmp_path / "plan.json")]) == 2
    assert "plan.json: learning_rate is missing." in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["--help", "runs --runs none"])
def test_output_that_a_full_disk_does_not_take_is_a_sentence(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(typed.split()) == 2
        assert capsys.readouterr().err == "loracle: what is printed: No space left on device.\n"
        with contextlib.suppress(OSError):
            full.close()


@pytest.mark.parametrize("typed", ["nonsense", "report none"])
def test_a_complaint_that_cannot_be_written_costs_no_exit_code(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(typed.split()) == 2
        with contextlib.suppress(OSError):
            full.close()


@pytest.mark.parametrize("typed", ["--auto", "compare", "pilot", "run plan.yaml", "plan -o ./a.yaml"])
def test_a_folder_that_takes_no_file_is_told_before_anything_is_looked_at(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(dump(PLAN))
    for looks in ("tui.commands_advice.look_at", "tui.looking.look_at", "tui.commands.Waiting"):
        monkeypatch.setattr(looks, lambda *_: pytest.fail("it was looked at"))
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.R_OK)
    assert main([*typed.split(), "--model", "demo", "--data", "rows.csv"]) == 2
    assert "cannot be written" in (said := capsys.readouterr().err)
    assert "Permission denied" in said


def test_any_port_is_no_port() -> None:
    with pytest.raises(InputError):
        serve._check_free(0)


def test_a_plan_is_pointed_elsewhere_without_what_was_noted_of_where_it_was() -> None:
    def pointed(**given: Any) -> dict[str, Any]:
        noted = {"id": "a", "revision": "r", "fingerprint": "f"}
        data = {"train": "a.csv", "train_fingerprint": "t", "eval": "b.csv", "eval_fingerprint": "e"}
        asked = {"model": None, "data": None, "eval": None, "seed": None, "plan": "p.yaml"} | given
        return commands._pointed({"model": noted, "data": data, "seed": 1}, argparse.Namespace(**asked))

    usual = pointed()
    assert pointed(model="b") == usual | {"model": {"id": "b"}}
    assert pointed(data="c.csv") == usual | {"data": usual["data"] | {"train": "c.csv", "train_fingerprint": None}}
    assert pointed(eval="c.csv") == usual | {"data": usual["data"] | {"eval": "c.csv", "eval_fingerprint": None}}
    assert pointed(seed=7) == usual | {"seed": 7}


def test_a_merge_that_is_interrupted_says_that_nothing_is_left(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.merging.merge", interrupted)
    assert commands.merge(argparse.Namespace(run=str(make_run().run.path), runs=None, to=None, json=True)) == 130
    assert "what was written of the merged model was removed" in capsys.readouterr().err


def test_runs_of_one_name_are_no_obstacle_to_calibrating(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run()
    first.report()
    newer = make_run("other")
    newer.report(version=99)
    measured = {"name": "cpu", "torch": "2.13", "matmul_flops": {"fp32": 3.65e10}, "bandwidth": 9.63e9}
    learned, new = list[Any](), list[bool]()

    def learn(machine: object, past: list[Any], *, host_is_new: bool) -> dict[str, Learned]:
        new.append(host_is_new)
        learned.extend(past)
        runs = Learned({"lora": 1.1}, {"lora": 1.1}, {"lora": 0.075})
        return {"runs": runs, "pace": Learned({}, {"full fp32": 1.25}, {"lora fp32": 0.21})}

    monkeypatch.setattr(commands_estimate, "all_runs", lambda runs: [first.run, newer.run, first.run])
    monkeypatch.setattr(commands_estimate, "inspect_machine", lambda: None)
    monkeypatch.setattr("engine.prediction.calibration.remembered", lambda machine: measured | {"bandwidth": 9.1e9})
    monkeypatch.setattr("engine.prediction.calibration.measure", lambda machine: measured | {"launch": 4e-5, "busy": False})
    monkeypatch.setattr("engine.prediction.calibration.learn", learn)
    assert commands_estimate.calibrate(argparse.Namespace(runs=runs_root(), json=False)) == 0
    assert sorted(bool(report) for _name, report in learned) == [False, True, True]
    told = " ".join(capsys.readouterr().out.split())
    assert "Matrix products in fp32: 36.5 Gflop/s The host, for an operation: 40 µs The last" in told, "it is what it was"
    assert "Copying in memory: 9.63 GB/s (was 9.1 GB/s)" in told
    assert "full fp32 are multiplied by that from now on (before: 1.00)" in told
    assert "lora runs differ by 7.5% in memory; above 5% nothing is learned" in told
    assert "lora fp32 differ by 21% in time; above 15% nothing is learned" in told
    assert "lora runs agree" not in told, "what was learned once is no agreement of these"
    monkeypatch.setattr("engine.prediction.calibration.measure", lambda machine: measured | {"launch": 4e-5, "busy": True})
    assert commands_estimate.calibrate(argparse.Namespace(runs=runs_root(), json=True)) == 0
    assert new == [True, False], "what is not kept, of a busy machine, is not known"


def test_of_runs_with_one_name_the_one_at_hand_is_meant_or_none(
    make_run: Callable[..., Any], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a copied project has them."""
    run = make_run().run
    copies = [tmp_path / place / "runs" for place in ("copy", "other")]
    for copy in copies:
        shutil.copytree(runs, copy)
        remember(copy / run.name)
    monkeypatch.chdir(tmp_path)
    assert attach(run.name).path == run.path.resolve()
    monkeypatch.chdir(tmp_path / "copy")
    assert attach(run.name).path == (copies[0] / run.name).resolve()
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(InputError, match="give its path"):
        attach(run.name)


def test_windows_is_told_what_to_do() -> None:
    lacking = ("fcntl", "pwd", "resource", "termios")
    code = f"import shutil, sys; sys.platform = 'win32'; sys.modules |= dict.fromkeys({lacking})\n"
    code += "from tui.cli import main; sys.exit(main(['--auto']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "Windows is not supported; install Loracle below it in WSL" in done.stderr
