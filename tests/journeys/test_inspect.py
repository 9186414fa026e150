"""`loracle inspect`: facts for people and for files. Nothing is trained here."""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import Command, plain

ROOT = Path(__file__).parents[2]
TRAIN, HELD_OUT = ROOT / "examples" / "support-train.csv", ROOT / "examples" / "support-heldout.csv"


def test_the_three_objects_together_are_a_facts_file(loracle_here: Command, tiny: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {}
    for typed in (["machine"], ["model", tiny], ["data", TRAIN, "--eval", HELD_OUT, "--model", tiny]):
        done = loracle_here("inspect", *typed, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        facts |= json.loads(done.stdout)
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    replayed = loracle_here("plan", "--facts", "facts.json", "--json")
    assert (replayed.returncode, replayed.stderr) == (0, "")
    looked = loracle_here("plan", "--model", tiny, "--data", TRAIN, "--eval", HELD_OUT, "--json", "-o", "-")
    advice, direct = json.loads(replayed.stdout), json.loads(looked.stdout)
    for name in ("verdict", "confidence", "runner_up", "settings"):
        assert advice[name] == direct[name]
    assert [r["code"] for r in advice["reasons"]] == [r["code"] for r in direct["reasons"]]


def test_a_machine_is_shown_with_units(loracle_here: Command) -> None:
    done = loracle_here("inspect", "machine")
    assert done.returncode == 0, done.stderr
    said = plain(done.stdout)
    for words in ("Machine", "measured now", "usable core", "GB free now of", "4-bit kernels"):
        assert words in said


def test_a_model_is_shown_without_loading_its_weights(loracle_here: Command, tiny: Path) -> None:
    done = loracle_here("inspect", "model", tiny)
    assert done.returncode == 0, done.stderr
    said = plain(done.stdout)
    for words in ("encoder, BertModel", "2 layers, hidden size 64", "up to 128 tokens at once", "float32", "no weights were"):
        assert words in said


def test_data_are_shown_with_what_is_odd_about_them(loracle_here: Command, tiny: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    text = [f"{word} number {n}" for n in range(40) for word in ("apple", "pear")]
    body = "".join(f"{t} \x1b]0;x\x07,{'fruit' if i % 2 else 'tree'}\n" for i, t in enumerate([*text, text[0], text[2]]))
    rows.write_text(f"text,label\n{body}apple number 0 \x1b]0;x\x07,fruit\n")
    done = loracle_here("inspect", "data", rows, "--model", tiny)
    assert done.returncode == 0, done.stderr
    said = plain(done.stdout)
    for words in ("classification", "text: text, label: label", "2 classes", "fruit", "repeat another row", "another label"):
        assert words in said
    assert "(measured)" in said
    assert "First rows" in said
    assert "\x1b]" not in done.stdout


def test_conversations_are_shown_as_prompt_and_answer(loracle_here: Command) -> None:
    done = loracle_here("inspect", "data", ROOT / "examples" / "chat-train.jsonl")
    assert done.returncode == 0, done.stderr
    said = plain(done.stdout)
    for words in ("conversations", "messages: messages", "Learned from", "tokens per epoch", "cut at"):
        assert words in said
    rows = done.stdout.partition("First rows")[2].splitlines()
    assert [line.startswith("  → ") for line in rows[1:5]] == [False, True, False, True]


def test_the_task_and_columns_can_be_said(loracle_here: Command, tmp_path: Path) -> None:
    rows = "".join(f'{{"a": "what is {n} and {n}?", "b": "it is {2 * n}"}}\n' for n in range(60))
    (tmp_path / "rows.jsonl").write_text(rows)
    said = ("--task", "instruction", "--column", "prompt=a", "--column", "completion=b", "--json")
    done = loracle_here("inspect", "data", "rows.jsonl", *said)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["data"]
    assert (facts["task"], facts["columns"]) == ("instruction", {"prompt": "a", "completion": "b"})
    assert "ROLE=NAME" in loracle_here("inspect", "data", "rows.jsonl", "--column", "a").stderr


def test_without_a_model_tokens_are_not_called_measured(loracle_here: Command) -> None:
    said = plain(loracle_here("inspect", "data", TRAIN).stdout)
    assert "tokens" in said.lower()
    assert "(measured)" not in said


def reads_rows(pid: int) -> bool:
    """Whether the child that reads the file is at work."""
    with contextlib.suppress(psutil.Error):
        return any(child.cmdline()[-2:-1] == ["data"] for child in psutil.Process(pid).children())
    return False


def test_ctrl_c_while_a_file_is_read_ends_at_once_and_leaves_nothing(
    start_loracle: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, tiny: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"a long line of words that takes its time {n},{n % 2}\n" for n in range(600_000)))
    process = start_loracle("inspect", "data", rows, "--model", tiny)
    while not reads_rows(process.pid):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not out
