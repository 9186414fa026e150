"""The questions as ordinary prompts: what is asked, what is run, and how it ends."""

import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.inspect import DataInspection, ModelInspection
from engine.tables.files import existing_file
from recommender.errors import InputError
from tui import draft, plain
from tui.cli import _parser


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, model: ModelInspection, make_data: Callable[..., DataInspection]) -> list[Any]:
    asked: list[Any] = []
    monkeypatch.setattr(plain, "existing_file", lambda name: name in ("rows.csv", "x.csv") or existing_file(name))

    def inspect(name: str, **options: Any) -> ModelInspection:
        if name == "nonsense":
            raise InputError("nonsense: there is no such model folder.")
        return model

    def rows(data: str, **options: Any) -> DataInspection:
        asked.append((data, options["eval"], options["task"]))
        return make_data(duplicate_share=0.06)

    monkeypatch.setattr("engine.inspect.inspect_model", inspect)
    monkeypatch.setattr("engine.inspect.inspect_data", rows)
    return asked


def answers(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


@pytest.mark.usefixtures("known")
def test_answers_become_the_command_that_auto_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        typed.append(arguments)
        return 0

    said = ["9", "code", "nonsense", "small", "row.csv", "rows.csv", "", "tagging", "", "", "half an hour", "0.5", "200", ""]
    answers(monkeypatch, *said, "lora")
    assert plain.ask(None, tmp_path, run) == 0
    common = ["--auto", "--model", "small", "--data", "rows.csv", "--train-rows", "200", "--purpose", "code", "--hours", "0.5"]
    assert typed == [[*common, "--dry-run", "--runs", str(tmp_path)], [*common, "--method", "lora", "--runs", str(tmp_path)]]
    told = capsys.readouterr()
    assert "there is no such model folder" in told.err
    assert "row.csv: there is no such file." in told.err.partition("Held-out")[0]
    assert "600 rows, read as classification. " in told.err
    assert "6% of the rows repeat another row" in told.err
    assert "9 is not a valid number" in told.err
    assert "tagging is not one of the tasks" in told.err
    assert "half an hour is not a valid number" in told.err
    assert told.out == ""
    assert draft.kept() == draft.Draft()
    assert draft.recent("model") == ["small"]


@pytest.mark.usefixtures("known")
def test_what_was_said_by_flags_holds_where_no_draft_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "closed").touch()
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "closed"))
    typed: list[list[str]] = []
    answers(monkeypatch, *[""] * 9, "no")
    plain.ask(draft.Draft(model="small", data="rows.csv"), None, lambda arguments: typed.append(arguments) or 0)  # type: ignore[func-returns-value]
    assert typed == [["--auto", "--model", "small", "--data", "rows.csv", "--dry-run"]]


def test_a_task_can_be_changed(known: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers(monkeypatch, "", "small", "rows.csv", "held.csv", "regression", "", "", "", "-", "-", "-", "no")
    assert plain.ask(None, None, lambda arguments: 0) == 0
    assert known == [("rows.csv", "held.csv", None), ("rows.csv", "held.csv", "regression")]
    command = shlex.split(capsys.readouterr().out)
    assert command[:2] == ["loracle", "--auto"]
    assert "regression" in command


@pytest.mark.usefixtures("known")
def test_a_pilot_begins_once_it_was_told_and_agreed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[list[str]] = []
    answers(monkeypatch, "", "small", "rows.csv", *[""] * 6, "epochs=2", "pilot", "no", "pilot", "yes")
    assert plain.ask(None, None, lambda arguments: typed.append(arguments) or 0) == 0  # type: ignore[func-returns-value]
    pilot = ["pilot", "--model", "small", "--data", "rows.csv", "--set", "epochs=2"]
    assert typed[-3:] == [[*pilot, "--dry-run"], [*pilot, "--dry-run"], pilot]
    assert _parser().parse_args(typed[-1]).methods is None
    assert _parser().parse_args(typed[-2]).dry_run


@pytest.mark.usefixtures("known")
def test_columns_samples_settings_and_the_goal_are_asked_for_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make_data: Callable[..., DataInspection]
) -> None:
    typed: list[list[str]] = []
    read: list[dict[str, Any]] = []

    def rows(data: str, **options: Any) -> DataInspection:
        read.append(options)
        return make_data(eval_rows=60, text_column=options["text_column"] or "text", conflict_share=0.1)

    def run(arguments: list[str]) -> int:
        typed.append(arguments)
        return 2 if "rnak=9" in arguments else 0

    monkeypatch.setattr("engine.inspect.inspect_data", rows)
    said = ["", "small", "rows.csv", "held.csv", "", "text=id", "", "", "yes", "", "", "yes", "-", "-", "50"]
    answers(monkeypatch, *said, "rank=8", "rnak=9", "--forgetting much", "--forgetting high", "lora")
    assert plain.ask(None, None, run) == 0
    assert [r["text_column"] for r in read] == [None, "id", "id"]
    assert [r["drop_conflicts"] for r in read] == [False, False, True]
    told = capsys.readouterr().err
    assert "much" in told
    assert "Your own settings for the run: rank=8." in told
    assert [("--dry-run" in t, "--set" in t, "--forgetting" in t, "lora" in t) for t in typed] == [
        (True, False, False, False), (True, True, False, False), (True, True, False, False), (True, True, True, False),
        (False, True, True, True),
    ]  # fmt: skip
    assert shlex.join(typed[-1]).endswith("--drop-conflicts --eval-rows 50 --forgetting high --method lora --set rank=8")


@pytest.mark.usefixtures("known")
def test_what_is_refused_is_run_only_when_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        typed.append(arguments)
        return 0 if "--anyway" in arguments else 3

    answers(monkeypatch, "", "small", "rows.csv", *[""] * 7, "yes")
    assert plain.ask(None, None, run) == 0
    assert [("--dry-run" in a, "--anyway" in a) for a in typed] == [(True, False), (False, False), (False, True)]


@pytest.mark.usefixtures("known")
def test_a_run_has_the_settings_that_were_shown_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set on the plan screen, and kept, belongs to its method, its model and its data."""
    typed: list[str] = []

    def run(arguments: list[str]) -> int:
        typed.append(shlex.join(arguments))
        return 0

    kept = draft.Draft(model="small", data="rows.csv", settings={"lora": {"rank": "64"}, "full": {"epochs": "1"}})
    lora = replace(kept, method="lora")
    for one, data, chosen in ((kept, "", "lora"), (lora, "", ""), (lora, "x.csv", "lora")):
        draft.keep(one)
        answers(monkeypatch, "", "", data, *[""] * 6, chosen)
        assert plain.ask(None, None, run) == 0
    assert ["rank=64" in line for line in typed] == [False, False, True, True, False, False]
    assert typed[2].replace(" --dry-run", "") == typed[3]
    answers(monkeypatch, "", "", "", *[""] * 6, "")
    of_both = {"full": {"epochs": "1"}, "lora": {"rank": "8"}, "qlora": {"rank": "8"}}
    assert plain.ask(replace(kept, settings=of_both), None, run) == 0
    assert typed[-1].endswith("--set rank=8"), "a flag that two methods know"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("code", "kept"), [(2, True), (130, True), (3, True), (0, False), (5, False)])
def test_answers_are_forgotten_only_once_a_run_was_started(monkeypatch: pytest.MonkeyPatch, code: int, kept: bool) -> None:
    answers(monkeypatch, "", "small", "rows.csv", *[""] * 7, "no")
    assert plain.ask(None, None, lambda arguments: 0 if "--dry-run" in arguments else code) == code
    assert (draft.kept().data == "rows.csv") is kept


def test_input_that_is_no_text_is_a_wrong_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n1\n"), encoding="utf-8"))
    with pytest.raises(plain.InputEnded):
        plain.ask(draft.Draft(model="demo"), None, lambda arguments: 0)
    assert "is not a valid number" in capsys.readouterr().err


def test_the_end_of_the_input_exits_2_and_what_was_said_is_kept() -> None:
    command = [sys.executable, "-m", "tui.cli", "--model", "demo"]
    done = subprocess.run(command, input="demo\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "the input ended before everything was answered" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("environment", "encoding", "flag", "taken"),
    [
        ({"TERM": "xterm"}, "utf-8", False, False),
        ({"TERM": "xterm"}, "utf-8", True, True),
        ({"TERM": "xterm", "ACCESSIBLE": "1"}, "utf-8", False, True),
        ({"TERM": "xterm", "ACCESSIBLE": "0"}, "utf-8", False, False),
        ({"TERM": "dumb"}, "utf-8", False, True),
        ({"TERM": "xterm"}, "latin-1", False, True),
    ],
)
def test_when_prompts_take_the_place_of_the_app(
    environment: dict[str, str], encoding: str, flag: bool, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO(), encoding=encoding))
    for name in ("ACCESSIBLE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert plain.wanted(flag) is taken
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert plain.wanted(flag)


def test_streams_that_were_closed_are_an_input_that_ended_and_an_output_that_nobody_reads(tmp_path: Path) -> None:
    loracle = f'"{sys.executable}" -P -m tui.cli --runs "{tmp_path}"'
    done = subprocess.run(f"{loracle} <&- >&-", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "the input ended" in done.stderr
    assert "Traceback" not in done.stderr
