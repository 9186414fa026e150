"""Preferences, and one text from another, through the program: recommended, trained, told."""

import json
from pathlib import Path

from engine.files import read_json
from tests.conftest import Command, plain, put_rows

THINGS = ("parcel", "refund", "invoice", "password", "screen")


def test_preferences_are_recommended_trained_and_told(tiny_chat: Path, loracle_trains: Command, tmp_path: Path) -> None:
    rows = [
        {
            "conversations": [{"from": "human", "value": f"My {THINGS[i % 5]} {i} is gone"}],
            "chosen": {"from": "gpt", "value": "I am glad to help."},
            "rejected": {"from": "gpt", "value": "Leave me alone."},
        }
        for i in range(90)
    ]
    rows += [rows[0], rows[1] | {"chosen": {"from": "gpt", "value": ""}}]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    seen = loracle_trains("inspect", "data", "pairs.json", "--model", tiny_chat, "--tokens", "1")
    assert "Row 1, chosen:" in seen.stdout
    assert "⟦I am glad to help.<|im_end|>⟧" in plain(seen.stdout)
    assert "⟦Leave me alone.<|im_end|>⟧" in plain(seen.stdout)
    short = ["--set", "epochs=1", "--set", "evaluations=1", "--set", "learning_rate=0.004", "--method", "lora"]
    done = loracle_trains("--auto", "--model", tiny_chat, "--data", "pairs.json", *short, "--anyway", "--runs", "runs")
    assert done.returncode == 0, done.stderr
    told = plain(done.stdout)
    assert "reward acc." in told
    assert "Better" in told
    assert "Sample answers" in told
    assert "One row of the training file had nothing to read, or nothing to learn, and was left out." in told
    assert "One row repeats another one and was left out." in told
    (file,) = (tmp_path / "runs").glob("*/report.json")
    scores = read_json(file)["scores"]
    assert (scores["before"]["reward_accuracy"], scores["after"]["reward_accuracy"]) == (0.5, 1.0)


def test_one_text_from_another_is_planned_for_either_kind_of_model(
    tiny_t5: Path, tiny_chat: Path, loracle_here: Command, tmp_path: Path
) -> None:
    rows = [{"source": f"the {THINGS[i % 5]} of order {i}", "target": f"{THINGS[i % 5]} please"} for i in range(120)]
    rows[7]["target"] = ""
    put_rows(tmp_path / "turned.jsonl", rows)
    for model in (tiny_t5, tiny_chat):
        situation = ["--model", model, "--data", "turned.jsonl", "--task", "seq2seq", "--anyway"]
        seen = loracle_here("plan", *situation, "-o", f"{model.name}.yaml")
        assert seen.returncode == 0, seen.stderr
        assert "One row has nothing to read, or nothing to learn, and is left out" in plain(seen.stdout)
        assert "task: seq2seq" in (tmp_path / f"{model.name}.yaml").read_text()
    learned = loracle_here("inspect", "data", "turned.jsonl", "--task", "seq2seq", "--model", tiny_t5, "--tokens", "1")
    assert "the parcel of order 0<|endoftext|>⟦parcel please<|endoftext|>⟧" in plain(learned.stdout)
    pairs = tmp_path / "pairs.jsonl"
    preferred = ({"prompt": f"q {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(90))
    put_rows(pairs, preferred)
    refused = loracle_here("--auto", "--model", tiny_t5, "--anyway", "--data", pairs, "--runs", "others")
    assert refused.returncode == 3, "as of conversations on an encoder"
    assert "for preference Loracle trains decoders" in plain(refused.stderr)
    assert not (tmp_path / "others").exists()
