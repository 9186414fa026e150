"""Models that write: runs from plan to report, and a cut batch that equals the uncut one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engine.events import EventWriter, read_events
from engine.files import read_json, sha256_of
from engine.loading import split
from engine.metrics import bootstrap
from engine.metrics.kinds import Answers
from engine.metrics.tokens import Tokens
from engine.rundir import RunDirectory
from engine.worker import causal, generating, packing, samples, session
from engine.worker.budget import TokenBudget
from engine.worker.control import StopNow
from engine.worker.inner import body_of
from engine.worker.modeling import build, load_tokenizer
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Prompt
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.registry import task_of
from recommender import answering
from recommender.answering import SAMPLES_SECONDS
from recommender.errors import InputError
from recommender.plan import Plan
from tests.conftest import put_rows
from tests.engine.worker.conftest import SHORT, Here, unfinished
from tests.engine.worker.exact import gradients, same_as_uncut, stir, uncut
from tests.engine.worker.writing import EXAMPLES, plan_of

# The step


def asked_and_told(folder: Path, work: str) -> dict[str, Any]:
    """The example conversations as another work has them: as instructions with an input, or as texts without a question."""
    if work == "chat":
        return {}
    told = [json.loads(line)["messages"][-2:] for line in (EXAMPLES / "chat-train.jsonl").read_text("utf-8").splitlines()]
    if work == "instruction":
        rows = [{"instruction": q["content"], "input": "Be kind.", "output": a["content"]} for q, a in told]
    else:
        rows = [{"text": a["content"]} for _, a in told]
    file = folder / "rows.jsonl"
    put_rows(file, rows[:120])
    layout = "alpaca" if work == "instruction" else "text"
    nothing = dict.fromkeys(("eval", "train_rows", "eval_rows"))
    return nothing | {"train": str(file), "layout": layout, "columns": {role: role for role in rows[0]}, "held_out_rows": 12}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("work", "method"),
    [
        *(("chat", method) for method in ("full", "lora", "qlora")),
        ("instruction", "full"),
        ("continued_pretraining", "full"),
        *(
            pytest.param(work, method, marks=pytest.mark.faults)  # the same loss, of other labels
            for work in ("instruction", "continued_pretraining")
            for method in ("lora", "qlora")
        ),
    ],
)
def test_a_cut_batch_has_the_gradients_of_the_uncut_one(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: str, method: str, packed: bool
) -> None:
    plan = plan_of(tiny_chat, method, task=work, data=asked_and_told(tmp_path, work))
    task = task_of(plan, [])
    tokenizer = load_tokenizer(str(tiny_chat))
    rows = task.encode(tokenizer, split(plan.data, plan.task).train).take(range(12))
    masked = sum(label == packing.IGNORED for row in rows.targets for label in row)
    assert (masked == 0) is (work == "continued_pretraining"), "of raw text everything is learned, of the rest the answers"
    torch.manual_seed(0)
    model = build(task, str(tiny_chat)).model
    stir(model)
    expected_loss = model(**uncut(rows.input_ids, rows.targets)).loss
    expected_loss.backward()
    expected = float(expected_loss.detach()), gradients(model)

    if not packed:
        monkeypatch.setattr(causal, "prepare", lambda model: "it is not to")
    task.adopt(model)
    assert causal.is_packed(model) is packed
    assert ("padded" in task.remarks) is not packed
    same_as_uncut(task, model, rows, 400, expected, 5e-5)


def test_a_model_that_reads_both_ways_is_refused(tiny: Path, run_here: Here) -> None:
    with pytest.raises(InputError, match=r"write|language-model head"):
        run_here(plan_of(tiny, max_length=96))


# Runs


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.faults), "qlora"])
def test_a_run_from_plan_to_a_model_that_its_card_loads(
    tiny_chat: Path, run_here: Here, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORACLE_SAMPLES", "1" if method == "lora" else "0")
    monkeypatch.setattr(samples, "SHARE", 1e9)  # whatever it costs
    run = run_here(plan_of(tiny_chat, method))
    report = run.report() or {}
    before, after = (report["scores"][name] for name in ("before", "after"))
    assert after["perplexity"] < before["perplexity"]
    assert after["perplexity"] == pytest.approx(np.exp(after["loss"]), rel=1e-6)
    gain = report["gains"]["before"]["perplexity"]
    assert gain["low"] <= gain["gain"] <= gain["high"] < 0
    assert report["statements"][0].startswith("Better")
    assert len(report["samples"]) == 6
    told = [e for e in read_events(run.events) if e["kind"] == "sample"]
    scored = [e["step"] for e in read_events(run.events) if e["kind"] == "evaluation" and e["split"] == "validation"]
    learning = [e for e in told if e["split"] == "learning"]
    assert [e["step"] for e in learning] == ([s for s in scored[1:] for _ in range(2)] if method == "lora" else [])
    assert [e["prompt"] for e in learning[:2]] == [e["prompt"] for e in told[:2]][: len(learning)]
    assert [e["split"] for e in told if e not in learning] == ["before"] * 6 + ["after"] * 6
    assert [s["after"] for s in report["samples"]] == [e["answer"] for e in told if e["split"] == "after"]

    assert load_tokenizer(str(run.model)).model_max_length == 256, "servers would take 192 for question and answer together"
    assert json.loads((run.model / "tokenizer.json").read_text())["truncation"] is None
    if method == "full":
        assert json.loads((run.model / "config.json").read_text())["use_cache"], "without, each token would cost as all before it"
    code = re.search(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    assert code
    question = report["samples"][0]["prompt"]
    monkeypatch.chdir(run.model)
    spoken = next(m for m in split(run.plan().data, "chat").held_out.items or () if m["messages"][-2]["content"] == question)
    source = code[1].replace('[{"role": "user", "content": "a question"}]', repr(spoken["messages"][:-1]))
    capsys.readouterr()
    exec(source.replace("max_new_tokens=200", f"max_new_tokens={SHORT}"), {})
    assert capsys.readouterr().out.strip() == report["samples"][0]["after"]
    saved = load_tokenizer(str(run.model))
    assert saved.chat_template == load_tokenizer(str(tiny_chat)).chat_template


@pytest.mark.usefixtures("short_answers")
def test_mixed_precision_holds_in_the_packed_step_too_and_only_preflight_reads_all_of_every_row(
    tiny_chat: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    whole: list[bool] = []
    real = causal.packed_loss

    def watched(model: Any, batch: Any) -> torch.Tensor:
        whole.append(batch.shared is None)
        reading = body_of(model).layers[0].mlp.up_proj.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
        try:
            return real(model, batch)
        finally:
            reading.remove()

    monkeypatch.setattr(causal, "packed_loss", watched)
    monkeypatch.setattr(packing, "WORTH", 0.0)
    rows = {"train_rows": 12, "eval_rows": 4, "validation_rows": 0}
    run_here(plan_of(tiny_chat, precision="bf16-mixed", epochs=1.0, data=rows))
    assert set(seen) == {torch.bfloat16}
    assert whole[0], "the worst micro-batches are tried as if rows shared nothing"
    assert not all(whole)


@pytest.mark.usefixtures("short_answers")
def test_settings_of_writing_that_transformers_would_not_save_again_cost_no_run(
    tiny_chat: Path, run_here: Here, tmp_path: Path
) -> None:
    """Many models are published with a temperature and greedy writing; with another end token the file counts as changed."""
    shutil.copytree(tiny_chat, tmp_path / "model")
    odd = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "pad_token_id": -1, "eos_token_id": 1}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(odd))
    run = run_here(plan_of(tmp_path / "model", epochs=0.2, evaluations=1))
    kept = json.loads((run.model / "generation_config.json").read_text())
    assert load_tokenizer(str(tiny_chat)).convert_tokens_to_ids("<|im_end|>") in kept["eos_token_id"]


@pytest.fixture(scope="module")
def tiny_experts(tiny_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_chat` as a mixture of experts, which its files hold one by one."""
    folder = tmp_path_factory.mktemp("models") / "tiny-experts"
    shutil.copytree(tiny_chat, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    known = json.loads((folder / "config.json").read_text())
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "max_position_embeddings": 256}
    shape = {name: known[name] for name in same} | {"num_local_experts": 3, "tie_word_embeddings": True}
    torch.manual_seed(0)
    transformers.MixtralForCausalLM(transformers.MixtralConfig(**shape, **ends)).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize(
    ("model", "method"),
    [("tiny_chat", "lora"), ("tiny_experts", "lora"), pytest.param("tiny_experts", "full", marks=pytest.mark.faults)],
)
def test_a_killed_run_goes_on_to_the_very_same_model(
    run_here: Here, tmp_path: Path, request: pytest.FixtureRequest, model: str, method: str
) -> None:
    own: dict[str, Any] = {"dropout": 0.1 if model == "tiny_chat" else 0.0} if method == "lora" else {}
    plan = plan_of(request.getfixturevalue(model), method, evaluations=3, data={"train_rows": 30}, **own)
    done = run_here(plan)
    copy = run_here(plan, again=unfinished(done, tmp_path, 1))
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert sha256_of(copy.model / weights) == sha256_of(done.model / weights)
    first, second = (r.report() or {} for r in (done, copy))
    assert {k: second[k] for k in ("scores", "gains", "samples")} == {k: first[k] for k in ("scores", "gains", "samples")}


@pytest.mark.usefixtures("short_answers")
def test_raw_text_trains_by_pieces(tiny_chat: Path, run_here: Here, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()]
    file = tmp_path / "texts.jsonl"
    put_rows(file, ({"text": row["messages"][-1]["content"] + f" {i}"} for i, row in enumerate(rows)))
    data = dict.fromkeys(("eval", "train_rows", "eval_rows")) | {"train": str(file), "layout": "text"}
    data |= {"columns": {"text": "text"}, "held_out_rows": 40}
    run = run_here(plan_of(tiny_chat, task="continued_pretraining", data=data, max_length=64, epochs=1.0))
    report = run.report() or {}
    steps = [e for e in read_events(run.events) if e["kind"] == "step"]
    assert len(steps) == report["steps"]
    assert sorted(e["tokens"] for e in steps)[2:] == [8 * 64] * (len(steps) - 2), "one piece and one batch may be short"
    assert report["scores"]["after"]["perplexity"] < report["scores"]["before"]["perplexity"]
    assert report["samples"]


def test_writing_samples_can_be_left_at_any_token(tiny_chat: Path, begin: Callable[[Plan], RunDirectory]) -> None:
    plan = plan_of(tiny_chat)
    run, tokenizer, task = begin(plan), load_tokenizer(str(tiny_chat)), Chat(plan, [], 0)
    rows = split(plan.data, "chat").held_out
    task.encode(tokenizer, rows)
    model = build(task, str(tiny_chat)).model
    asked = 0

    def interrupt() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise StopNow

    events = EventWriter(run.events)
    reader = Reader(task, TokenBudget(512, lambda before, after: None), interrupt)
    writing = samples.Samples(run, samples.chosen(reader, tokenizer, rows), tokenizer, reader, Narrator(events))
    with pytest.raises(StopNow):
        writing.write("before", model)
    events.close()
    assert asked == 3
    assert not (run.scores / "samples-before.json").exists()


@pytest.mark.parametrize(("fit", "left"), [(4, 128), (1, 50)])
def test_answers_are_the_same_however_many_memory_holds_at_once(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, fit: int, left: int
) -> None:
    """The training's own budget is lowered only where memory is too small for that, too."""
    task, tokenizer = Chat(plan_of(tiny_chat), [], 0), load_tokenizer(str(tiny_chat))
    model = build(task, str(tiny_chat)).model
    done: list[int] = []
    prompts = [torch.randint(5, 60, (n,)).tolist() for n in (40, 12, 33, 21, 7, 18, 29, 25)]
    right = generating.write
    tried: list[int] = []

    def write(reader: Reader, tokenizer: Any, model: Any, asked: Any, new: int, **named: Any) -> generating.Written:
        tried.append(len(asked))
        if len(asked) > fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return right(reader, tokenizer, model, asked, new, **named)

    whole = Reader(task, TokenBudget(512, lambda before, after: None), lambda: None)
    alone = [right(whole, tokenizer, model, [row], 10).texts[0] for row in prompts]
    monkeypatch.setattr(generating, "write", write)
    reader = Reader(task, TokenBudget(128, lambda before, after: None), lambda: None)
    assert generating.write_all(reader, tokenizer, model, prompts, new_tokens=10, progress=done.append).texts == alone
    assert tried[0] == 8
    assert done[-1] == 8
    assert reader.budget.tokens == left


def test_a_slow_machine_gets_fewer_or_shorter_answers_the_same_before_and_after(
    tiny_chat: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by a second whenever somebody looks at it: a token a second."""
    clock = iter(range(10**6))
    slow = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(generating, "time", slow)
    monkeypatch.setattr(samples, "time", slow)
    monkeypatch.setattr(session, "writing_seconds", lambda run: 100.0)
    monkeypatch.setattr(generating, "ANSWERS_AT_ONCE", 1)
    run = run_here(plan_of(tiny_chat, epochs=0.5, evaluations=1))
    told, report = list(read_events(run.events)), run.report() or {}
    limits = {e["name"]: e["limit"] for e in told if e["kind"] == "phase" and e.get("limit")}
    assert limits == {"answers": 100.0, "samples": SAMPLES_SECONDS}
    warned = {e["code"]: e["facts"] for e in told if e["kind"] == "warning"}
    few, short = warned["few_answers"], warned["few_samples"]
    scores = [read_json(run.scores / f"{name}.json") for name in ("before", "after")]
    answered = [[i for i, p in enumerate(s["predicted"]) if p[2] is not None] for s in scores]
    assert answered[0] == answered[1]
    assert 0 < len(answered[0]) == few["answers"] < 32
    assert report["scores"]["after"]["answers_written"] == few["answers"]
    assert scores[0]["written"] == scores[1]["written"] == few | {"cut": False}
    written = [read_json(run.scores / f"samples-{name}.json") for name in ("before", "after")]
    assert generating.LEAST_TOKENS < written[0]["tokens"] == written[1]["tokens"] == short["tokens"] < answering.SAMPLE_TOKENS
    assert len(report["samples"]) == short["answers"] == answering.SAMPLES
    assert [text for text in report["warnings"] if text.startswith("Generation is slow here")]


def test_a_machine_that_writes_next_to_nothing_says_so_and_goes_on(
    tiny_chat: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SAMPLES_SECONDS", 1e-9)
    monkeypatch.setattr(session, "writing_seconds", lambda run: 1e-9)
    run = run_here(plan_of(tiny_chat, epochs=0.5, evaluations=1))
    codes = [e["code"] for e in read_events(run.events) if e["kind"] == "warning"]
    assert {"no_time_for_answers", "no_time_for_samples"} <= set(codes)
    report = run.report() or {}
    assert report["samples"] == []
    assert "chrf" not in report["scores"]["after"]
    assert report["gains"]["before"]["perplexity"]["gain"] < 0


def test_answers_are_written_without_a_models_own_tastes_in_decoding(tiny_chat: Path) -> None:
    task, tokenizer = Chat(plan_of(tiny_chat), [], 0), load_tokenizer(str(tiny_chat))
    model = build(task, str(tiny_chat)).model
    reader = Reader(task, TokenBudget(512, lambda before, after: None), lambda: None)
    asked = [torch.randint(5, 60, (n,)).tolist() for n in (12, 7)]
    plain = generating.write(reader, tokenizer, model, asked, 12)
    own = model.generation_config
    own.update(repetition_penalty=5.0, no_repeat_ngram_size=1, min_new_tokens=11, num_beams=3, max_length=9)
    assert generating.write(reader, tokenizer, model, asked, 12) == plain
    assert model.generation_config is own, "it is saved with the result as it was"


def test_answers_need_no_copy_of_the_head_for_each_of_them(tiny_chat: Path) -> None:
    """torch makes one in 16 bit, of the last tokens of prompts as they lie: 1.8 GB where SmolLM2 wrote 32 answers."""
    plan = plan_of(tiny_chat, method="lora", precision="bf16-mixed")
    task, tokenizer = Chat(plan, [], 0), load_tokenizer(str(tiny_chat))
    model = build(task, str(tiny_chat)).model
    reader = Reader(task, TokenBudget(512, lambda before, after: None), lambda: None)
    asked = [torch.randint(5, 60, (n,)).tolist() for n in range(3, 19)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        generating.write(reader, tokenizer, model, asked, 2)
    largest = max(e.nbytes() for e in seen.profiler.kineto_results.events() if e.name() == "[memory]")
    assert largest < len(asked) * model.get_output_embeddings().weight.numel()


def test_a_run_whose_samples_tell_no_time_goes_on_without_answers_on_the_way(tmp_path: Path) -> None:
    """As versions of before wrote them."""
    kept = RunDirectory(tmp_path)
    kept.scores.mkdir()
    (kept.scores / "samples-before.json").write_text('{"samples": []}')
    first = samples.Samples(kept, [Prompt("a", [5], "b")], None, None, None)  # type: ignore[arg-type]
    learning = samples.WhileLearning(first, 0.0)
    learning.write(None, 1)
    assert not (kept.path / "events.jsonl").exists()


def test_perplexity_and_its_interval_count_tokens_not_rows() -> None:
    kind = Tokens([])
    tokens = [1.0, 9.0] * 10
    before = Answers([[3.0 * n, n] for n in tokens], [3.0] * 20, tokens)
    after = Answers([[(2.0 if n > 1 else 5.0) * n, n] for n in tokens], [2.0 if n > 1 else 5.0 for n in tokens], tokens)
    mean = (9 * 2.0 + 5.0) / 10
    assert kind.summary([0] * 20, after) == pytest.approx({"perplexity": np.exp(mean), "loss": mean})
    gain = bootstrap.gain(kind, [0] * 20, before, after, seed=1)
    assert gain["loss"]["gain"] == pytest.approx(mean - 3.0)
    assert gain["perplexity"]["low"] < np.exp(mean) - np.exp(3.0) < gain["perplexity"]["high"]


def test_answers_to_be_scored_do_not_lie_beside_what_was_freed_before(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of SmolLM2 peaked there, at 4.0 GB where 2.4 do."""
    task, tokenizer = Chat(plan_of(tiny_chat), [], 0), load_tokenizer(str(tiny_chat))
    model = build(task, str(tiny_chat)).model
    right, order = generating.write, list[str]()

    def write(*given: Any, **named: Any) -> generating.Written:
        order.append("written")
        return right(*given, **named)

    monkeypatch.setattr(generating, "write", write)
    monkeypatch.setattr(generating, "give_back", lambda: order.append("given back"))
    reader = Reader(task, TokenBudget(128, lambda before, after: None), lambda: None)
    generating.write_all(reader, tokenizer, model, [[5, 6, 7]], new_tokens=2, progress=lambda done: None)
    assert order == ["given back", "written"]
