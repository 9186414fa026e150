"""Conversations, from a file to a model that answers, through the real program."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine.files import read_json

Command = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_conversations_are_recommended_trained_and_told(tiny_chat: Path, loracle: Command, tmp_path: Path) -> None:
    rows = ["--data", EXAMPLES / "chat-train.jsonl", "--eval", EXAMPLES / "chat-heldout.jsonl", "--train-rows", "60"]
    short = ["--set", "epochs=1", "--set", "evaluations=1", "--set", "learning_rate=0.003", "--eval-rows", "10"]
    done = loracle("--auto", "--model", tiny_chat, *rows, *short, "--method", "lora", "--anyway", "--runs", "runs")
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
    assert "Sample answers" in done.stdout
    (file,) = (tmp_path / "runs").glob("*/report.json")
    report = read_json(file)
    assert report["scores"]["after"]["loss"] < report["scores"]["before"]["loss"]
    assert all(sample["prompt"] and sample["wanted"] for sample in report["samples"])


def test_a_conversation_out_of_order_is_refused_before_anything_is_written(
    tiny_chat: Path, loracle: Command, tmp_path: Path
) -> None:
    good = [json.loads(line) for line in (EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()[:30]]
    good[16]["messages"].insert(1, {"role": "tool", "content": "42"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good))
    done = loracle("--auto", "--model", tiny_chat, "--data", "rows.jsonl", "--anyway", "--runs", "runs")
    assert done.returncode == 2
    assert "rows.jsonl: row 17: column messages holds a tool's answer as message 2 that no call comes before" in " ".join(
        done.stderr.split()
    )
    assert not (tmp_path / "runs").exists()
