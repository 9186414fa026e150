"""What a fine-tune does to text that has nothing to do with it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from engine.events import read_events
from engine.files import read_json
from engine.worker import forgetting
from engine.worker.generic_head import _next_tokens, _with_gaps
from engine.worker.generic_text import TEXTS
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here

ROOT = Path(__file__).parents[3]


def chat_plan(model: Path, **fields: Any) -> Plan:
    data = {
        "train": str(ROOT / "examples" / "chat-train.jsonl"), "eval": str(ROOT / "examples" / "chat-heldout.jsonl"),
        "text_column": None, "label_column": None, "labels": None, "columns": {"messages": "messages"}, "layout": "messages",
        "train_rows": 40, "eval_rows": 8, "validation_rows": 8,
    }  # fmt: skip
    return make_plan(model, "full", data=data, task="chat", max_length=128, metric="loss", token_budget=1024, **fields)


def test_a_model_that_writes_is_scored_on_generic_text_before_and_after(tiny_chat: Path, run_here: Here) -> None:
    run = run_here(chat_plan(tiny_chat, learning_rate=5e-3, epochs=2.0, evaluations=1, forgetting_check=True))
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


def test_without_held_out_rows_generic_text_is_scored_all_the_same(tiny_chat: Path, run_here: Here) -> None:
    plan = chat_plan(tiny_chat, epochs=0.1, evaluations=1, forgetting_check=True)
    data = plan.data.model_copy(update={"eval": None, "held_out_rows": 0})
    report = run_here(plan.model_copy(update={"data": data})).report() or {}
    assert (report["scores"], report["forgetting"]["texts"]) == ({}, len(TEXTS))


def test_of_a_checkpoint_without_the_head_that_guesses_words_it_is_said_that_it_does_not_apply(
    tiny: Path, run_here: Here
) -> None:
    run = run_here(make_plan(tiny, epochs=0.1, evaluations=1, forgetting_check=True))
    report = run.report() or {}
    assert report["forgetting"] is None
    (said,) = (e["text"] for e in read_events(run.events) if e.get("code") == "no_forgetting_check")
    assert said == "The forgetting check does not apply: the checkpoint comes without the head that guesses words."


@pytest.mark.parametrize(
    ("kind", "method"),
    [pytest.param("bert", "full", marks=pytest.mark.faults), ("bert", "qlora"), ("roberta", "lora"), ("llama", "lora")],
)
def test_a_classifier_guesses_words_with_the_head_it_was_pretrained_with(
    tiny: Path, tiny_roberta: Path, tiny_llama: Path, run_here: Here, tmp_path: Path, kind: str, method: str
) -> None:
    """What it says before is what transformers says with the whole checkpoint; training with a wild rate makes it worse."""
    folder, auto = tiny_llama, transformers.AutoModelForCausalLM
    if kind != "llama":
        folder, auto = tmp_path / kind, transformers.AutoModelForMaskedLM
        shutil.copytree(tiny if kind == "bert" else tiny_roberta, folder)
        torch.manual_seed(1)
        auto.from_config(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    run = run_here(make_plan(folder, method, epochs=0.3, evaluations=1, learning_rate=2e-2, forgetting_check=True))
    found = (run.report() or {})["forgetting"]
    assert found["hidden"] is (kind != "llama")
    assert found["loss"]["after"] != found["loss"]["before"]
    assert any("generic text" in s and "interval" in s for s in (run.report() or {})["statements"])

    tokenizer, model = transformers.AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder).eval()
    nats, tokens = 0.0, 0
    for number, text in enumerate(TEXTS):
        ids = tokenizer(text, truncation=True, max_length=48)["input_ids"]
        given, targets = _with_gaps(ids, number, tokenizer) if kind != "llama" else _next_tokens(ids)
        assert kind == "llama" or given.count(tokenizer.mask_token_id) == len(targets) > 0
        with torch.no_grad():
            shares = model(input_ids=torch.tensor([given])).logits[0].log_softmax(-1)
        nats -= sum(float(shares[place, token]) for place, token in targets)
        tokens += len(targets)
    assert found["loss"]["before"] == pytest.approx(nats / tokens, rel=1e-4 if method != "qlora" else 0.05)


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
