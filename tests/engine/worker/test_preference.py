"""Preferences: what a pair is, the loss of a logical batch, and runs that learn which answer is wanted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from engine.events import read_events
from engine.files import read_json, sha256_of
from engine.loading import load, split
from engine.metrics.kinds import Answers
from engine.metrics.pairs import Pairs
from engine.rundir import RunDirectory
from engine.worker import causal
from engine.worker.budget import TokenBudget
from engine.worker.modeling import build, load_tokenizer
from engine.worker.reference import compare_with
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.conversation import sides
from engine.worker.tasks.preference import Preference
from engine.worker.tasks.registry import task_of
from engine.worker.token_rows import Records
from recommender.errors import InputError
from recommender.plan import DataChoice, Plan
from tests.conftest import put_rows
from tests.engine.worker.conftest import Here
from tests.engine.worker.exact import assert_same, cut_step, gradients

POLITE, RUDE = "Of course, I am glad to help with it.", "No. Leave me alone."
ASKED = {"role": "user", "content": "Where is my parcel?"}
BOTH = {"prompt": "q", "input": "more"}
SAID = [{"role": "assistant", "content": text} for text in ("On its way.", "Who knows.")]


def rows_of(count: int) -> list[dict[str, Any]]:
    things = ("parcel", "refund", "invoice", "password", "screen")
    return [
        {
            "conversations": [{"from": "human", "value": f"My {things[i % 5]} {i}{' is gone' * (i % 4)}, help me"}],
            "chosen": {"from": "gpt", "value": f"{POLITE}{' Wait a moment.' * (i % 3)}"},
            "rejected": {"from": "gpt", "value": f"{RUDE}{' Really.' * (i % 2)}"},
        }
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    return put_rows(file, rows_of(70))


def plan_of(model: Path, file: str, method: str = "full", **fields: Any) -> Plan:
    adapter = {} if method == "full" else {"rank": 8, "alpha": 16, "target_modules": "all-linear", "dropout": 0.0}
    columns = {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"}
    rows = {"train": file, "layout": "preference", "columns": columns, "validation_rows": 6, "held_out_rows": 12}
    content = {"model": {"id": str(model)}, "data": rows, "task": "preference", "method": method, "learning_rate": 3e-3}
    content |= {"epochs": 1.0, "effective_batch": 8, "max_length": 128, "token_budget": 800, "evaluations": 1}
    return Plan.model_validate(content | {"early_stopping": False} | adapter | fields)


def log_likelihood(model: Any, ids: list[int], labels: list[int]) -> torch.Tensor:
    """Of the learned tokens of one sequence, in plain torch."""
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    found = -functional.cross_entropy(logits.float(), torch.tensor(labels[1:]), reduction="none", ignore_index=-100)
    return found.sum()


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_cut_batch_has_the_gradients_of_the_uncut_one(
    tiny_chat: Path, pairs_file: str, monkeypatch: pytest.MonkeyPatch, method: str, packed: bool
) -> None:
    """The uncut batch is computed pair by pair as the paper writes it; the reference is the model before it was changed."""
    plan = plan_of(tiny_chat, pairs_file, method, label_smoothing=0.1, preference_beta=0.3)
    tokenizer = load_tokenizer(str(tiny_chat))
    task = task_of(plan, [], tokenizer.pad_token_id, "decoder")
    assert isinstance(task, Preference)
    rows = task.encode(tokenizer, split(plan.data, "preference").train).take(range(8))
    torch.manual_seed(0)
    model = build(task, str(tiny_chat)).model
    if not packed:
        monkeypatch.setattr(causal, "prepare", lambda model: "it is not to")
    task.adopt(model)
    assert causal.is_packed(model) is packed
    reader = Reader(task, TokenBudget(400, lambda before, after: None), lambda: None)
    reference = reader.reference(model, rows)
    assert isinstance(rows.targets, Records)
    rows.targets.fields["reference"] = reference
    at_first = task.answers(model, list(rows.input_ids), list(rows.targets))
    assert all(a.loss == pytest.approx(0.6931, abs=1e-3) for a in at_first), "an untouched model prefers neither"
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and (method == "full" or "lora_B" in name):
                p.add_(torch.randn_like(p) * 0.05)

    sides = [(t["labels"], t["chosen"], t["reference"]) for t in rows.targets]
    losses = []
    for ids, (labels, n, (ref_chosen, ref_rejected)) in zip(rows.input_ids, sides, strict=True):
        chosen = log_likelihood(model, ids[:n], labels[:n]) - ref_chosen
        rejected = log_likelihood(model, ids[n:], labels[n:]) - ref_rejected
        margin = 0.3 * (chosen - rejected)
        losses.append(-0.9 * functional.logsigmoid(margin) - 0.1 * functional.logsigmoid(-margin))
    expected_loss = torch.stack(losses).mean()
    expected_loss.backward()
    expected = gradients(model)
    assert cut_step(task, model, rows, 200) == pytest.approx(float(expected_loss.detach()), rel=1e-4)
    assert_same(gradients(model), expected, 1e-3, 1e-7)


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.faults), "qlora"])
def test_a_run_learns_which_answer_is_wanted(tiny_chat: Path, pairs_file: str, run_here: Here, method: str) -> None:
    run = run_here(plan_of(tiny_chat, pairs_file, method, forgetting_check=method == "lora"))
    report = run.report() or {}
    before, after = (report["scores"][name] for name in ("before", "after"))
    assert before["reward_accuracy"] == 0.5
    assert before["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert before["margin"] == pytest.approx(0, abs=1e-3)
    assert after["reward_accuracy"] > 0.9
    assert after["loss"] < before["loss"]
    assert after["chosen_reward"] - after["rejected_reward"] == pytest.approx(after["margin"], rel=1e-6)
    assert report["gains"]["before"]["margin"]["low"] > 0
    assert len(report["samples"]) > 0
    assert len(report["worst"]) == round(12 * (1 - after["reward_accuracy"]))
    reference = read_json(run.scores / "reference.json")
    assert {use: len(values) for use, values in reference.items()} == report["rows"]
    assert "DPO" in (run.model / "README.md").read_text()
    if method != "lora":
        return
    assert read_json(run.scores / "generic-after.json")["score"]["perplexity"] > 0
    (run.scores / "after.json").unlink()
    run.report_file.unlink()
    asked = phases(run).count("reference")
    seen = sha256_of(run.scores / "reference.json")
    again = run_here(run.plan(), again=run)
    assert (again.report() or {})["scores"] == report["scores"]
    assert sha256_of(run.scores / "reference.json") == seen
    assert phases(run).count("reference") == asked, "what the untouched model said is not asked again"


def test_what_the_untouched_model_said_of_these_rows_is_not_asked_again(tmp_path: Path) -> None:
    """After a stop the model may be another one already."""
    asked: list[int] = []

    def reference(model: Any, rows: Encoded, progress: object) -> list[list[float]]:
        asked.append(len(rows))
        return [[-1.0 * len(asked), -2.0]] * len(rows)

    run = RunDirectory(tmp_path)
    run.scores.mkdir()
    reader: Any = SimpleNamespace(task=SimpleNamespace(has_reference=True), reference=reference)
    tell: Any = SimpleNamespace(progress=lambda *_: None)
    for pairs, times in ((3, 1), (3, 1), (2, 2)):
        rows = Encoded([[1, 2]] * pairs, Records(chosen=[1] * pairs, reference=[[0.0, 0.0]] * pairs), [])
        compare_with(None, {"train": rows}, reader, run, tell)
        assert len(asked) == times
        assert [target["reference"] for target in rows.targets] == [[-1.0 * times, -2.0]] * pairs


def phases(run: RunDirectory) -> list[str]:
    return [e["name"] for e in read_events(run.events) if e["kind"] == "phase"]


# What a pair is


def read(folder: Path, rows: list[dict[str, Any]], **columns: str) -> Any:
    file = folder / "rows.jsonl"
    put_rows(file, rows)
    named = {"chosen": "chosen", "rejected": "rejected"} | columns
    return load(DataChoice.model_validate({"train": str(file), "layout": "preference", "columns": named}), "preference")[0]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": ASKED["content"], "chosen": "On its way.", "rejected": "Who knows."}, {"prompt": "prompt"}),
        ({"prompt": [ASKED], "chosen": [SAID[0]], "rejected": [SAID[1]]}, {"prompt": "prompt"}),
        ({"prompt": ASKED["content"], "chosen": [ASKED, SAID[0]], "rejected": [ASKED, SAID[1]]}, {"prompt": "prompt"}),
        ({"chosen": [ASKED, SAID[0]], "rejected": [ASKED, SAID[1]]}, {}),
        ({"q": "Where is", "more": "my parcel?", "chosen": "On its way.", "rejected": "Who knows."}, BOTH),
        (
            {
                "chosen": "\n\nHuman: Where is my parcel?\n\nAssistant: On its way.",
                "rejected": "\n\nHuman: Where is my parcel?\n\nAssistant: Who knows.",
            },
            {},
        ),
        ({"chosen": [SAID[1], ASKED, SAID[0]], "rejected": [SAID[1], ASKED, SAID[1]]}, {}),
        ({"q": "Where is my parcel?", "chosen": "Where is my parcel?\nOn its way.", "rejected": "Who knows."}, {"prompt": "q"}),
    ],
    ids=["texts", "messages", "whole with prompt", "whole", "instruction and input", "one text", "greeted", "asked again"],
)
def test_pairs_are_read_however_they_are_written(tmp_path: Path, row: dict[str, Any], columns: dict[str, str]) -> None:
    rows = read(tmp_path, [row, row | {"chosen": None}, row | {"rejected": row["chosen"]}], **columns)
    (item,) = rows.items
    assert [" ".join(m["content"].split()) for m in item["messages"]] == ["Where is my parcel?"]
    assert [side[0]["content"] for side in (item["chosen"], item["rejected"])] == ["On its way.", "Who knows."]
    assert rows.dropped == 2, "where both answers are the same nothing is preferred"


def test_pairs_of_one_prompt_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    made = [{"prompt": f"question {i // 4}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(80)]
    rows = read(tmp_path, [*made, {"prompt": "q", "chosen": None, "rejected": "no"}], prompt="prompt", system="nowhere")
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    file = str(tmp_path / "rows.jsonl")
    choice = {"train": file, "layout": "preference", "columns": columns, "held_out_rows": 20, "validation_rows": 12}
    choice |= {"drop_conflicts": True}  # answers to one question do not contradict each other
    parts = split(DataChoice.model_validate(choice), "preference")
    assert len(rows) == 80
    assert len(parts.held_out) == 20
    assert not set(parts.train.texts) & set(parts.held_out.texts)
    asked = split(DataChoice.model_validate(choice | {"held_out_rows": None, "eval_rows": 20}), "preference")
    assert (len(asked.held_out), asked.counts["overlap"], asked.counts["together"]) == (20, 0, 60)
    assert parts.counts["empty"] == asked.counts["empty"] == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "yes", "rejected": "no"}, "column prompt holds no question, and chosen and rejected are answers alone"),
        ({"chosen": [{"role": "narrator", "content": "x"}], "rejected": "no"}, "chosen .*unknown speaker, narrator"),
        ({"prompt": [ASKED], "chosen": [ASKED], "rejected": [SAID[0]]}, "chosen .*two messages of the user in a row"),
        ({"prompt": [SAID[0]], "chosen": [SAID[1]], "rejected": [SAID[0]]}, "chosen holds an answer and no question"),
        ({"prompt": "q", "chosen": [7], "rejected": "no"}, "chosen holds a message that is not an object"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_row_and_column(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    good = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    with pytest.raises(InputError, match=f"rows.jsonl: row 2: .*{said}"):
        read(tmp_path, [good, {"prompt": None} | row], prompt="prompt")


def test_pairs_that_nothing_tells_apart_after_cutting_are_counted_and_told(tiny_chat: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_chat))
    same = "the very same beginning of both answers " * 6
    good = [{"prompt": f"question {i}", "chosen": "yes", "rejected": "no"} for i in range(19)]
    rows = read(tmp_path, [*good, {"prompt": "q", "chosen": f"{same} a", "rejected": f"{same} b"}], prompt="prompt")
    task = Preference(plan_of(tiny_chat, str(tmp_path / "rows.jsonl"), max_length=32), [], 0)
    found = task.encode(tokenizer, rows)
    assert (len(found), found.rows_untrained, found.rows_cut) == (19, 1, 1)
    assert found.tokens_cut == sum(len(side.ids) - 32 for side in sides(tokenizer, rows.items[-1], "row 20").values())
    assert "1 of 20 rows (the first is row 20) leave nothing to learn: within max_length (32 tokens)" in found.why_untrained


def test_samples_go_on_from_what_both_answers_go_on_from_and_want_the_chosen_one(tiny_chat: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_chat))
    asked = [{"prompt": "Where is my parcel?", "chosen": "On its way.", "rejected": "Who knows where, not I."}]
    rows = read(tmp_path, [*asked, {"prompt": "long " * 40, "chosen": "yes", "rejected": "no"}], prompt="prompt")
    task = Preference(plan_of(tiny_chat, str(tmp_path / "rows.jsonl")), [], 0)
    found = task.encode(tokenizer, rows)
    chosen, rejected = (side.ids for side in sides(tokenizer, rows.items[0], "row 1").values())
    assert found.input_ids[0][: found.targets[0]["chosen"]] == chosen
    assert len(chosen) != len(rejected)
    (prompt,) = task.prompts(tokenizer, rows, 30)  # the other one is longer
    assert prompt.wanted == "On its way."
    assert "Where is my parcel?" in prompt.text
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in task.ends, "where an answer ends"


def test_a_tie_is_half_right() -> None:
    found = Pairs([]).summary([0] * 4, Answers([[0.0, 0.0], [1e-8, 0.0], [0.2, -0.1], [-0.1, 0.3]], [0.5] * 4))
    assert found["reward_accuracy"] == pytest.approx((0.5 + 0.5 + 1 + 0) / 4)
    assert found["margin"] == pytest.approx((0.3 - 0.4) / 4, abs=1e-6)
