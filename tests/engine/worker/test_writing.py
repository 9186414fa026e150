"""Models that write: what is learned of a conversation, runs from plan to report, and a cut batch that equals the uncut one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from engine import checkpoints
from engine.events import EventWriter, read_events
from engine.files import sha256_of
from engine.inspection.data import inspect_data
from engine.loading import load, split
from engine.metrics import bootstrap
from engine.metrics.kinds import Answers
from engine.metrics.tokens import Tokens
from engine.rows import Split
from engine.rundir import RunDirectory
from engine.worker import causal, generating, inputs, samples
from engine.worker.budget import TokenBudget
from engine.worker.control import StopNow
from engine.worker.modeling import build, load_tokenizer
from engine.worker.narrator import Narrator
from engine.worker.packing import IGNORED
from engine.worker.scoring import Reader
from engine.worker.tasks import conversation, written
from engine.worker.tasks.writing import Writing
from engine.worker.training import FINISHED
from recommender.errors import InputError
from recommender.plan import DataChoice, Plan
from tests.conftest import CHATML
from tests.engine.worker.exact import gradients, same_as_uncut, stir, uncut

Here = Callable[..., RunDirectory]
EXAMPLES = Path(__file__).parents[3] / "examples"
FORGETFUL = (
    "{% for message in messages %}{% if message['role'] != 'assistant' or loop.last %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}MARK{{ message['content'] + '<|im_end|>' }}END{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Leaves earlier answers out, as templates that strip thoughts do."""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "On its way."},
    {"role": "user", "content": "Since when?"},
    {"role": "assistant", "content": "Since Monday."},
]


@pytest.fixture(scope="session")
def writer(tiny_chat: Path) -> Path:
    return tiny_chat


@pytest.fixture
def tokenizer(tiny_chat: Path) -> Any:
    return load_tokenizer(str(tiny_chat))


def with_template(folder: Path, template: str | None) -> Any:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    return tokenizer


def plan_of(model: Path, method: str = "full", *, task: str = "chat", data: dict[str, Any] | None = None, **fields: Any) -> Plan:
    rows = {
        "train": str(EXAMPLES / "chat-train.jsonl"),
        "eval": str(EXAMPLES / "chat-heldout.jsonl"),
        "layout": "messages",
        "columns": {"messages": "messages"},
        "train_rows": 40,
        "eval_rows": 12,
        "validation_rows": 6,
    }
    adapter = {} if method == "full" else {"rank": 4, "alpha": 8, "target_modules": "all-linear", "dropout": 0.0}
    content = {
        "model": {"id": str(model)},
        "data": rows | (data or {}),
        "task": task,
        "method": method,
        "learning_rate": 3e-3,
        "epochs": 1.5,
        "effective_batch": 8,
        "max_length": 192,
        "token_budget": 512,
        "evaluations": 3,
        "early_stopping": False,
    }
    return Plan.model_validate(content | adapter | fields)


def shown(tokenizer: Any, row: conversation.Rendered) -> list[str]:
    """Each run of learned tokens, as text."""
    runs: list[list[int]] = []
    before = False
    for label in row.labels:
        if label != IGNORED:
            runs = [*runs[:-1], [*runs[-1], label]] if before else [*runs, [label]]
        before = label != IGNORED
    return [tokenizer.decode(run) for run in runs]


def item(messages: list[dict[str, Any]] = TALK) -> dict[str, Any]:
    return {"messages": messages, "tools": None}


# What is learned


def test_only_answers_are_learned_each_with_the_end_of_its_turn(tokenizer: Any) -> None:
    row = conversation.rendered(tokenizer, item(), "x")
    assert shown(tokenizer, row) == ["On its way.<|im_end|>", "Since Monday.<|im_end|>"]
    assert tokenizer.decode(row.ids) == tokenizer.apply_chat_template(TALK, tokenize=False)


def test_a_template_that_rewrites_earlier_turns_is_refused_unless_it_marks_the_answers(tiny_chat: Path) -> None:
    without = with_template(tiny_chat, FORGETFUL.replace("MARK", "").replace("END", ""))
    with pytest.raises(InputError, match=r"data\.jsonl: row 7: .*leaves out or rewrites answers"):
        conversation.rendered(without, item(), "data.jsonl: row 7")
    marked = FORGETFUL.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
    row = conversation.rendered(with_template(tiny_chat, marked), item(), "x")
    assert shown(without, row) == ["Since Monday.<|im_end|>"]


THINKING = "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
OTHERWISE = {
    "thinks last": (THINKING, "", ["On its way.<|im_end|>", "<think>\n\n</think>\n\nSince Monday.<|im_end|>"]),
    "ends the text": ("", "{% else %}{{ eos_token }}", ["On its way.<|im_end|>", "Since Monday.<|im_end|>\n<|endoftext|>"]),
    "asks with a thought": ("", "{{ '<think>\n' }}", ["On its way.<|im_end|>", "Since Monday.<|im_end|>"]),
}
"""What stands before an answer, and behind what asks for one: as in the templates of Qwen3, Phi-3 and distilled R1 models."""


def otherwise(folder: Path, case: str) -> Any:
    before, behind, _ = OTHERWISE[case]
    calls = "{% if m['tool_calls'] %}{{ '<call>' + m['tool_calls'][0]['function']['name'] + '</call>' }}{% endif %}"
    turn = "{{ '<|im_start|>' + m['role'] + '\n' }}" + before + "{{ m['content'] }}" + calls + "{{ '<|im_end|>\n' }}"
    asks = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}" + behind + "{% endif %}"
    return with_template(folder, "{% for m in messages %}" + turn + "{% endfor %}" + asks)


@pytest.mark.parametrize("case", OTHERWISE)
def test_an_answer_that_is_written_otherwise_once_another_follows_is_found_by_its_words(tiny_chat: Path, case: str) -> None:
    tokenizer = otherwise(tiny_chat, case)
    row = conversation.rendered(tokenizer, item(TALK[1:]), "x")
    assert shown(tokenizer, row) == OTHERWISE[case][2]
    assert tokenizer.decode(row.ids) == tokenizer.apply_chat_template(TALK[1:], tokenize=False)
    short = [TALK[1], TALK[2] | {"content": "<"}, TALK[3], TALK[4] | {"content": "n"}]  # letters of what stands around them
    assert [text.replace("<think>\n\n</think>\n\n", "")[:2] for text in shown(
        tokenizer, conversation.rendered(tokenizer, item(short), "x")
    )] == ["<<", "n<"]  # fmt: skip


def test_a_thought_that_a_template_begins_answers_with_is_no_part_of_what_is_compared() -> None:
    said = "<think>\n\n</think>\n\nSince Monday."
    assert written.behind_thought(said, "Since Monday.") == "Since Monday."
    assert written.behind_thought(said, "<think>\nhm\n</think>\n\nSince Monday.") == said
    assert written.behind_thought("Since Monday.", "On its way.") == "Since Monday."


def test_a_call_before_the_last_answer_is_learned_where_only_that_is_thought_about(tiny_chat: Path) -> None:
    called = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    calling: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [called]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, TALK[2]]
    tokenizer = otherwise(tiny_chat, "thinks last")
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(turns), "x"))
    assert learned == ["<call>weather</call><|im_end|>", "<think>\n\n</think>\n\nOn its way.<|im_end|>"]


def test_ends_of_turns_without_a_name_are_ends_and_a_models_own_stay(tiny_chat: Path) -> None:
    tokenizer = with_template(tiny_chat, CHATML.replace("<|im_end|>", "<|done|>"))
    tokenizer.add_tokens([AddedToken("<|done|>", special=True)])  # as Llama 3, Phi and Gemma have them
    row = conversation.rendered(tokenizer, item(), "x")
    assert shown(tokenizer, row) == ["On its way.<|done|>", "Since Monday.<|done|>"]
    task = Writing(plan_of(tiny_chat), [], 0)
    task.prepare_tokenizer(tokenizer)
    task.note_end(tokenizer, row)
    model = build(task, str(tiny_chat)).model
    model.generation_config.eos_token_id = [1, 5]
    task.adopt(model)
    assert model.generation_config.eos_token_id == [1, tokenizer.convert_tokens_to_ids("<|done|>"), 5]


def test_a_mark_that_closes_before_the_end_of_the_turn_lets_it_be_learned(tiny_chat: Path) -> None:
    marked = FORGETFUL.replace("MARK{{ message['content'] + '<|im_end|>' }}END", "MARK{{ message['content'] }}END<|im_end|>")
    marked = marked.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
    tokenizer = with_template(tiny_chat, marked)
    assert shown(tokenizer, conversation.rendered(tokenizer, item(), "x")) == ["Since Monday.<|im_end|>"]


def test_a_call_that_the_template_leaves_out_is_no_empty_answer_to_learn(tiny_chat: Path, writer: Path, tmp_path: Path) -> None:
    called = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    calling: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [called]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, TALK[2]]
    silent = load_tokenizer(str(tiny_chat))
    assert shown(silent, conversation.rendered(silent, item(turns), "x")) == ["On its way.<|im_end|>"]
    task = Writing(plan_of(writer), [], 0)
    task.encode(silent, read(tmp_path, [{"messages": turns}] * 4, "messages", {"messages": "messages"}, "chat"))
    assert "4 of 4 rows call tools, which the model's chat template does not write down" in task.remarks["calls_left_out"]

    says = "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    speaks = with_template(tiny_chat, CHATML.replace("'<|im_end|>\n' }}", f"'' }}}}{says}{{{{ '<|im_end|>\n' }}}}", 1))
    learned = shown(speaks, conversation.rendered(speaks, item(turns), "x"))
    assert "weather" in learned[0]
    assert learned[1] == "On its way.<|im_end|>"
    assert not conversation.unwritten_calls(speaks, item(turns), "x")


def test_what_a_template_says_against_a_conversation_is_told(tiny_chat: Path) -> None:
    strict = with_template(tiny_chat, "{{ raise_exception('no system role, please') }}")
    with pytest.raises(InputError, match=r"data\.jsonl: row 3: .*no system role, please"):
        conversation.rendered(strict, item(), "data.jsonl: row 3")


def test_without_a_template_a_plain_one_is_given_and_the_end_token_learned(tiny_chat: Path) -> None:
    plain = with_template(tiny_chat, None)
    assert conversation.give_template(plain)
    row = conversation.rendered(plain, item(TALK[1:3]), "x")
    assert tokenizer_text(plain, row) == "### Instruction:\nWhere is my parcel?\n\n### Response:\nOn its way.<|endoftext|>\n\n"
    assert shown(plain, row) == ["On its way.<|endoftext|>"]
    assert not conversation.give_template(plain)


def tokenizer_text(tokenizer: Any, row: conversation.Rendered) -> str:
    return str(tokenizer.decode(row.ids))


def test_a_template_without_an_end_of_turn_gets_the_end_token(tiny_chat: Path) -> None:
    open_ended = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    open_ended += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = with_template(tiny_chat, open_ended)
    assert shown(tokenizer, conversation.rendered(tokenizer, item(), "x"))[-1] == " Since Monday.\n<|endoftext|>"


# Reading rows


def read(folder: Path, rows: list[dict[str, Any]], layout: str, columns: dict[str, str], task: str) -> Any:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = DataChoice.model_validate({"train": str(file), "layout": layout, "columns": columns})
    return load(choice, task)[0]  # type: ignore[arg-type]


def test_sharegpt_turns_become_messages_with_their_calls(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Weather in Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "sunny"},
        {"from": "gpt", "value": "It is sunny."},
        {"from": "human", "value": "Thanks"},
    ]
    both = [{"conversations": turns}, {"conversations": turns[:1]}]
    rows = read(tmp_path, both, "sharegpt", {"messages": "conversations"}, "chat")
    (found,) = rows.items
    assert [m["role"] for m in found["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert found["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"
    assert rows.dropped == 1, "a row without an answer teaches nothing"


def test_what_the_assistant_says_before_anything_was_asked_is_left_out_and_counted(tmp_path: Path) -> None:
    greeting = {"role": "assistant", "content": "How can I help?"}
    spoken = [{"messages": [*TALK[:1], greeting, greeting, *TALK[1:]]}, {"messages": TALK}, {"messages": [greeting]}]
    rows = read(tmp_path, spoken, "messages", {"messages": "messages"}, "chat")
    assert [item["messages"] for item in rows.items] == [TALK, TALK]
    assert [item.get("unasked") for item in rows.items] == [2, None]
    assert rows.dropped == 1, "nothing is asked at all"
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert (facts["rows"], facts["unasked_rows"], facts["empty_rows"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([TALK[1], TALK[0], TALK[2]], "system message in place 2"),
        ([TALK[1], TALK[3], TALK[2]], "two messages of the user in a row"),
        ([TALK[1], {"role": "tool", "content": "42"}, TALK[2]], "tool's answer as message 2 that no call"),
        ([{"role": "narrator", "content": "Once"}], "unknown speaker, narrator"),
        (["hello"], "no object with a speaker"),
    ],
)
def test_turns_that_no_model_could_have_had_are_refused_with_their_row(tmp_path: Path, turns: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=f"rows.jsonl: row 2: column messages .*{said}"):
        read(tmp_path, [{"messages": TALK}, {"messages": turns}], "messages", {"messages": "messages"}, "chat")


def test_a_column_of_system_prompts_opens_the_conversations_that_have_none(tmp_path: Path) -> None:
    columns = {"messages": "messages", "system": "system"}
    short = TALK[1:3]
    spoken: list[dict[str, Any]] = [{"messages": TALK, "system": "x"}, {"messages": short, "system": "Be kind."}]
    spoken.append({"messages": short})
    rows = read(tmp_path, spoken, "messages", columns, "chat")
    assert [item["messages"][0]["content"] for item in rows.items] == ["Be brief.", "Be kind.", "Where is my parcel?"]
    told = {"instruction": "Go", "output": "Gone", "system": "Be kind."}
    (found,) = read(tmp_path, [told], "alpaca", {role: role for role in told}, "instruction").items
    assert [m["role"] for m in found["messages"]] == ["system", "user", "assistant"]


def test_an_instruction_is_read_and_its_answer_learned(writer: Path, tmp_path: Path) -> None:
    full = {"instruction": "Name a colour.", "input": "A warm one.", "output": "Red."}
    columns = {role: role for role in full}
    rows = read(tmp_path, [full, {"instruction": "x", "input": "", "output": ""}], "alpaca", columns, "instruction")
    tokenizer = load_tokenizer(str(writer))
    encoded = Writing(plan_of(writer, task="instruction"), [], 0).encode(tokenizer, rows)
    assert rows.dropped == 1
    row = conversation.Rendered(encoded.input_ids[0], encoded.targets[0])
    assert shown(tokenizer, row) == ["Red.<|im_end|>"]
    assert "Name a colour.\n\nA warm one." in tokenizer_text(tokenizer, row)


def test_raw_text_is_cut_into_pieces_and_nothing_is_lost(writer: Path, tmp_path: Path) -> None:
    texts = ["The first text, which is rather short.", "The second one."]
    rows = read(tmp_path, [{"text": t} for t in texts], "text", {"text": "text"}, "continued_pretraining")
    tokenizer = load_tokenizer(str(writer))
    encoded = Writing(plan_of(writer, task="continued_pretraining", max_length=8), [], 0).encode(tokenizer, rows)
    together = [i for piece in encoded.input_ids for i in piece]
    assert tokenizer.decode(together) == f"{texts[0]}<|endoftext|>{texts[1]}<|endoftext|>"
    assert all(len(piece) == 8 for piece in encoded.input_ids[:-1])
    assert encoded.targets == encoded.input_ids


def test_rows_cut_before_their_answer_are_counted_and_refused_when_many(writer: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(writer))
    task = Writing(plan_of(writer, max_length=32), [], 0)
    short, long = [TALK[1], TALK[2]], [{"role": "user", "content": "Where is it? " * 40}, TALK[2]]
    few = read(tmp_path, [{"messages": short}] * 19 + [{"messages": long}], "messages", {"messages": "messages"}, "chat")
    encoded = task.encode(tokenizer, few)
    assert (len(encoded), encoded.rows_cut, encoded.rows_untrained) == (19, 1, 1)
    assert encoded.tokens_cut == len(conversation.rendered(tokenizer, item(long), "x").ids) - 32
    many = read(tmp_path, [{"messages": short}] * 8 + [{"messages": long}] * 2, "messages", {"messages": "messages"}, "chat")
    tell = Narrator(EventWriter(tmp_path / "events.jsonl"))
    with pytest.raises(InputError, match=r"2 of 10 rows \(the first is row 9\) leave nothing to learn.*max_length \(32 tokens\)"):
        inputs.encoded(task, tokenizer, Split(many, few, few, []), tell)
    found = inputs.encoded(task, tokenizer, Split(few, many, few, []), tell)
    told = inputs.in_words("validation", found["validation"], 32) or ""
    assert told.endswith("2 validation rows had nothing left to learn and were left out.")
    with pytest.raises(InputError, match="2 of 2 rows"):
        inputs.encoded(task, tokenizer, Split(few, few, many.take([8, 9]), []), tell)
    hollow = FORGETFUL.replace("MARK", "{% generation %}{% endgeneration %}").replace("END", "")
    masked = read(tmp_path, [{"messages": TALK}] * 4, "messages", {"messages": "messages"}, "chat")
    why = Writing(plan_of(writer), [], 0).encode(with_template(writer, hollow), masked).why_untrained
    assert "4 of 4 rows" in why
    assert "though they are not cut: the model's chat template marks nothing" in why


# The step


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_cut_batch_has_the_gradients_of_the_uncut_one(
    writer: Path, monkeypatch: pytest.MonkeyPatch, method: str, packed: bool
) -> None:
    plan = plan_of(writer, method)
    task = Writing(plan, [], 0)
    tokenizer = load_tokenizer(str(writer))
    rows = task.encode(tokenizer, split(plan.data, "chat").train).take(range(12))
    torch.manual_seed(0)
    model = build(task, str(writer)).model
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


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_run_from_plan_to_a_model_that_its_card_loads(
    writer: Path, run_here: Here, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORACLE_SAMPLES", "1" if method == "lora" else "0")
    monkeypatch.setattr(samples, "SHARE", 1e9)  # whatever it costs
    run = run_here(plan_of(writer, method))
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
    code = re.search(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    assert code
    question = report["samples"][0]["prompt"]
    monkeypatch.chdir(run.model)
    spoken = next(m for m in split(run.plan().data, "chat").held_out.items or () if m["messages"][-2]["content"] == question)
    source = code[1].replace('[{"role": "user", "content": "a question"}]', repr(spoken["messages"][:-1]))
    capsys.readouterr()
    exec(source.replace("max_new_tokens=200", f"max_new_tokens={samples.NEW_TOKENS}"), {})
    assert capsys.readouterr().out.strip() == report["samples"][0]["after"]
    saved = load_tokenizer(str(run.model))
    assert saved.chat_template == load_tokenizer(str(writer)).chat_template


def test_mixed_precision_holds_in_the_packed_step_too(
    writer: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    real = causal.packed_loss

    def watched(body: Any, head: Any, batch: Any) -> torch.Tensor:
        reading = body.layers[0].mlp.up_proj.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
        try:
            return real(body, head, batch)
        finally:
            reading.remove()

    monkeypatch.setattr(causal, "packed_loss", watched)
    run_here(plan_of(writer, precision="bf16-mixed", epochs=1.0, data={"train_rows": 12, "eval_rows": 4, "validation_rows": 0}))
    assert set(seen) == {torch.bfloat16}


def test_settings_of_writing_that_transformers_would_not_save_again_cost_no_run(
    writer: Path, run_here: Here, tmp_path: Path
) -> None:
    """Many models are published with a temperature and greedy writing; with another end token the file counts as changed."""
    shutil.copytree(writer, tmp_path / "model")
    odd = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "pad_token_id": -1, "eos_token_id": 1}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(odd))
    run = run_here(plan_of(tmp_path / "model", epochs=0.2, evaluations=1))
    kept = json.loads((run.model / "generation_config.json").read_text())
    assert load_tokenizer(str(writer)).convert_tokens_to_ids("<|im_end|>") in kept["eos_token_id"]


def test_a_killed_run_goes_on_to_the_very_same_model(writer: Path, run_here: Here, tmp_path: Path) -> None:
    plan = plan_of(writer, "lora", dropout=0.1, evaluations=3, data={"train_rows": 30})
    done = run_here(plan)
    copy = RunDirectory(tmp_path / "copied")
    shutil.copytree(done.path, copy.path)
    shutil.rmtree(copy.model)
    for file in (copy.report_file, copy.scores / "after.json", copy.scores / "samples-after.json", copy.checkpoints / FINISHED):
        file.unlink()
    newest = checkpoints.sealed(copy.checkpoints)
    assert len(newest) > 1
    shutil.rmtree(newest[0])
    run_here(plan, again=copy)
    assert sha256_of(copy.model / "adapter_model.safetensors") == sha256_of(done.model / "adapter_model.safetensors")
    first, second = (r.report() or {} for r in (done, copy))
    assert {k: second[k] for k in ("scores", "gains", "samples")} == {k: first[k] for k in ("scores", "gains", "samples")}


def test_raw_text_trains_by_pieces(writer: Path, run_here: Here, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": row["messages"][-1]["content"] + f" {i}"}) + "\n" for i, row in enumerate(rows)))
    data = dict.fromkeys(("eval", "train_rows", "eval_rows")) | {"train": str(file), "layout": "text"}
    data |= {"columns": {"text": "text"}, "held_out_rows": 40}
    run = run_here(plan_of(writer, task="continued_pretraining", data=data, max_length=64, epochs=1.0))
    report = run.report() or {}
    steps = [e for e in read_events(run.events) if e["kind"] == "step"]
    assert len(steps) == report["steps"]
    assert sorted(e["tokens"] for e in steps)[2:] == [8 * 64] * (len(steps) - 2), "one piece and one batch may be short"
    assert report["scores"]["after"]["perplexity"] < report["scores"]["before"]["perplexity"]
    assert report["samples"]


def test_writing_samples_can_be_left_at_any_token(writer: Path, begin: Callable[[Plan], RunDirectory]) -> None:
    plan = plan_of(writer)
    run, tokenizer, task = begin(plan), load_tokenizer(str(writer)), Writing(plan, [], 0)
    rows = split(plan.data, "chat").held_out
    task.encode(tokenizer, rows)
    model = build(task, str(writer)).model
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


@pytest.mark.parametrize(("fit", "left"), [(4, 128), (1, 22)])
def test_answers_are_the_same_however_many_memory_holds_at_once(
    writer: Path, monkeypatch: pytest.MonkeyPatch, fit: int, left: int
) -> None:
    """The training's own budget is lowered only where memory is too small for that, too."""
    task, tokenizer = Writing(plan_of(writer), [], 0), load_tokenizer(str(writer))
    model = build(task, str(writer)).model
    done: list[int] = []
    prompts = [torch.randint(5, 60, (n,)).tolist() for n in (40, 12, 33, 21, 7, 18, 29, 25)]
    right = generating.write
    tried: list[int] = []

    def write(reader: Reader, tokenizer: Any, model: Any, asked: Any, new: int) -> list[str]:
        tried.append(len(asked))
        if len(asked) > fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return right(reader, tokenizer, model, asked, new)

    whole = Reader(task, TokenBudget(512, lambda before, after: None), lambda: None)
    alone = [right(whole, tokenizer, model, [row], 10)[0] for row in prompts]
    monkeypatch.setattr(generating, "write", write)
    reader = Reader(task, TokenBudget(128, lambda before, after: None), lambda: None)
    assert generating.write_all(reader, tokenizer, model, prompts, new_tokens=10, progress=done.append) == alone
    assert tried[0] == 8
    assert done[-1] == 8
    assert reader.budget.tokens == left


def test_answers_are_written_without_a_models_own_tastes_in_decoding(writer: Path) -> None:
    task, tokenizer = Writing(plan_of(writer), [], 0), load_tokenizer(str(writer))
    model = build(task, str(writer)).model
    reader = Reader(task, TokenBudget(512, lambda before, after: None), lambda: None)
    asked = [torch.randint(5, 60, (n,)).tolist() for n in (12, 7)]
    plain = generating.write(reader, tokenizer, model, asked, 12)
    own = model.generation_config
    own.update(repetition_penalty=5.0, no_repeat_ngram_size=1, min_new_tokens=11, num_beams=3, max_length=9)
    assert generating.write(reader, tokenizer, model, asked, 12) == plain
    assert model.generation_config is own, "it is saved with the result as it was"


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
