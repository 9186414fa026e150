"""What is learned of a conversation, an instruction or a text, and what of rows is left out."""

import io
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from engine.inspection.data import inspect_data
from engine.inspection.learned import learned_rows
from engine.rows import Rows
from engine.worker.modeling import build, load_tokenizer
from engine.worker.tasks import chat_template, conversation, written
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.preference import Preference
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import DataFacts, Facts
from tests.conftest import CHATML, put_rows
from tests.engine.worker.talking import FORGETFUL, TALK, item, read, shown, tokenizer_text, with_template
from tests.engine.worker.writing import plan_of
from tui import show_learned


@pytest.fixture
def tokenizer(tiny_chat: Path) -> Any:
    return load_tokenizer(str(tiny_chat))


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
    turns[3] = TALK[2] | {"content": " On its way to you, I think. \n"}
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(turns), "x"))
    assert learned[1].lstrip() == "On its way to you, I think. \n<|im_end|>", "white space at its ends (StepFun)"


def test_an_answer_is_not_mistaken_for_a_letter_of_what_opens_it(tiny_chat: Path) -> None:
    template = next(made for name, (made, _) in SHAPES.items() if "gpt-oss" in name)
    tokenizer = with_template(tiny_chat, template.replace("[final]", "<|im_start|>final<|im_start|>"))
    letters = [TALK[1], TALK[2] | {"content": "m"}, TALK[3], TALK[4] | {"content": "n"}]
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(letters), "x"))
    assert learned == ["m<|im_end|>", "<|im_start|>final<|im_start|>\nn<|endoftext|>"]


@pytest.mark.parametrize(("words_first", "thought"), [(True, ""), (False, ""), (False, "Is it raining there?")])
def test_words_and_a_call_are_learned_together_or_the_call_alone(tiny_chat: Path, words_first: bool, thought: str) -> None:
    """Behind a thought that is empty in every answer and only begun in what asks for one (Nemotron 3). Gemma 4 writes the words
    behind the tool's answer: a model would learn to say there what it is about to look up."""
    call = "{% if m['tool_calls'] %}{{ '<call>' + m['tool_calls'][0]['function']['name'] + '</call>' }}{% endif %}"
    answered = "{% if m['tool_calls'] and not loop.last %}{{ loop.nextitem['content'] }}{% endif %}"
    said = "{{ m['content'] }}" + call if words_first else call + "<|im_end|>" + answered + "{{ m['content'] }}"
    thinks = "{% if m['role'] == 'assistant' %}{{ '<think>' + (m['reasoning_content'] or '') + '</think>' }}{% endif %}"
    opened = "{{ '<|im_start|>' + m['role'] + '\n' }}" + thinks
    tokenizer = with_template(tiny_chat, of(opened + said + "{{ '<|im_end|>\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}"))
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    calling = {"role": "assistant", "content": "Let me look.", "tool_calls": [called], "reasoning_content": thought}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, TALK[2]]
    row = conversation.rendered(tokenizer, item(turns), "x")
    learned = shown(tokenizer, row)
    words = "Let me look." * words_first
    assert ("Let me look." in tokenizer_text(tokenizer, row), row.spoken[1]["content"]) == (words_first, words)
    assert learned[0].removeprefix("<think>").removeprefix(f"{thought}</think>") == f"{words}<call>weather</call><|im_end|>"
    assert learned[1].endswith("On its way.<|im_end|>")


def test_a_call_is_learned_where_its_words_are_left_out_and_the_tools_move_to_the_last_question(
    tiny_chat: Path, tmp_path: Path
) -> None:
    """As Mistral's templates have it; Llama 3's and gpt-oss's leave the words out too."""
    call = "{% if m['tool_calls'] %}{{ '<call>' + m['tool_calls'][0]['function']['name'] + '</call>' }}{% else %}"
    last = "{% if tools and m == (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}{{ tools | tojson }}{% endif %}"
    turn = last + "{{ '<|im_start|>' }}" + call + "{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}"
    tokenizer = with_template(tiny_chat, of(turn, "{{ '<|im_start|>' }}"))
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    calling = {"role": "assistant", "content": "Let me look.", "tool_calls": [called]}
    turns: list[dict[str, Any]] = [TALK[1], calling, {"role": "tool", "content": "18 C"}, *TALK[2:], TALK[3], calling]
    row = {"messages": turns, "tools": [{"type": "function", "function": {"name": "weather"}}]}
    rows = read(tmp_path, [row, {"messages": TALK[1:]}], "messages", {"messages": "messages"}, "chat")
    task = Chat(plan_of(tiny_chat), [], 0)
    found = task.encode(tokenizer, rows)
    learned = [shown(tokenizer, conversation.Rendered(*each)) for each in zip(found.input_ids, found.targets, strict=True)]
    said = ["On its way.<|im_end|>", "Since Monday.<|im_end|>"]
    assert learned == [["<call>weather</call><|im_end|>", *said, "<call>weather</call><|im_end|>"], said]
    assert "1 of 2 rows hold words beside a call of a tool" in task.remarks["words_left_out"]
    assert list(found.truth) == ["", "Since Monday."], "no answer is compared with words that were not learned"


CHAINS = {
    "closes results only where none follows, and asks behind them with nothing (DeepSeek V3)": (
        "{% if m['role'] == 'tool' %}{{ '[out]' + m['content'] + ('[closed]' if loop.last else '') }}{% else %}"
        "{{ '<|im_start|>' if m['role'] == 'user' }}"
        "{{ '[closed]' if not m['tool_calls'] and loop.previtem and loop.previtem['role'] == 'tool' }}"
        "{{ m['content'] }}CALL{{ '<|im_end|>' }}{% endif %}",
        "",
    ),
    "asks behind results as for a new turn (Apertus)": (
        "{% if m['role'] == 'tool' %}{{ '[' + m['content'] + ']' }}{% else %}"
        "{{ '<|im_start|>' if m['role'] == 'user' }}{{ m['content'] }}CALL{{ '<|im_end|>' }}{% endif %}",
        "<|im_start|>",
    ),
    "writes ids of calls that are answered (Apriel)": (
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}CALL"
        "{{ '#1' if m['tool_calls'] and not loop.last }}{{ '<|im_end|>\n' }}",
        "{{ '<|im_start|>assistant\n' }}",
    ),
    "thinks behind the last question alone (StepFun)": (
        "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.index0 > last.at %}"
        "{{ '<think>\n\n</think>\n' }}{% endif %}{{ m['content'] }}CALL{{ '<|im_end|>\n' }}",
        "{{ '<|im_start|>assistant\n<think>\n' }}",
    ),
}
"""What templates write of calls that follow on one another, and what they ask with."""


@pytest.mark.parametrize("chain", CHAINS)
def test_calls_that_follow_on_one_another_are_all_learned_as_they_are_written(tiny_chat: Path, chain: str) -> None:
    turn, asks = CHAINS[chain]
    name = "{{ '<call>' + c['function']['name'] + c['function']['arguments']['of'] + '</call>' }}"
    call = "{% for c in m['tool_calls'] %}" + name + "{% endfor %}"
    find = "{% set last = namespace(at=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set last.at = loop.index0 %}"
    tokenizer = with_template(tiny_chat, f"{find}{{% endif %}}{{% endfor %}}" + of(turn.replace("CALL", call), asks))
    calls = [{"type": "function", "function": {"name": "weather", "arguments": {"of": day}}} for day in ("now", "then", "later")]
    calling = [{"role": "assistant", "content": "", "tool_calls": [each]} for each in calls]
    result = {"role": "tool", "content": "18 C in the shade"}
    turns: list[dict[str, Any]] = [TALK[1], calling[0], result, calling[1], result, TALK[2], TALK[3], calling[2], result, TALK[4]]
    learned = shown(tokenizer, conversation.rendered(tokenizer, item(turns), "x"))
    said = ["<call>weathernow</call>", "<call>weatherthen</call>", "On its way.", "<call>weatherlater</call>", "Since Monday."]
    assert [text.removeprefix("\n</think>\n").removeprefix("[closed]").replace("#1", "") for text in learned] == [
        f"{text}<|im_end|>" for text in said
    ]


@pytest.mark.parametrize(("kept", "renderings"), [(True, 1), (False, 4)])
def test_words_beside_calls_are_looked_for_before_conversations_are_rendered_without_them(
    tiny_chat: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, renderings: int
) -> None:
    """A run took twice as long to read conversations of twenty calls."""
    words = "{{ m['content'] }}" if kept else "{% if not m['tool_calls'] %}{{ m['content'] }}{% endif %}"
    tokenizer = with_template(tiny_chat, of(words + "{% for c in m['tool_calls'] %}{{ c['function']['name'] }}{% endfor %}", ""))
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    said = ["I look at the weather of today.", "Now at that of tomorrow.", "And at that of the day after."]
    turns = [TALK[1], *({"role": "assistant", "content": text, "tool_calls": [called]} for text in said)]
    turns.append({"role": "user", "content": f"Why did you say: {said[0]}"})
    renders = Mock(wraps=chat_template.written)
    monkeypatch.setattr(chat_template, "written", renders)
    spoken = [m["content"] for m in chat_template.as_spoken(tokenizer, turns, None, "x")[1:4]]
    assert (spoken, renders.call_count) == (said if kept else [""] * 3, renderings)


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
    named = [{"role": "user", "content": "How is the weather?"}, *turns[1:]]  # the word is no sign that the call is written
    for tokenizer, told in ((silent, True), (writing_calls(tiny_chat, "{{ message.tool_calls }}"), False)):
        task = Chat(plan_of(tiny_chat), [], 0)
        task.encode(tokenizer, read(tmp_path, [{"messages": named}] * 4, "messages", {"messages": "messages"}, "chat"))
        assert ("calls_left_out" in task.remarks) is told
    only = read(tmp_path, [{"messages": turns[:2], "tools": []}] * 4, "messages", {"messages": "messages"}, "chat")
    assert "not cut: they call tools, which the model's chat template leaves out" in task.encode(silent, only).why_untrained
    put_rows(tmp_path / "rows.jsonl", ({"messages": m} for m in (turns, turns[:2], TALK)))
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl"), "model": str(tiny_chat)})["facts"]
    assert (facts["unwritten_calls"], facts["unwritten_rows"]) == (2, 1), "the plan is to tell it before the run does"
    assert facts["trained_tokens"] < 40, "calls would be a hundred more"
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
    asked, prompt, wanted = conversation.prompt_of(listing, {"messages": turns, "tools": tools}, "x")
    assert all(listing.decode(ids).startswith('[{"type": "function"') for ids in (row.ids, prompt)), "what may be called is read"
    assert (asked, wanted) == (f"{TALK[1]['content']}\n18 C", "On its way."), "with the question"

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


@pytest.mark.parametrize(("otherwise", "code"), [("", "others_left_out"), ("{{ raise_exception('one call!') }}", "rows_refused")])
def test_of_several_calls_at_once_those_left_out_are_told_or_the_row_that_is_refused(
    tiny_chat: Path, tmp_path: Path, otherwise: str, code: str
) -> None:
    """gpt-oss writes the first of them, Llama 3 takes only one: other rows of the file can still be learned."""
    first = "{% set c = message.get('tool_calls') %}{% if c %}{{ c[0].function.name }}{% endif %}"
    tokenizer = writing_calls(tiny_chat, first + "{% if c and c | length > 1 %}" + otherwise + "{% endif %}")
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    calling = [{"role": "assistant", "content": "", "tool_calls": [called] * n} for n in (1, 2)]
    talks = [{"messages": [{"role": "user", "content": f"Question {i}"}, calling[i == 11]]} for i in range(12)]
    task = Chat(plan_of(tiny_chat), [], 0)
    found = task.encode(tokenizer, read(tmp_path, talks, "messages", {"messages": "messages"}, "chat"))
    assert "1 of 12 rows" in task.remarks[code]
    assert task.remarks.keys() == {code}
    refused = code == "rows_refused"
    if not refused:
        other = called | {"function": {"name": "time", "arguments": {}}}
        for calls, learned in (([called, other], []), ([called, called], ["weather<|im_end|>"])):
            at_once = item([TALK[1] | {"content": "What is the weather at that time?"}, calling[1] | {"tool_calls": calls}])
            assert shown(tokenizer, conversation.rendered(tokenizer, at_once, "x")) == learned
            assert chat_template.unwritten_calls(tokenizer, at_once, "x") == "others"
        assert task.remarks[code].endswith("are left out, and calls of different tools are read, not learned.")
    assert (len(found), list(found.untrained)) == ((11, [12]) if refused else (12, []))
    assert found.why_untrained == task.remarks[code].partition("the first: ")[2]
    assert found.why_untrained.startswith("rows.jsonl: row 12: the model's chat template does not take" * refused)
    pairs = [{"messages": talk["messages"][:1], "chosen": calling[:1], "rejected": calling[1:], "tools": None} for talk in talks]
    preferring = Preference(plan_of(tiny_chat), [], 0)
    assert len(preferring.encode(tokenizer, Rows([""] * 12, [""] * 12, [*range(12)], 0, pairs, "x"))) == 0
    assert ("rows_refused" in preferring.remarks) is refused
    tokenizer.save_pretrained(tmp_path / "model")
    request = {"train": str(tmp_path / "rows.jsonl"), "task": "chat", "layout": "messages", "columns": {"messages": "messages"}}
    seen = learned_rows(request | {"model": str(tmp_path / "model"), "count": 12})
    assert [row["row"] for row in seen["rows"] if "refused" in row] == list(found.untrained), "and the others are shown"
    out = io.StringIO()
    show_learned.rows(seen, Console(file=out, width=500))
    told = f"{found.why_untrained} The run leaves such rows out, up to a tenth of all."
    assert (told in out.getvalue()) is refused


def test_ids_of_calls_that_a_template_refuses_are_numbered(tiny_chat: Path) -> None:
    """Mistral's want nine signs; OpenAI's have more, and rows of ShareGPT none, nor the name of what answers (Gemma 4)."""
    wants = "{% if id | length != 9 %}{{ raise_exception('ids have nine signs') }}{% endif %}{{ id }}"
    call = "{% for c in message.get('tool_calls') or [] %}{{ c.function.name }}{% set id = c.id or '' %}" + wants + "{% endfor %}"
    result = (
        "{% if message['role'] == 'tool' %}{% set id = message.get('tool_call_id', '') %}"
        + wants
        + "{{ message.name }}{% endif %}"
    )
    tokenizer = writing_calls(tiny_chat, call + result)
    called = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    ids = ["call_Qd4Wb7zT", "call_Aa"]
    for first, second in (ids, ids[::-1], ["", ""]):  # results in either order, or without a name
        named = [called | ({"id": each} if each else {}) for each in ids] if first else [called, called]
        results = [{"role": "tool", "content": "18 C", **({"tool_call_id": each} if each else {})} for each in (first, second)]
        turns: list[dict[str, Any]] = [TALK[1], {"role": "assistant", "content": "", "tool_calls": named}, *results, TALK[2]]
        row = conversation.rendered(tokenizer, item(turns), "x")
        assert shown(tokenizer, row)[0] == "weather000000000weather000000001<|im_end|>"
        answered = tokenizer_text(tokenizer, row).split("18 C")[1:]
        order = ["000000000weather", "000000001weather"][:: -1 if first == ids[1] else 1]
        assert [part[:16] for part in answered] == order
    assert named == [called, called]


def test_what_tools_answered_and_a_template_leaves_out_is_told(tiny_chat: Path, tmp_path: Path) -> None:
    called = {"role": "assistant", "content": '<tool_call>{"name": "weather"}</tool_call>'}
    turns = [TALK[1], called, {"role": "tool", "content": '{"sky": "18 C"}'}, TALK[2]]
    rows = read(tmp_path, [{"messages": turns}, {"messages": TALK}], "messages", {"messages": "messages"}, "chat")
    deaf = CHATML.replace("messages %}", "messages if message['role'] != 'tool' %}", 1)
    content = "message['content']"
    as_json = CHATML.replace(content, f"({content} | tojson if message['role'] == 'tool' else {content})")
    for template, told in ((deaf, True), (CHATML, False), (as_json, False)):
        task = Chat(plan_of(tiny_chat), [], 0)
        task.encode(with_template(tiny_chat, template), rows)
        assert ("1 of 2 rows hold what tools answered" in task.remarks.get("results_left_out", "")) is told


def test_what_a_template_says_against_a_conversation_is_told(tiny_chat: Path) -> None:
    why = "'no system role' if messages[0]['role'] == 'system' else 'no tools'"
    strict = with_template(tiny_chat, f"{{{{ raise_exception({why}) }}}}")
    with pytest.raises(InputError, match=r"data\.jsonl: row 3: .*no tools"):  # a system message has another place
        conversation.rendered(strict, item(), "data.jsonl: row 3")


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DROPPING = CHATML.replace("messages %}", "messages if message['role'] != 'system' %}", 1)
LATE = DROPPING.replace(
    "message['content'] +",
    "(messages[0]['content'] + '\n\n' if loop.last and [messages[0]['role'], message['role']] == ['system', 'user'] else '')"
    " + message['content'] +",
)
"""As Mistral has it: before the last question, and nowhere once that is answered."""
NATIVE = {
    "written": CHATML,
    "in the question": "{% for m in messages if m['role'] != 'system' %}{{ messages[0]['content'] + m['content'] }}{% endfor %}",
    "a switch": "{{ 'short ' if messages[0]['content'] == '/brief' }}" + DROPPING,
}


def test_a_system_message_that_a_template_has_no_place_for_stands_before_the_question(tiny_chat: Path, tmp_path: Path) -> None:
    rows = read(tmp_path, [{"messages": TALK}] * 4, "messages", {"messages": "messages"}, "chat")
    usual = with_template(tiny_chat, CHATML)
    joined = [TALK[1] | {"content": "Be brief.\n\nWhere is my parcel?"}, *TALK[2:]]
    for template in (REFUSING, DROPPING, LATE):
        tokenizer = with_template(tiny_chat, template)
        task = Chat(plan_of(tiny_chat), [], 0)
        found = task.encode(tokenizer, rows)
        assert list(found.input_ids[0]) == conversation.rendered(usual, item(joined), "x").ids
        assert "before the first question" in task.remarks["system_moved"]
        asked = conversation.prompt_of(tokenizer, item(), "x")[1]
        assert asked == conversation.prompt_of(usual, item(joined), "x")[1], "a sample is asked as was learned"
        other = TALK[4] | {"content": "Who knows?"}
        pair = {"messages": TALK[:4], "chosen": TALK[4:], "rejected": [other], "tools": None}
        both = {name: shown(tokenizer, side) for name, side in conversation.sides(tokenizer, pair, "x").items()}
        assert both == {"chosen": ["Since Monday.<|im_end|>"], "rejected": ["Who knows?<|im_end|>"]}
    for template in NATIVE.values():
        own = with_template(tiny_chat, template)
        system = TALK[0] | {"content": "/brief"} if template == NATIVE["a switch"] else TALK[0]
        talk = [system, *TALK[1:]]
        assert chat_template.as_placed(own, talk, None) is talk
    marks = FORGETFUL.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
    marked = with_template(tiny_chat, REFUSING.replace(CHATML, marks))
    assert shown(marked, conversation.rendered(marked, item(), "x")) == ["Since Monday.<|im_end|>"]


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


def test_a_template_without_an_end_of_turn_gets_the_end_token(tiny_chat: Path) -> None:
    open_ended = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    open_ended += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = with_template(tiny_chat, open_ended)
    assert shown(tokenizer, conversation.rendered(tokenizer, item(), "x"))[-1] == " Since Monday.\n<|endoftext|>"
