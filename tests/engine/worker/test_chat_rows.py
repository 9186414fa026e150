"""Conversations, instructions and texts in files: which messages they become, what is learned of them, what is left out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.events import EventWriter, read_events
from engine.examples.turns import conversation as turns_of
from engine.inspection.data import inspect_data
from engine.loading import load, split
from engine.rows import Split
from engine.worker import inputs
from engine.worker.modeling import load_tokenizer
from engine.worker.narrator import Narrator
from engine.worker.packing import IGNORED
from engine.worker.tasks import conversation
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.raw_text import RawText
from recommender.errors import InputError
from recommender.plan import DataChoice
from tests.conftest import CHATML, put_rows
from tests.engine.worker.talking import FORGETFUL, TALK, item, read, shown, tokenizer_text, with_template
from tests.engine.worker.writing import plan_of


def test_sharegpt_turns_become_messages_with_their_calls(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Weather in Rome?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "sunny"},
        {"from": "gpt", "value": '{"name": "Rome", "sky": "sunny"}'},
        {"from": "human", "value": "Thanks"},
    ]
    both = [{"conversations": turns}, {"conversations": turns[:1]}]
    rows = read(tmp_path, both, "sharegpt", {"messages": "conversations"}, "chat")
    (found,) = rows.items
    assert [m["role"] for m in found["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert found["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"
    assert found["messages"][3] == {"role": "assistant", "content": turns[3]["value"]}, "an answer in JSON is no call"
    assert rows.dropped == 1, "a row without an answer teaches nothing"


def test_earlier_questions_and_answers_stand_before_the_last(tmp_path: Path) -> None:
    row = {"instruction": "And now?", "output": "Later.", "system": "Be brief.", "history": [["Now?", "No."]]}
    columns = {name: name for name in row}
    rows = read(tmp_path, [row, row | {"history": None}], "alpaca", columns, "instruction")
    said = [[(m["role"], m["content"]) for m in item["messages"]] for item in rows.items]
    last = [("user", "And now?"), ("assistant", "Later.")]
    assert said == [[("system", "Be brief."), ("user", "Now?"), ("assistant", "No."), *last], [("system", "Be brief."), *last]]
    assert rows.groups == ["Now?", "And now?"]
    put_rows(tmp_path / "rows.jsonl", (row | {"output": f"Later {i}."} for i in range(9)))
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert facts["trained_tokens"] > 9 * 4, "both answers are learned"
    for wrong in ("Now?", ["Now?", "No."], [["Now?", ""]], [["Now?", 7]]):
        with pytest.raises(InputError, match=r"rows.jsonl: row 1: column history does not hold a list of earlier questions"):
            read(tmp_path, [row | {"history": wrong}], "alpaca", columns, "instruction")


def test_a_system_prompt_in_parts_is_read(tmp_path: Path) -> None:
    parts = [{"text": "Be brief."}]
    talks = [{"system": parts, "messages": [TALK[1] | {"content": f"Where is {i}?"}, TALK[2]]} for i in range(9)]
    pair = {"system": parts, "prompt": "q", "chosen": "a", "rejected": "b"}
    roles = {name: name for name in pair}
    assert read(tmp_path, [pair], "preference", roles, "preference").items[0]["messages"][0] == TALK[0]
    whole = {"system": parts, "chosen": TALK[1:3], "rejected": [TALK[1], TALK[4]]}
    assert read(tmp_path, [whole], "preference", {name: name for name in whole}, "preference").items[0]["messages"] == TALK[:2]
    found = read(tmp_path, talks, "messages", {"messages": "messages", "system": "system"}, "chat")
    assert found.items[0]["messages"][0] == TALK[0]
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert facts["columns"] == {"messages": "messages", "system": "system"}


def test_tools_are_found_where_openai_writes_them(tmp_path: Path) -> None:
    look = {"name": "look", "parameters": {}}
    older = {"messages": TALK, "functions": [look]}
    rows = read(tmp_path, [older, {"messages": TALK}], "messages", {"messages": "messages"}, "chat")
    known = [{"type": "function", "function": look}]
    assert [item["tools"] for item in rows.items] == [known, None]
    pair = {"input": {"messages": TALK[1:2], "tools": [look]}, "chosen": TALK[2:3], "rejected": TALK[4:]}
    columns = {"prompt": "input.messages", "chosen": "chosen", "rejected": "rejected"}
    assert read(tmp_path, [pair], "preference", columns, "preference").items[0]["tools"] == known
    for bare in ([look], [look | {"type": "function"}], json.dumps([look]), known):  # as LLaMA-Factory's and OpenAI's Responses
        rows = read(tmp_path, [{"messages": TALK, "tools": bare}], "messages", {"messages": "messages"}, "chat")
        assert rows.items[0]["tools"] == known, "templates know no other form (gpt-oss)"
    flat = {"input.messages": TALK[1:2], "chosen": TALK[2:3], "rejected": TALK[4:]}
    assert read(tmp_path, [flat], "preference", columns, "preference").items[0]["tools"] is None


def test_tools_are_found_where_columns_are_read_one_by_one(tmp_path: Path) -> None:
    """As JSON, too: all the names that a conversation may have beside its own are read."""
    look = {"name": "look", "parameters": {}}
    pq.write_table(pa.Table.from_pylist([{"messages": TALK, "tools": json.dumps([look]), "more": 1}]), tmp_path / "a.parquet")
    choice = {"train": str(tmp_path / "a.parquet"), "layout": "messages", "columns": {"messages": "messages"}}
    rows, _ = load(DataChoice.model_validate(choice), "chat")
    assert [item["tools"] for item in rows.items or ()] == [[{"type": "function", "function": look}]]


def test_tools_nested_without_end_are_refused_with_their_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl: row 1: column tools does not hold a list of tools"):
        read(tmp_path, [{"messages": TALK, "tools": "[" * 20_000}], "messages", {"messages": "messages"}, "chat")


def test_what_the_assistant_says_before_anything_was_asked_is_left_out_and_counted(tmp_path: Path) -> None:
    greeting = {"role": "assistant", "content": "How can I help?"}
    spoken = [{"messages": [*TALK[:1], greeting, greeting, *TALK[1:]]}, {"messages": TALK}, {"messages": [greeting]}]
    rows = read(tmp_path, spoken, "messages", {"messages": "messages"}, "chat")
    assert [item["messages"] for item in rows.items] == [TALK, TALK]
    assert [item.get("unasked") for item in rows.items] == [2, None]
    assert rows.dropped == 1, "nothing is asked at all"
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert (facts["rows"], facts["unasked_rows"], facts["empty_rows"]) == (2, 1, 1)
    assert counted(tmp_path)["unasked"] == 1


def counted(folder: Path) -> dict[str, int]:
    """What a run says of the rows that `read` has read."""
    choice = {"train": str(folder / "rows.jsonl"), "layout": "messages", "columns": {"messages": "messages"}}
    return split(DataChoice.model_validate(choice | {"validation_rows": 0, "held_out_rows": 0}), "chat").counts


def weighed(*weights: Any) -> list[dict[str, Any]]:
    """TALK with these weights of its answers, as OpenAI's rows have them."""
    given = iter(weights)
    return [message | ({"weight": next(given)} if message["role"] == "assistant" else {}) for message in TALK]


def test_answers_of_weight_0_are_read_and_not_learned(tiny_chat: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_chat))
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
    as_axolotl = [message | {"train": message["content"] == "Since Monday."} for message in TALK]
    assert turns_of(as_axolotl, InputError) == turns_of(weighed(0, 1), InputError)
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    assert (facts["rows"], facts["unlearned_answers"], facts["empty_rows"]) == (3, 1, 1)
    assert counted(tmp_path)["unlearned"] == 1
    whole = inspect_data({"train": str(tmp_path / "rows.jsonl"), "model": str(tiny_chat)})["facts"]
    assert whole["trained_tokens"] == sum(label != IGNORED for row in found for label in row.labels)


@pytest.mark.parametrize("carrier", ["jsonl", "parquet"])
def test_of_a_prompt_and_a_completion_of_messages_only_the_completion_is_learned(
    tiny_chat: Path, tmp_path: Path, carrier: str
) -> None:
    look = {"name": "look", "parameters": {"type": "object"}}
    given: list[dict[str, Any]] = [{"prompt": TALK[:-1], "completion": TALK[-1:], "tools": [look]}]
    given += [{"prompt": TALK[:-1], "completion": [{"role": "assistant", "content": "Since today."}], "tools": []}]
    given += [{"prompt": TALK[:2], "completion": TALK[2:], "tools": []}, {"prompt": [], "completion": TALK[-1:], "tools": []}]
    file = tmp_path / f"rows.{carrier}"
    if carrier == "parquet":
        pq.write_table(pa.Table.from_pylist(given), file)
    else:
        put_rows(file, given)
    facts = inspect_data({"train": str(file), "model": str(tiny_chat)})["facts"]
    columns = {"prompt": "prompt", "messages": "completion"}
    assert (facts["task"], facts["layout"], facts["columns"]) == ("chat", "messages", columns)
    assert (facts["rows"], facts["empty_rows"], facts["unlearned_answers"], facts["duplicate_share"]) == (3, 1, None, 0)
    choice = DataChoice.model_validate({"train": str(file), "layout": "messages", "columns": columns})
    rows = load(choice, "chat")[0]
    tokenizer = load_tokenizer(str(tiny_chat))
    found = [conversation.rendered(tokenizer, each, "x") for each in rows.items or ()]
    last, both = ["Since Monday.<|im_end|>"], ["On its way.<|im_end|>", "Since Monday.<|im_end|>"]
    assert [shown(tokenizer, row) for row in found] == [last, ["Since today.<|im_end|>"], both]
    assert found[2].ids == conversation.rendered(tokenizer, item(), "x").ids
    assert facts["trained_tokens"] == sum(label != IGNORED for row in found for label in row.labels)
    assert rows.items is not None
    assert rows.items[0]["tools"] == [{"type": "function", "function": look}]
    assert rows.groups == ["Where is my parcel?"] * 3, "rows of one prompt stay together"


def test_a_prompt_or_a_completion_may_be_one_message_or_a_text(tmp_path: Path) -> None:
    asked, told = TALK[1], TALK[2]
    ways: list[dict[str, Any]] = [
        {"prompt": [asked], "completion": told},
        {"prompt": asked["content"], "completion": [told]},
        {"prompt": [asked], "completion": told["content"]},
        {"prompt": [{"from": "human", "value": asked["content"]}], "completion": {"from": "gpt", "value": told["content"]}},
    ]
    for way in ways:
        rows = [way | {"system": "Be brief."}] * 2
        put_rows(tmp_path / "rows.jsonl", rows)
        facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
        assert facts["task"] == "chat"
        (first, _) = read(tmp_path, rows, facts["layout"], facts["columns"], "chat").items
        assert first["messages"] == TALK[:3]
    two = {"prompt": [asked, asked], "completion": [told]}
    with pytest.raises(InputError, match=r"row 1: column prompt holds two messages of the user in a row \(1 and 2\)"):
        read(tmp_path, [two], "messages", {"prompt": "prompt", "messages": "completion"}, "chat")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([TALK[1], TALK[0], TALK[2]], "system message as message 2"),
        ([TALK[1], TALK[3], TALK[2]], "two messages of the user in a row"),
        ([*TALK[1:3], {"role": "tool", "content": "42"}, TALK[2]], "tool's answer as message 3 without a call"),
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
    assert rows.groups == ["Where is my parcel?"] * 3, "what is said to all models alike makes no group"
    told = {"instruction": "Go", "output": "Gone", "system": "Be kind."}
    (found,) = read(tmp_path, [told], "alpaca", {role: role for role in told}, "instruction").items
    assert [m["role"] for m in found["messages"]] == ["system", "user", "assistant"]


def test_an_instruction_is_read_and_its_answer_learned(tiny_chat: Path, tmp_path: Path) -> None:
    full = {"instruction": "Name a colour.", "input": "A warm one.", "output": "Red."}
    columns = {role: role for role in full}
    empty = {"instruction": "x", "input": "", "output": None}, {"instruction": "", "input": "", "output": "y"}
    rows = read(tmp_path, [full, *empty], "alpaca", columns, "instruction")
    tokenizer = load_tokenizer(str(tiny_chat))
    encoded = Chat(plan_of(tiny_chat, task="instruction"), [], 0).encode(tokenizer, rows)
    assert (rows.dropped, len(rows)) == (2, 1)
    row = conversation.Rendered(encoded.input_ids[0], encoded.targets[0])
    assert shown(tokenizer, row) == ["Red.<|im_end|>"]
    assert "Name a colour.\n\nA warm one." in tokenizer_text(tokenizer, row)


def test_raw_text_is_cut_into_pieces_and_nothing_is_lost(tiny_chat: Path, tmp_path: Path) -> None:
    texts = ["The first text, which is rather short.", "The second one."]
    rows = read(tmp_path, [{"text": t} for t in (*texts, " ")], "text", {"text": "text"}, "continued_pretraining")
    assert rows.dropped == 1
    tokenizer = load_tokenizer(str(tiny_chat))
    encoded = RawText(plan_of(tiny_chat, task="continued_pretraining", max_length=8), [], 0).encode(tokenizer, rows)
    together = [i for piece in encoded.input_ids for i in piece]
    assert tokenizer.decode(together) == f"{texts[0]}<|endoftext|>{texts[1]}<|endoftext|>"
    assert all(len(piece) == 8 for piece in encoded.input_ids[:-1])
    assert encoded.targets == encoded.input_ids
    short = RawText(plan_of(tiny_chat, task="continued_pretraining", max_length=len(together) - 1), [], 0)
    assert len(short.encode(tokenizer, rows)) == 1, "a token alone has nothing before it that could predict it"


def test_pieces_of_one_document_are_drawn_together(tiny_chat: Path, tmp_path: Path) -> None:
    """By the document in which their middle lies: intervals took the pieces of a book for as many books."""
    texts = [f"Book {i} goes on and on, and on, and then some more, until it ends." for i in range(6)]
    rows = read(tmp_path, [{"text": t} for t in texts], "text", {"text": "text"}, "continued_pretraining")
    tokenizer, tell = load_tokenizer(str(tiny_chat)), Narrator(EventWriter(tmp_path / "events.jsonl"))
    task = RawText(plan_of(tiny_chat, task="continued_pretraining", max_length=8), [], 0)
    found, _ = inputs.encoded(task, tokenizer, Split(rows, rows, rows, []), tell)
    pieces = list(zip(found["held_out"].groups or (), map(tokenizer.decode, found["held_out"].input_ids), strict=True))
    assert {group for group, _ in pieces} == set(range(6)) == set(found["validation"].groups or ())
    assert len(pieces) > 12
    assert all(f"Book {group}" in said for group, said in pieces if "Book" in said and said.index("Book") < len(said) // 3)
    shelves = replace(rows, named=[*"aabbcc"])
    found, _ = inputs.encoded(task, tokenizer, Split(rows, rows, shelves.take([0, 2, 4]), []), tell)
    assert found["held_out"].groups is None, "three tell nothing of others"


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
    inputs.tell_losses(task, {"validation": found["validation"]}, {}, tell)
    warned = [e["text"] for e in read_events(tmp_path / "events.jsonl") if e.get("code") == "rows_cut"]
    assert len(told) == 2
    assert warned == told, "each as the report has it, which tells no sentence twice"
    assert inputs.in_words("train", encoded, 32) == [
        f"One of 20 training rows is longer than 32 tokens and was cut ({encoded.tokens_cut} tokens lost).",
        "One of the training rows had nothing left to learn and was left out.",
    ]
    with pytest.raises(InputError, match="2 of 2 rows"):
        inputs.encoded(task, tokenizer, Split(few, few, many.take([8, 9]), []), tell)
    talks = [[{"role": "user", "content": f"Parcel {i // 2}?"}, {"role": "assistant", "content": f"Day {i}."}] for i in range(12)]
    said = read(tmp_path, [{"messages": talk} for talk in (long, *talks)], "messages", {"messages": "messages"}, "chat")
    found, parts = inputs.encoded(task, tokenizer, Split(few, few, said, []), tell)
    assert parts.held_out.numbers == [*range(2, 14)], "the texts that are scored"
    assert found["held_out"].groups == [i // 2 for i in range(12)]
    assert found["held_out"].take([0, 2]).groups == [0, 1]
    hollow = FORGETFUL.replace("MARK", "{% generation %}{% endgeneration %}").replace("END", "")
    masked = read(tmp_path, [{"messages": TALK}] * 4, "messages", {"messages": "messages"}, "chat")
    why = Chat(plan_of(tiny_chat), [], 0).encode(with_template(tiny_chat, hollow), masked).why_untrained
    assert "4 of 4 rows" in why
    assert "though they are not cut: the model's chat template marks nothing" in why


def test_what_follows_the_last_answer_of_a_conversation_is_left_out() -> None:
    """Nothing is learned from it, and it would take its share of max_length."""
    asked, answered = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    unlearned = answered | {"weight": 0}
    assert turns_of([asked, answered, asked], InputError).messages == [asked, answered]
    assert turns_of([asked, answered, asked, unlearned], InputError).messages == [asked, answered]
    thoughtless = answered | {"reasoning_content": " "}
    assert turns_of([asked, thoughtless], InputError).messages == [asked, answered], "no thought is learned of it"
    kept = turns_of([asked, unlearned, asked, answered], InputError)
    assert (len(kept.messages), kept.unlearned) == (4, 1)


def test_a_greeting_is_left_out_and_the_system_message_before_it_stays() -> None:
    system, asked, answered = ({"role": role, "content": "x"} for role in ("system", "user", "assistant"))
    found = turns_of([system, answered, asked, answered], InputError)
    assert (found.messages, found.unasked) == ([system, asked, answered], 1)
