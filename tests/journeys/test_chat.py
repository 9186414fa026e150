"""Conversations, from a file to a model that answers, through the real program."""

import json
from pathlib import Path

from engine.files import read_json
from tests.conftest import Command, put_rows

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_conversations_are_recommended_trained_and_told(tiny_chat: Path, loracle_trains: Command, tmp_path: Path) -> None:
    rows = ["--data", EXAMPLES / "chat-train.jsonl", "--eval", EXAMPLES / "chat-heldout.jsonl", "--train-rows", "60"]
    short = ["--set", "epochs=1", "--set", "evaluations=1", "--set", "learning_rate=0.003", "--eval-rows", "10"]
    done = loracle_trains("--auto", "--model", tiny_chat, *rows, *short, "--method", "lora", "--anyway", "--runs", "runs")
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
    assert "Sample answers" in done.stdout
    (file,) = (tmp_path / "runs").glob("*/report.json")
    report = read_json(file)
    assert report["scores"]["after"]["loss"] < report["scores"]["before"]["loss"]
    assert all(sample["prompt"] and sample["wanted"] for sample in report["samples"])


def test_a_conversation_out_of_order_is_refused_before_anything_is_written(
    tiny_chat: Path, loracle_here: Command, tmp_path: Path
) -> None:
    good = [json.loads(line) for line in (EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()[:30]]
    good[16]["messages"].insert(1, {"role": "tool", "content": "42"})
    put_rows(tmp_path / "rows.jsonl", good)
    done = loracle_here("--auto", "--model", tiny_chat, "--data", "rows.jsonl", "--anyway", "--runs", "runs")
    assert done.returncode == 2
    assert "rows.jsonl: row 17: column messages holds a tool's answer as message 2 without a call before it" in " ".join(
        done.stderr.split()
    )
    assert not (tmp_path / "runs").exists()


def test_what_is_learned_of_a_row_can_be_seen(tiny_chat: Path, loracle_here: Command) -> None:
    seen = loracle_here("inspect", "data", EXAMPLES / "chat-train.jsonl", "--model", tiny_chat, "--tokens", "2")
    assert seen.returncode == 0, seen.stderr
    first = json.loads((EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()[0])["messages"]
    shown = "".join(seen.stdout.split())
    assert f"⟦{''.join(first[-1]['content'].split())}<|im_end|>⟧" in shown
    assert f"<|im_start|>user{''.join(first[0]['content'].split())}" in shown
    assert "Row 2:" in seen.stdout
    assert "Row 3:" not in seen.stdout
    assert loracle_here("inspect", "data", EXAMPLES / "chat-train.jsonl", "--tokens", "2").returncode == 2
    of_labels = loracle_here("inspect", "data", EXAMPLES / "support-train.csv", "--model", tiny_chat, "--tokens", "2")
    assert of_labels.returncode == 2
    assert "its rows are for classification" in " ".join(of_labels.stderr.split())
