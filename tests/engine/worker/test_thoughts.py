"""Thoughts in answers, beside the text or within it, under templates that write them, leave them out, or do not know them."""

from pathlib import Path
from typing import Any

import pytest

from engine.examples.turns import THOUGHTS
from engine.examples.turns import conversation as of_turns
from engine.inspection.data import inspect_data
from engine.loading import load
from engine.worker.modeling import load_tokenizer
from engine.worker.tasks import chat_template, conversation
from engine.worker.tasks.chat import Chat
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import DataFacts, Facts
from recommender.plan import DataChoice
from tests.conftest import CHATML, put_rows
from tests.engine.worker.talking import item, shown, with_template
from tests.engine.worker.writing import plan_of

PARTED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% set within = m['content'].split('</think>')[0].split('<think>')[-1].strip() if '</think>' in m['content'] else '' %}"
    "{% set thought = m['FIELD'] or within %}"
    "{% if thought and (WHEN) %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ m['content'].split('</think>')[-1].strip() + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LAST = PARTED.replace("WHEN", "loop.last")
QWEN, GPT_OSS = (LAST.replace("FIELD", name) for name in ("reasoning_content", "thinking"))
"""In their manner: thoughts are written where nothing follows."""
R1 = PARTED.replace("WHEN", "false").replace("m['FIELD']", "false")
"""In the manner of distilled R1 models: never."""


def talk(*answers: dict[str, Any]) -> list[dict[str, Any]]:
    turns = ([{"role": "user", "content": f"{i}?"}, {"role": "assistant", **answer}] for i, answer in enumerate(answers))
    return of_turns([turn for both in turns for turn in both], InputError).messages


def within(thought: str, said: str) -> dict[str, Any]:
    return {"content": f"<think>\n{thought}\n</think>\n\n{said}"}


def beside(thought: str, said: str, field: str = "reasoning_content") -> dict[str, Any]:
    return {"content": said, field: thought}


@pytest.mark.parametrize("field", [None, "reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize("template", [QWEN, GPT_OSS])
def test_a_last_thought_is_learned_and_an_answer_whose_thought_is_left_out_is_only_read(
    tiny_chat: Path, template: str, field: str | None
) -> None:
    tokenizer = with_template(tiny_chat, template)
    made = within if field is None else lambda thought, said: beside(thought, said, field)
    messages = talk(made("Let me see.", "On its way."), {"content": "Sorry?"}, made("Then Monday.", "Since Monday."))
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(messages), "x"))
    assert learned == ["Sorry?<|im_end|>", "<think>\nThen Monday.\n</think>\n\nSince Monday.<|im_end|>"]
    assert chat_template.unwritten_thoughts(tokenizer, item(messages), "x") == "earlier"
    assert chat_template.unwritten_thoughts(tokenizer, item(messages[2:]), "x") is None


@pytest.mark.parametrize("made", [within, beside])
def test_a_thought_that_another_answer_has_too_is_told_from_its_own(tiny_chat: Path, made: Any) -> None:
    tokenizer = with_template(tiny_chat, QWEN)
    messages = talk(made("A greeting.", "Hello there."), made("A greeting.", "Hello again."))
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(messages), "x"))
    assert learned == ["<think>\nA greeting.\n</think>\n\nHello again.<|im_end|>"]
    assert chat_template.unwritten_thoughts(tokenizer, item(messages), "x") == "earlier"


def test_thoughts_that_a_template_cuts_out_of_every_answer_are_refused_with_what_to_do(tiny_chat: Path) -> None:
    tokenizer = with_template(tiny_chat, R1.replace("<|im_start|>assistant\n'", "<|im_start|>assistant\n</think>'"))  # V3.1's
    for messages in (talk(within("Hm.", "Yes.")), talk({"content": "No."}, within("Hm.", "Yes."))):
        with pytest.raises(InputError, match=r"rows: row 1: .* leaves reasoning \(<think>\) out of answers.* remove it"):
            conversation.rendered(tokenizer, item(messages), "rows: row 1")
        pair = {"messages": messages[:-1], "tools": None, "chosen": messages[-1:], "rejected": talk({"content": "No."})[-1:]}
        with pytest.raises(InputError, match="leaves reasoning"):
            conversation.sides(tokenizer, pair, "x")


@pytest.mark.parametrize("begun", ["<think>\n", ""])
@pytest.mark.parametrize("made", [within, beside])
def test_a_last_thought_is_learned_where_the_template_cuts_all_of_them_out(tiny_chat: Path, made: Any, begun: str) -> None:
    """As those of distilled R1 models and QwQ: earlier answers stand without theirs, as they do when the model is used."""
    tokenizer = with_template(tiny_chat, R1.replace("<|im_start|>assistant\n'", f"<|im_start|>assistant\n{begun}'"))
    rest = "<think>\n".removeprefix(begun)
    messages = talk(made("Let me see.", "On its way."), {"content": "Sorry?"}, made("Then Monday.", "Since Monday."))
    row = conversation.rendered(tokenizer, item(messages), "x")
    assert shown(tokenizer, row) == ["Sorry?<|im_end|>", rest + "Then Monday.\n</think>\n\nSince Monday.<|im_end|>"]
    prompt = conversation.prompt_of(tokenizer, item(messages), "x")[1]
    assert row.ids[: len(prompt)] == prompt
    assert "Let me see." not in tokenizer.decode(row.ids)
    assert chat_template.unwritten_thoughts(tokenizer, item(messages), "x") == "earlier"
    assert chat_template.unwritten_thoughts(tokenizer, item(messages[2:]), "x") is None
    pair = {"messages": messages[:-1], "tools": None, "chosen": messages[-1:], "rejected": talk({"content": "No."})[-1:]}
    sides = {name: shown(tokenizer, side) for name, side in conversation.sides(tokenizer, pair, "x").items()}
    assert sides == {"chosen": [rest + "Then Monday.\n</think>\n\nSince Monday.<|im_end|>"], "rejected": ["No.<|im_end|>"]}


def test_thoughts_beside_the_answers_are_counted_and_told_where_the_template_does_not_write_them(
    tiny_chat: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [talk(beside("Let me see, and see again, until I know.", f"Yes, {i}.")) for i in range(3)] + [talk({"content": "No."})]
    put_rows(file, ({"messages": messages} for messages in rows))
    choice = DataChoice.model_validate({"train": str(file), "layout": "messages", "columns": {"messages": "messages"}})
    read = load(choice, "chat")[0]
    for template, count in ((CHATML, 3), (QWEN, None), (R1, None)):  # R1's text of a last answer is given its thought
        tokenizer = with_template(tiny_chat, template)
        task = Chat(plan_of(tiny_chat), [], 0)
        task.encode(tokenizer, read)
        told = "3 of 4 rows hold reasoning that the model's chat template leaves out: their answers are learned without"
        assert str(task.remarks.get("thoughts_never")).endswith(f"{told} it.") is bool(count)
        tokenizer.save_pretrained(tmp_path / "model")
        facts = inspect_data({"train": str(file), "model": str(tmp_path / "model")})["facts"]
        assert facts["unwritten_thoughts"] == count, "the plan is to tell it before the run does"
        assert facts["tokens_max"] > 30, "what is thought is read as well"


def test_thoughts_in_answers_are_told_that_nobody_knows_and_those_that_a_model_begins_with_where_they_lack(
    tiny_chat: Path, tmp_path: Path
) -> None:
    """Gpt-oss, Gemma 4 and Llama learn them as any text; Qwen 3 and R1 learn to answer without, all as TRL has it."""
    thinking = item(talk(within("Let me see.", "On its way.")))
    known = with_template(tiny_chat, CHATML)
    known.add_tokens(["</think>"])
    begun, closed = (R1.replace("<|im_start|>assistant\n'", f"<|im_start|>assistant\n<think>{end}'") for end in ("", "</think>"))
    empty = QWEN.replace("{% if thought and", "{% if m['role'] == 'assistant' and")
    file = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"{i}?", "output": f"Yes, {i}."} for i in range(3)]
    rows.append({"instruction": "4?", "output": "<think>Hm.</think>No."})
    put_rows(file, rows)
    for tokenizer, told, facts in (
        (with_template(tiny_chat, CHATML), "said", (1, None)),
        (with_template(tiny_chat, QWEN), None, (None, None)),
        (known, None, (None, None)),
        (with_template(tiny_chat, begun), None, (None, 3)),
        (with_template(tiny_chat, empty), None, (None, 3)),
        (with_template(tiny_chat, closed), "never", (None, None)),
    ):
        assert chat_template.unwritten_thoughts(tokenizer, thinking, "x") == told
        tokenizer.save_pretrained(tmp_path / "model")
        found = inspect_data({"train": str(file), "model": str(tmp_path / "model")})["facts"]
        assert (found["spoken_thoughts"], found["thoughtless_rows"]) == facts
        advice = recommend(Facts(data=DataFacts.model_validate(found)))
        codes = {w.code for w in advice.warnings}
        assert ("spoken_thoughts" in codes, "thoughtless" in codes) == (facts[0] is not None, facts[1] is not None)


def test_a_templates_own_empty_thought_is_none(tiny_chat: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_chat))
    assert chat_template.unwritten_thoughts(tokenizer, item(talk({"content": "<think>\n\n</think>\n\nYes."})), "x") is None


def test_a_thought_is_learned_where_answers_are_asked_for_without_one(tiny_chat: Path) -> None:
    """As Qwen 3.5's small models do; behind a call gpt-oss writes what came before otherwise, once the last answer stands."""
    unasked = with_template(tiny_chat, GPT_OSS.replace("assistant\n' }", "assistant\n<think>\n\n</think>' }"))
    messages = talk(beside("Let me see.", "On its way to you, I think."))
    learned = shown(unasked, conversation.rendered(unasked, item(messages), "x"))
    assert learned == ["Let me see.\n</think>\n\nOn its way to you, I think.<|im_end|>"]
    begin = "{{ '<|im_start|>' + m['role'] }}"
    thinks = begin + "{{ '[think]' + m['thinking'] + '<|im_end|>' }}"
    final = "{% set final = messages[-1]['role'] == 'assistant' and not messages[-1]['tool_calls'] %}"
    turn = "{% if m['thinking'] and (loop.last or not final) %}" + thinks + "{% endif %}" + begin
    call = "{{ '[call]' + m['tool_calls'][0]['name'] if m['tool_calls'] else '[says]' + m['content'] }}{{ '<|im_end|>' }}"
    asks = "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    channels = with_template(tiny_chat, final + "{% for m in messages %}" + turn + call + "{% endfor %}" + asks)
    calling = {"role": "assistant", "content": "", "tool_calls": [{"name": "weather"}], **dict.fromkeys(THOUGHTS[:2], "Hm.")}
    messages[1:1] = [calling, {"role": "tool", "content": "18 C"}]
    learned = shown(channels, conversation.rendered(channels, item(messages), "x"))
    assert learned == ["[think]Let me see.<|im_end|><|im_start|>assistant[says]On its way to you, I think.<|im_end|>"]
