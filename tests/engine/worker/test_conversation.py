"""What is learned of a conversation, an instruction or a text, and what of rows is left out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from engine.events import EventWriter
from engine.inspection.data import inspect_data
from engine.loading import load
from engine.rows import Split
from engine.worker import inputs
from engine.worker.modeling import build, load_tokenizer
from engine.worker.narrator import Narrator
from engine.worker.packing import IGNORED
from engine.worker.tasks import chat_template, conversation, written
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.raw_text import RawText
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import DataFacts, Facts
from recommender.plan import DataChoice
from tests.conftest import CHATML
from tests.engine.worker.writing import plan_of

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


@pytest.fixture
def tokenizer(tiny_chat: Path) -> Any:
    return load_tokenizer(str(tiny_chat))


def with_template(folder: Path, template: str | None) -> Any:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    return tokenizer


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
    asked, ids, wanted = conversation.prompt_of(tokenizer, item(), "x")
    assert (asked, wanted) == ("Since when?", "Since Monday.")
    assert row.ids[: len(ids)] == ids
    assert tokenizer.decode(ids).endswith("Since when?<|im_end|>\n<|im_start|>assistant\n")


def test_of_a_pair_only_the_two_answers_are_learned_and_no_earlier_one(tokenizer: Any) -> None:
    other = TALK[4] | {"content": "Who knows?"}
    pair = {"messages": TALK[:4], "chosen": TALK[4:], "rejected": [other], "tools": None}
    said = {name: shown(tokenizer, side) for name, side in conversation.sides(tokenizer, pair, "x").items()}
    assert said == {"chosen": ["Since Monday.<|im_end|>"], "rejected": ["Who knows?<|im_end|>"]}


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


def of(turn: str, asks: str) -> str:
    return "{% for m in messages %}" + turn + "{% endfor %}{% if add_generation_prompt %}" + asks + "{% endif %}"


SHAPES = {
    "asks with a thought that only the last answer keeps (Qwen 3.5)": (
        of(
            "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.last %}"
            "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}",
            "{{ '<|im_start|>assistant\n<think>\n' }}",
        ),
        ["On its way.<|im_end|>", "\n</think>\n\nSince Monday.<|im_end|>"],
    ),
    "says in which channel it answers, and ends the text otherwise than a turn (gpt-oss)": (
        of(
            "{{ '<|im_start|>' + m['role'] + ('[final]' if m['role'] == 'assistant' else '') + '\n' + m['content'] }}"
            "{{ eos_token if loop.last and m['role'] == 'assistant' else '<|im_end|>' }}",
            "{{ '<|im_start|>assistant' }}",
        ),
        ["[final]\nOn its way.<|im_end|>", "[final]\nSince Monday.<|endoftext|>"],
    ),
    "closes no turn and begins the next with a token (GLM)": (
        of("{{ ('<|im_start|>' if m['role'] == 'user' else '[reply]') + m['content'] }}", "[reply]"),
        ["On its way.<|im_start|>", "Since Monday.<|endoftext|>"],
    ),
    "rewrites earlier answers and marks all with the line end": (
        of(
            "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
            "{{ (m['content'] if loop.last else m['content'] | upper) + '<|im_end|>\n' }}{% endgeneration %}"
            "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}",
            "{{ '<|im_start|>assistant\n' }}",
        ),
        ["ON ITS WAY.<|im_end|>\n", "Since Monday.<|im_end|>\n"],
    ),
}
"""Templates as published models have them, and what is learned of two answers under each."""


@pytest.mark.parametrize("shape", SHAPES)
def test_of_every_answer_the_words_and_what_ends_its_turn_are_learned(tiny_chat: Path, shape: str) -> None:
    template, said = SHAPES[shape]
    tokenizer = with_template(tiny_chat, template)
    row = conversation.rendered(tokenizer, item(TALK[1:]), "x")
    assert shown(tokenizer, row) == said
    task = Chat(plan_of(tiny_chat), [], 0)
    task.prepare_tokenizer(tokenizer)
    task.note_end(tokenizer, row)
    ends = {text.rstrip()[-len(end) :] for text in said for end in ("<|im_end|>", "<|im_start|>", "<|endoftext|>") if end in text}
    assert ends <= {tokenizer.decode([end]) for end in task.ends}  # an answer is over where any turn was


def test_an_answer_is_found_where_its_template_thinks_only_behind_the_last_question(tiny_chat: Path) -> None:
    """So what stands before it is written otherwise than when it was the last."""
    thinks = "{% if m['role'] == 'assistant' and loop.index0 > last.at %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    call = "{% if m['tool_calls'] %}{{ '<call>' + m['tool_calls'][0]['function']['name'] + '</call>' }}{% endif %}"
    find = "{% set last = namespace(at=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set last.at = loop.index0 %}"
    turn = "{{ '<|im_start|>' + m['role'] + '\n' }}" + thinks + "{{ m['content'] }}" + call + "{{ '<|im_end|>\n' }}"
    asks = "{{ '<|im_start|>assistant\n<think>\n' }}"
    tokenizer = with_template(tiny_chat, f"{find}{{% endif %}}{{% endfor %}}" + of(turn, asks))
    calling = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather"}}]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, *TALK[2:]]
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(turns), "x"))
    assert learned == ["<call>weather</call><|im_end|>", "On its way.<|im_end|>", "\n</think>\n\nSince Monday.<|im_end|>"]


def test_an_answer_is_not_mistaken_for_a_letter_of_what_opens_it(tiny_chat: Path) -> None:
    template = next(made for name, (made, _) in SHAPES.items() if "gpt-oss" in name)
    tokenizer = with_template(tiny_chat, template.replace("[final]", "<|im_start|>final<|im_start|>"))
    letters = [TALK[1], TALK[2] | {"content": "m"}, TALK[3], TALK[4] | {"content": "n"}]
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(letters), "x"))
    assert learned == ["m<|im_end|>", "<|im_start|>final<|im_start|>\nn<|endoftext|>"]


@pytest.mark.parametrize("words_first", [True, False])
def test_words_and_a_call_are_learned_together_or_the_template_is_refused(tiny_chat: Path, words_first: bool) -> None:
    """Behind a thought that is empty in every answer and only begun in what asks for one (Nemotron 3). Gemma 4 writes the words
    behind the tool's answer."""
    call = "{% if m['tool_calls'] %}{{ '<call>' + m['tool_calls'][0]['function']['name'] + '</call>' }}{% endif %}"
    said = "{{ m['content'] }}" + call if words_first else call + "{{ '[answer]' + m['content'] }}"
    opened = "{{ '<|im_start|>' + m['role'] + '\n' + ('<think></think>' if m['role'] == 'assistant' else '') }}"
    tokenizer = with_template(tiny_chat, of(opened + said + "{{ '<|im_end|>\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}"))
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    calling = {"role": "assistant", "content": "Let me look.", "tool_calls": [called]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, TALK[2]]
    if not words_first:
        with pytest.raises(InputError, match="x: the model's chat template leaves out or rewrites answers"):
            conversation.rendered(tokenizer, item(turns), "x")
        return
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(turns), "x"))
    assert learned[0] == "Let me look.<call>weather</call><|im_end|>"
    assert learned[1].endswith("On its way.<|im_end|>")


def test_a_template_that_writes_no_text_but_in_parts_is_refused(tiny_chat: Path) -> None:
    """As those of models that see do: only the ends of turns would be learned."""
    parts = "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    blind = of("{{ '<|im_start|>' + m['role'] + '\n' }}" + parts + "{{ '<|im_end|>\n' }}", "{{ '<|im_start|>assistant\n' }}")
    with pytest.raises(InputError, match="leaves out or rewrites answers"):
        conversation.rendered(with_template(tiny_chat, blind), item(), "x")


def test_ends_of_turns_without_a_name_are_ends_and_a_models_own_stay(tiny_chat: Path) -> None:
    tokenizer = with_template(tiny_chat, CHATML.replace("<|im_end|>", "<|done|>"))
    tokenizer.add_tokens([AddedToken("<|done|>", special=True)])  # as Llama 3, Phi and Gemma have them
    row = conversation.rendered(tokenizer, item(), "x")
    assert shown(tokenizer, row) == ["On its way.<|done|>", "Since Monday.<|done|>"]
    task = Chat(plan_of(tiny_chat), [], 0)
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


def writing_calls(folder: Path, how: str) -> Any:
    """A template that writes the tools which a message calls that way."""
    return with_template(folder, CHATML.replace("'<|im_end|>\n' }}", f"'' }}}}{how}{{{{ '<|im_end|>\n' }}}}", 1))


def test_a_call_that_the_template_leaves_out_is_no_empty_answer_to_learn(tiny_chat: Path, tmp_path: Path) -> None:
    called = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
    calling: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [called]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, TALK[2]]
    silent = load_tokenizer(str(tiny_chat))
    assert shown(silent, conversation.rendered(silent, item(turns), "x")) == ["On its way.<|im_end|>"]
    task = Chat(plan_of(tiny_chat), [], 0)
    task.encode(silent, read(tmp_path, [{"messages": turns}] * 4, "messages", {"messages": "messages"}, "chat"))
    assert "4 of 4 rows call tools, which the model's chat template leaves out" in task.remarks["calls_left_out"]
    only = read(tmp_path, [{"messages": turns[:2], "tools": []}] * 4, "messages", {"messages": "messages"}, "chat")
    assert "not cut: they call tools, which the model's chat template leaves out" in task.encode(silent, only).why_untrained
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in (turns, turns[:2], TALK)))
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl"), "model": str(tiny_chat)})["facts"]
    assert (facts["unwritten_calls"], facts["unwritten_rows"]) == (2, 1), "the plan is to tell it before the run does"
    advice = recommend(Facts(data=DataFacts.model_validate(facts)))
    assert any("2 rows call tools" in w.text and "nothing at all from 1 of the rows" in w.text for w in advice.warnings)

    thinks = of("{{ '<|im_start|>' }}" + THINKING + "{{ m['content'] + '<|im_end|>\n' }}", "{{ '<|im_start|>' }}")
    rewriting = with_template(tiny_chat, thinks)
    learned = shown(rewriting, conversation.rendered(rewriting, item(turns), "x"))
    assert [text.rpartition("\n")[2] for text in learned] == ["On its way.<|im_end|>"]
    listing = with_template(tiny_chat, "{{ tools | tojson }}" + CHATML)  # so that the name of what is called stands there
    tools = [{"type": "function", "function": {"name": "weather"}}]
    row = conversation.rendered(listing, {"messages": turns, "tools": tools}, "x")
    assert shown(listing, row) == ["On its way.<|im_end|>"]
    prompt = conversation.prompt_of(listing, {"messages": turns, "tools": tools}, "x")[1]
    assert all(listing.decode(ids).startswith('[{"type": "function"') for ids in (row.ids, prompt)), "what may be called is read"

    says = "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    speaks = writing_calls(tiny_chat, says)
    learned = shown(speaks, conversation.rendered(speaks, item(turns), "x"))
    assert "weather" in learned[0]
    as_json = json.loads(json.dumps(turns))
    as_json[1]["tool_calls"][0]["function"]["arguments"] = '{"city": "Zürich"}'  # as OpenAI's rows have them
    assert shown(speaks, conversation.rendered(speaks, item(as_json), "x")) == learned
    joining = says.replace("message['tool_calls'] | tojson", "'<call>' + message['tool_calls'][0].function.arguments")
    joins = writing_calls(tiny_chat, joining)
    texts = [conversation.rendered(joins, item(each), "x").ids for each in (turns, as_json)]
    assert texts[0] == texts[1], "DeepSeek's templates add up texts"
    choosy = says.replace("%}", "and message['tool_calls'][0].function.arguments is string %}", 1)
    chooses = writing_calls(tiny_chat, choosy)
    assert "weather" in shown(chooses, conversation.rendered(chooses, item(turns), "x"))[0]
    shutil.copytree(tiny_chat, tmp_path / "speaks")
    speaks.save_pretrained(tmp_path / "speaks")
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl"), "model": str(tmp_path / "speaks")})["facts"]
    assert (facts["unwritten_calls"], facts["unwritten_rows"]) == (None, None)
    assert learned[1] == "On its way.<|im_end|>"
    assert not chat_template.unwritten_calls(speaks, item(turns), "x")


def test_what_a_template_says_against_a_conversation_is_told(tiny_chat: Path) -> None:
    strict = with_template(tiny_chat, "{{ raise_exception('no system role, please') }}")
    with pytest.raises(InputError, match=r"data\.jsonl: row 3: .*no system role, please"):
        conversation.rendered(strict, item(), "data.jsonl: row 3")


def test_without_a_template_a_plain_one_is_given_and_the_end_token_learned(tiny_chat: Path) -> None:
    plain = with_template(tiny_chat, None)
    assert chat_template.give_template(plain)
    row = conversation.rendered(plain, item(TALK[1:3]), "x")
    assert tokenizer_text(plain, row) == "### Instruction:\nWhere is my parcel?\n\n### Response:\nOn its way.<|endoftext|>\n\n"
    assert shown(plain, row) == ["On its way.<|endoftext|>"]
    assert not chat_template.give_template(plain)
    for adds in (False, True):  # a beginning of texts that the tokenizer knows, and one that it writes
        other = with_template(tiny_chat, None)
        other.bos_token = "<|im_start|>"
        begin = [("<|im_start|>", other.bos_token_id)]
        if adds:
            other.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=begin)
        chat_template.give_template(other)
        ids = conversation.rendered(other, item(TALK[1:3]), "x").ids
        assert ids == ([other.bos_token_id] if adds else []) + row.ids
    endless = with_template(tiny_chat, None)
    endless.eos_token = None
    with pytest.raises(InputError, match="neither a chat template nor an end token"):
        chat_template.give_template(endless)


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


def test_earlier_questions_and_answers_stand_before_the_last(tmp_path: Path) -> None:
    row = {"instruction": "And now?", "output": "Later.", "system": "Be brief.", "history": [["Now?", "No."]]}
    columns = {name: name for name in row}
    rows = read(tmp_path, [row, row | {"history": None}], "alpaca", columns, "instruction")
    said = [[(m["role"], m["content"]) for m in item["messages"]] for item in rows.items]
    last = [("user", "And now?"), ("assistant", "Later.")]
    assert said == [[("system", "Be brief."), ("user", "Now?"), ("assistant", "No."), *last], [("system", "Be brief."), *last]]
    assert rows.groups == ["Now?", "And now?"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row | {"output": f"Later {i}."}) + "\n" for i in range(9)))
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert facts["trained_tokens"] > 9 * 4, "both answers are learned"
    for wrong in ("Now?", ["Now?", "No."], [["Now?", ""]]):
        with pytest.raises(InputError, match=r"rows.jsonl: row 1: column history does not hold a list of earlier questions"):
            read(tmp_path, [row | {"history": wrong}], "alpaca", columns, "instruction")


def test_a_system_prompt_in_parts_is_read(tmp_path: Path) -> None:
    parts = [{"text": "Be brief."}]
    talks = [{"system": parts, "messages": [TALK[1] | {"content": f"Where is {i}?"}, TALK[2]]} for i in range(9)]
    pair = {"system": parts, "prompt": "q", "chosen": "a", "rejected": "b"}
    roles = {name: name for name in pair}
    assert read(tmp_path, [pair], "preference", roles, "preference").items[0]["messages"][0] == TALK[0]
    found = read(tmp_path, talks, "messages", {"messages": "messages", "system": "system"}, "chat")
    assert found.items[0]["messages"][0] == TALK[0]
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert facts["columns"] == {"messages": "messages", "system": "system"}


def test_tools_are_found_where_openai_writes_them(tmp_path: Path) -> None:
    look = {"name": "look", "parameters": {}}
    older = {"messages": TALK, "functions": [look]}
    rows = read(tmp_path, [older, {"messages": TALK}], "messages", {"messages": "messages"}, "chat")
    assert [item["tools"] for item in rows.items] == [[{"type": "function", "function": look}], None]
    pair = {"input": {"messages": TALK[1:2], "tools": [look]}, "chosen": TALK[2:3], "rejected": TALK[4:]}
    columns = {"prompt": "input.messages", "chosen": "chosen", "rejected": "rejected"}
    assert read(tmp_path, [pair], "preference", columns, "preference").items[0]["tools"] == [look]
    flat = {"input.messages": TALK[1:2], "chosen": TALK[2:3], "rejected": TALK[4:]}
    assert read(tmp_path, [flat], "preference", columns, "preference").items[0]["tools"] is None


def test_what_the_assistant_says_before_anything_was_asked_is_left_out_and_counted(tmp_path: Path) -> None:
    greeting = {"role": "assistant", "content": "How can I help?"}
    spoken = [{"messages": [*TALK[:1], greeting, greeting, *TALK[1:]]}, {"messages": TALK}, {"messages": [greeting]}]
    rows = read(tmp_path, spoken, "messages", {"messages": "messages"}, "chat")
    assert [item["messages"] for item in rows.items] == [TALK, TALK]
    assert [item.get("unasked") for item in rows.items] == [2, None]
    assert rows.dropped == 1, "nothing is asked at all"
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert (facts["rows"], facts["unasked_rows"], facts["empty_rows"]) == (2, 1, 1)


def weighed(*weights: Any) -> list[dict[str, Any]]:
    """TALK with these weights of its answers, as OpenAI's rows have them."""
    given = iter(weights)
    return [message | ({"weight": next(given)} if message["role"] == "assistant" else {}) for message in TALK]


def test_answers_of_weight_0_are_read_and_not_learned(tiny_chat: Path, tokenizer: Any, tmp_path: Path) -> None:
    spoken: list[dict[str, Any]] = [
        {"messages": weighed(0, 1), "tools": [], "parallel_tool_calls": False},
        {"messages": weighed(1, 0)},
        {"messages": weighed(None, 1.0)},
        {"messages": weighed(0, 0)},
    ]
    rows = read(tmp_path, spoken, "messages", {"messages": "messages"}, "chat")
    found = [conversation.rendered(tokenizer, each, "x") for each in rows.items]
    first, second = "On its way.<|im_end|>", "Since Monday.<|im_end|>"
    assert [shown(tokenizer, row) for row in found] == [[second], [first], [first, second]]
    assert found[0].ids == found[2].ids == conversation.rendered(tokenizer, item(), "x").ids, "what is not learned is read"
    strict = "{% if message.weight is defined %}{{ raise_exception('what is that?') }}{% endif %}{{ '<|im_start|>'"
    strange = with_template(tiny_chat, CHATML.replace("{{ '<|im_start|>'", strict, 1))
    assert conversation.rendered(strange, rows.items[0], "x") == found[0]
    assert rows.dropped == 1, "nothing of it is to be learned"
    assert [item.get("unlearned") for item in rows.items] == [1, None, None]
    marked = FORGETFUL.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}").replace(" or loop.last", " or 1")
    row = conversation._marked(with_template(tiny_chat, marked), weighed(0, 1), None, "x")
    assert shown(tokenizer, row) == [second]
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert (facts["rows"], facts["unlearned_answers"], facts["empty_rows"]) == (3, 1, 1)
    whole = inspect_data({"train": str(tmp_path / "rows.jsonl"), "model": str(tiny_chat)})["facts"]
    assert whole["trained_tokens"] == sum(label != IGNORED for row in found for label in row.labels)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([TALK[1], TALK[0], TALK[2]], "system message as message 2"),
        ([TALK[1], TALK[3], TALK[2]], "two messages of the user in a row"),
        ([TALK[1], {"role": "tool", "content": "42"}, TALK[2]], "tool's answer as message 2 without a call"),
        ([{"role": "narrator", "content": "Once"}], "unknown speaker, narrator"),
        (["hello"], "not an object with a speaker"),
        (weighed(1, 0.5), "answer of weight 0.5; write 0"),
        (weighed(True, 1), "answer of weight True"),
        (weighed("0", 1), "answer of weight '0'; write 0"),
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


def test_an_instruction_is_read_and_its_answer_learned(tiny_chat: Path, tmp_path: Path) -> None:
    full = {"instruction": "Name a colour.", "input": "A warm one.", "output": "Red."}
    columns = {role: role for role in full}
    rows = read(tmp_path, [full, {"instruction": "x", "input": "", "output": ""}], "alpaca", columns, "instruction")
    tokenizer = load_tokenizer(str(tiny_chat))
    encoded = Chat(plan_of(tiny_chat, task="instruction"), [], 0).encode(tokenizer, rows)
    assert rows.dropped == 1
    row = conversation.Rendered(encoded.input_ids[0], encoded.targets[0])
    assert shown(tokenizer, row) == ["Red.<|im_end|>"]
    assert "Name a colour.\n\nA warm one." in tokenizer_text(tokenizer, row)


def test_raw_text_is_cut_into_pieces_and_nothing_is_lost(tiny_chat: Path, tmp_path: Path) -> None:
    texts = ["The first text, which is rather short.", "The second one."]
    rows = read(tmp_path, [{"text": t} for t in texts], "text", {"text": "text"}, "continued_pretraining")
    tokenizer = load_tokenizer(str(tiny_chat))
    encoded = RawText(plan_of(tiny_chat, task="continued_pretraining", max_length=8), [], 0).encode(tokenizer, rows)
    together = [i for piece in encoded.input_ids for i in piece]
    assert tokenizer.decode(together) == f"{texts[0]}<|endoftext|>{texts[1]}<|endoftext|>"
    assert all(len(piece) == 8 for piece in encoded.input_ids[:-1])
    assert encoded.targets == encoded.input_ids
    short = RawText(plan_of(tiny_chat, task="continued_pretraining", max_length=len(together) - 1), [], 0)
    assert len(short.encode(tokenizer, rows)) == 1, "a token alone has nothing before it that could predict it"


def test_rows_cut_before_their_answer_are_counted_and_refused_when_many(tiny_chat: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_chat))
    task = Chat(plan_of(tiny_chat, max_length=32), [], 0)
    short, long = [TALK[1], TALK[2]], [{"role": "user", "content": "Where is it? " * 40}, TALK[2]]
    few = read(tmp_path, [{"messages": short}] * 19 + [{"messages": long}], "messages", {"messages": "messages"}, "chat")
    encoded = task.encode(tokenizer, few)
    assert (len(encoded), encoded.rows_cut, encoded.rows_untrained) == (19, 1, 1)
    assert encoded.tokens_cut == len(conversation.rendered(tokenizer, item(long), "x").ids) - 32
    later = read(tmp_path, [{"messages": [*short, *long]}, {"messages": short}], "messages", {"messages": "messages"}, "chat")
    truth = task.encode(tokenizer, later).truth
    assert truth == [None, "On its way."], "where the last answer is cut off, what is learned of an earlier one is not it"
    many = read(tmp_path, [{"messages": short}] * 8 + [{"messages": long}] * 2, "messages", {"messages": "messages"}, "chat")
    tell = Narrator(EventWriter(tmp_path / "events.jsonl"))
    with pytest.raises(InputError, match=r"2 of 10 rows \(the first is row 9\) leave nothing to learn.*max_length \(32 tokens\)"):
        inputs.encoded(task, tokenizer, Split(many, few, few, []), tell)
    found, _ = inputs.encoded(task, tokenizer, Split(few, many, few, []), tell)
    told = inputs.in_words("validation", found["validation"], 32)
    assert told[-1] == "2 validation rows had nothing left to learn and were left out."
    assert inputs.in_words("train", encoded, 32) == [
        f"One of 20 training rows is longer than 32 tokens and was cut ({encoded.tokens_cut} tokens lost).",
        "One of the training rows had nothing left to learn and was left out.",
    ]
    with pytest.raises(InputError, match="2 of 2 rows"):
        inputs.encoded(task, tokenizer, Split(few, few, many.take([8, 9]), []), tell)
    hollow = FORGETFUL.replace("MARK", "{% generation %}{% endgeneration %}").replace("END", "")
    masked = read(tmp_path, [{"messages": TALK}] * 4, "messages", {"messages": "messages"}, "chat")
    why = Chat(plan_of(tiny_chat), [], 0).encode(with_template(tiny_chat, hollow), masked).why_untrained
    assert "4 of 4 rows" in why
    assert "though they are not cut: the model's chat template marks nothing" in why
