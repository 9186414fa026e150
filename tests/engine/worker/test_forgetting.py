"""What a fine-tune does to text that has nothing to do with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.events import read_events
from engine.files import read_json
from engine.rundir import RunDirectory
from engine.worker import forgetting
from engine.worker.generic_text import TEXTS
from recommender.plan import Plan

MakePlan = Callable[..., Plan]
Here = Callable[..., RunDirectory]
ROOT = Path(__file__).parents[3]


def chat_plan(make_plan: MakePlan, model: Path, **fields: Any) -> Plan:
    data = {
        "train": str(ROOT / "examples" / "chat-train.jsonl"), "eval": str(ROOT / "examples" / "chat-heldout.jsonl"),
        "text_column": None, "label_column": None, "labels": None, "columns": {"messages": "messages"}, "layout": "messages",
        "train_rows": 40, "eval_rows": 8, "validation_rows": 8,
    }  # fmt: skip
    return make_plan(model, "full", data=data, task="chat", max_length=128, metric="loss", token_budget=1024, **fields)


def test_a_model_that_writes_is_scored_on_generic_text_before_and_after(
    tiny_chat: Path, make_plan: MakePlan, run_here: Here
) -> None:
    run = run_here(chat_plan(make_plan, tiny_chat, learning_rate=5e-3, epochs=2.0, evaluations=1, forgetting_check=True))
    found = (run.report() or {})["forgetting"]
    assert found["texts"] == len(TEXTS)
    kept = {name: read_json(run.scores / f"generic-{name}.json") for name in ("before", "after")}
    nats, tokens = (sum(p[i] for p in kept["after"]["predicted"]) for i in range(2))
    assert found["loss"]["after"] == pytest.approx(nats / tokens)
    assert 5.0 < found["loss"]["before"] < 9.0, "random weights know nothing: about log(700) nats"
    assert found["perplexity"]["gain"] == pytest.approx(found["perplexity"]["after"] - found["perplexity"]["before"])
    assert found["perplexity"]["low"] < found["perplexity"]["gain"] < found["perplexity"]["high"]
    assert any("generic text" in s and "interval" in s for s in (run.report() or {})["statements"])
    splits = [e["split"] for e in read_events(run.events) if e["kind"] == "evaluation"]
    assert splits.count("generic_before") == splits.count("generic_after") == 1


def test_of_a_model_that_does_not_write_it_is_said_that_it_does_not_apply(
    tiny: Path, make_plan: MakePlan, run_here: Here
) -> None:
    run = run_here(make_plan(tiny, epochs=0.1, evaluations=1, forgetting_check=True))
    report = run.report() or {}
    assert report["forgetting"] is None
    assert len([e for e in read_events(run.events) if e.get("code") == "no_forgetting_check"]) == 1


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.1, 0.9, "Forgotten"), (-0.2, 0.4, "No forgetting"), (-2.0, -1.0, "Nothing")]
)
def test_the_interval_decides_what_is_said(low: float, high: float, word: str) -> None:
    perplexity = {"before": 20.0, "after": 20.5, "gain": 0.5, "low": low, "high": high}
    assert forgetting.statement({"perplexity": perplexity}).startswith(word)


def test_the_embedded_text_is_long_enough_for_an_interval() -> None:
    assert len(TEXTS) >= 30
    assert len(set(TEXTS)) == len(TEXTS)
    assert sum(len(t.split()) for t in TEXTS) > 1200
