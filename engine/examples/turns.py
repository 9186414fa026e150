"""One conversation: its turns as data spells them, as messages that templates know; refused where no model could have had it."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from engine.tables.table import as_text
from engine.text import one_line
from recommender.errors import InputError

Fault = Callable[[str], InputError]
"""Makes the error that names file, row and column, from what is wrong there."""
Message = dict[str, Any]
"""`role` (system, user, assistant, tool), `content`, and `tool_calls` and the like as templates know them."""

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "context"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "ai", "function_call"), "assistant"),
    **dict.fromkeys(("bot", "chatbot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
"""What speakers are called in data, and what chat templates call them."""
KEPT = ("tool_calls", "tool_call_id", "name")
"""Fields of a message, beside role and content, that templates use."""
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Fields that hold what an answer's author thought first; a template knows the first of these names, or the second (gpt-oss)."""
THOUGHT_END = "</think>"
"""What ends a thought within the text of an answer."""
_PARTS = ("text", "input_text", "output_text", None)
"""Kinds of the parts of a message that are words."""
WEIGHT = "weight"
"""The field of an answer that is 0 where it is not to be learned, as in OpenAI's rows; kept in that case alone."""
TRAIN = "train"
"""The field of an answer that is false where it is not to be learned, as in axolotl's rows."""


class Conversation(NamedTuple):
    """A conversation that can be learned from."""

    messages: list[Message]
    unasked: int
    """How many messages stood before the first question."""
    unlearned: int
    """How many answers of weight 0 are read."""


def conversation(value: Any, fault: Fault, system: str = "") -> Conversation:
    """Messages as chat templates know them, opened with `system` where they have none of their own.

    What follows the last answer that is learned is left out, nothing is learned from it. Where a question is blank nothing is
    left, as where there is no answer.

    Raises:
        InputError: (made by `fault`) something that is no message, an unknown speaker, or turns out of order.
    """
    every = opened(messages_of(value, fault), system)
    messages = from_question(every)
    check_turns(messages, fault)
    if any(m["role"] == "user" and not m["content"].strip() for m in messages):
        messages = []  # nobody would ask with nothing
    last = max((i for i, m in enumerate(messages) if is_answer(m)), default=-1)
    kept = messages[: last + 1]
    unasked = len(every) - len(messages) if messages else 0
    return Conversation(kept, unasked, sum(m.get(WEIGHT) == 0 for m in kept))


def whole_talk(row: Mapping[str, Any], fault: Callable[[str, str], InputError], system: str = "") -> Conversation:
    """The conversation of a row by role: its `messages`, of which those that stand apart as their `prompt` are read, not learned.

    `fault(role, what)` makes the error that names file, row and column.

    Raises:
        InputError: as of `conversation`.
    """
    if "prompt" not in row:
        return conversation(row["messages"], partial(fault, "messages"), system)
    asked = messages_of(row["prompt"], partial(fault, "prompt"), "user")
    said = messages_of(row["messages"], partial(fault, "messages"), "assistant")
    check_turns(from_question(asked), partial(fault, "prompt"))
    read = [m | {WEIGHT: 0} if m["role"] == "assistant" else m for m in asked]
    found = conversation([*read, *said], partial(fault, "messages"), system)
    last = max((i for i, m in enumerate(said) if is_answer(m)), default=0)
    return found._replace(unlearned=sum(m.get(WEIGHT) == 0 for m in said[:last]))


def is_answer(message: Message) -> bool:
    """Whether a message is one to learn: the assistant's, and not of weight 0."""
    return message["role"] == "assistant" and message.get(WEIGHT) != 0


def from_question(messages: list[Message]) -> list[Message]:
    """Without what the assistant says before anything was asked, a greeting or the rest of a longer talk: templates and models
    want a question first. Where nothing is asked nothing is left."""
    begin = 1 if messages and messages[0]["role"] == "system" else 0
    if len(messages) <= begin or messages[begin]["role"] != "assistant":
        return messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    return [] if first is None else messages[:begin] + messages[first:]


def opened(messages: list[Message], system: str) -> list[Message]:
    """The messages behind a system message, where there is a text for one and they have none."""
    if not system or not messages or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def parts_joined(value: Any) -> Any:
    """A system prompt that is written in parts (`[{"text": ...}]`, as Bedrock has it) as one text; anything else as it is."""
    if not isinstance(value, list) or not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return value
    return " ".join(part["text"] for part in value)


def history(value: Any, fault: Fault) -> list[Message]:
    """Earlier questions with their answers, as LLaMA-Factory writes them, a list of two texts each.

    Raises:
        InputError: (made by `fault`) something else.
    """
    turns = [] if value is None or value != value else value  # noqa: PLR0124 - NaN is how data frames write what is missing
    pairs = isinstance(turns, list) and all(isinstance(t, list) and len(t) == 2 and all(map(_is_said, t)) for t in turns)
    if not pairs:
        raise fault("does not hold a list of earlier questions and answers, two texts each")
    return [{"role": who, "content": said} for turn in turns for who, said in zip(("user", "assistant"), turn, strict=True)]


def _is_said(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def check_turns(messages: Sequence[Message], fault: Fault) -> None:
    """The speakers take turns as a conversation can have them.

    Raises:
        InputError: (made by `fault`) they do not.
    """
    made: set[str] | None = set()
    for place, message in enumerate(messages, 1):
        _check_order(messages[place - 2] if place > 1 else None, message, place, fault)
        if message["role"] == "assistant" and made is not None:
            made = _with_calls(made, message)
        answered = str(message.get("tool_call_id") or "")
        if message["role"] == "tool" and answered and made is not None and answered not in made:
            named = one_line(answered, 40)
            raise fault(f"holds a tool's answer as message {place} whose tool_call_id, {named}, is that of no call before it")


def thought_of(message: Message) -> str:
    """What an answer's author thought first, in a field of its own or within its text; nothing where there is no such."""
    begun, end, _ = message["content"].partition(THOUGHT_END)
    return str(message.get(THOUGHTS[0]) or (begun.rpartition("<think>")[2] if end else "")).strip()


def said_and_asked(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    """What is learned, and what is read; messages without words left out. Thoughts in a field count where nothing follows."""
    texts = [(is_answer(m), _spoken(m)) for m in messages]
    if texts and (thought := messages[-1].get(THOUGHTS[0])):
        texts[-1] = (texts[-1][0], f"{thought}\n{texts[-1][1]}")
    return [t for mine, t in texts if mine and t.strip()], [t for mine, t in texts if not mine and t.strip()]


def first_asked(messages: Sequence[Message]) -> str:
    """What a conversation begins with, its system message aside; nothing where that has no words."""
    return next((_spoken(message) for message in messages if message["role"] == "user"), "")


def _spoken(message: Message) -> str:
    """What a message says, tool calls written out."""
    return "\n".join(t for t in (message["content"], calls_of(message)) if t)


def calls_of(message: Message) -> str:
    """The tools that a message calls, written out."""
    calls = message.get("tool_calls")
    return json.dumps(calls, ensure_ascii=False) if calls else ""


def messages_of(value: Any, fault: Fault, speaker: str = "") -> list[Message]:
    """A list of turns, or one, as messages of a chat template; a text is what the `speaker` says, if one is named.

    Raises:
        InputError: (made by `fault`) one is none, or of an unknown speaker.
    """
    if speaker and not isinstance(value, list | dict):
        text = as_text(value).strip()
        return [{"role": speaker, "content": text}] if text else []
    turns = value if isinstance(value, list) else [] if value is None else [value]
    return [message_of(turn, fault) for turn in turns]


def message_of(turn: Any, fault: Fault) -> Message:
    """One turn as a message of a chat template.

    Raises:
        InputError: (made by `fault`) it is none, or of an unknown speaker.
    """
    if not isinstance(turn, dict):
        raise fault("holds a message that is not an object with a speaker and a text")
    who, said = _speaker(turn, fault), turn.get("content", turn.get("value"))
    if isinstance(said, list):
        said = " ".join(filter(None, (_part(part, fault) for part in said)))
    if isinstance(said, dict):
        raise fault("holds a message whose text is an object")
    message: Message = {"role": ROLES[who], "content": as_text(said)}
    message |= {name: turn[name] for name in KEPT if turn.get(name)}
    called = turn.get("function_call")  # as OpenAI wrote calls before there were tools
    if isinstance(called, dict):
        message.setdefault("tool_calls", [{"type": "function", "function": called}])
    if message["role"] == "user" and said is None:
        raise fault("holds a message of the user without a text (content)")
    if "tool_calls" in message:
        _check_calls(message, fault)
    if message["role"] == "assistant":
        thought = next((t for t in map(turn.get, THOUGHTS) if isinstance(t, str) and t.strip()), None)
        if thought is not None:
            message |= dict.fromkeys(THOUGHTS[:2], thought)
        if not _weighs(turn.get(WEIGHT), fault) or turn.get(TRAIN) in (0, False):
            message[WEIGHT] = 0
    if who == "function_call" and "tool_calls" not in message:
        call = as_json(message["content"])
        if isinstance(call, dict) and "name" in call:
            message |= {"content": "", "tool_calls": [{"type": "function", "function": call}]}
    return message


def _speaker(turn: dict[str, Any], fault: Fault) -> str:
    """Who speaks, one of `ROLES`.

    Raises:
        InputError: (made by `fault`) nobody, or somebody unknown.
    """
    who = turn.get("role", turn.get("from"))
    if who is None:
        raise fault("holds a message that names no speaker (role)")
    named = who.strip().lower() if isinstance(who, str) else ""
    if named not in ROLES:
        unknown = one_line(named or who, 40)
        raise fault(f"holds a message of an unknown speaker, {unknown} (known are user, assistant, system and tool)")
    return named


def _part(part: Any, fault: Fault) -> str:
    """What one part of a message says.

    Raises:
        InputError: (made by `fault`) nothing in words: what stands beside a picture was written by somebody who saw it.
    """
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    if kind not in _PARTS or not isinstance(part.get("text") or "", str):
        raise fault(f"holds a message with a part that is not text ({one_line(kind, 40)}), which Loracle cannot read")
    return part.get("text") or ""


def _check_calls(message: Message, fault: Fault) -> None:
    """Calls of tools are written as templates know them.

    Raises:
        InputError: (made by `fault`) they are not, or another than the assistant makes them.
    """
    calls = message["tool_calls"]
    if message["role"] != "assistant":
        raise fault(f"holds a message of the {message['role']} with tool_calls; only the assistant calls tools")
    listed = calls if isinstance(calls, list) else [None]
    named = (call.get("function", call) if isinstance(call, dict) else None for call in listed)
    if not all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in named):
        raise fault("holds tool_calls that are not a list of calls with a function's name and arguments")


def _weighs(weight: Any, fault: Fault) -> bool:
    """Whether an answer with that weight, or none, is learned.

    Raises:
        InputError: (made by `fault`) it is neither 0 nor 1.
    """
    if weight is None or weight != weight:  # noqa: PLR0124 - NaN is how data frames write what is missing
        return True
    if isinstance(weight, bool) or weight not in (0, 1):
        written = one_line(repr(weight), 40)
        raise fault(f"holds an answer of weight {written}; write 0 (read only) or 1 (learned), or leave it out")
    return bool(weight)


def _check_order(before: Message | None, message: Message, place: int, fault: Fault) -> None:
    role, last = message["role"], before["role"] if before else None
    if role == "tool":
        called = before is not None and (last == "tool" or before.get("tool_calls") or (last == "assistant" and _calls(before)))
        if not called:
            raise fault(f"holds a tool's answer as message {place} without a call before it")
    elif role == "system":
        if before is not None:
            raise fault(f"holds a system message as message {place}; it must come first")
    elif role == last:
        raise fault(f"holds two messages of the {role} in a row ({place - 1} and {place})")


def _with_calls(made: set[str], message: Message) -> set[str] | None:
    """The ids of the calls `made` so far and of those of an assistant's message; `None` where one has none to compare with."""
    calls = message.get("tool_calls", [{}] if _calls(message) else [])
    ids = [str(call.get("id") or "") for call in calls]
    return made.union(ids) if all(ids) else None


def _calls(message: Message) -> bool:
    """Whether an assistant's text is a tool call written out, as many data sets have it."""
    text = message["content"].lstrip()
    return text.startswith(("{", "[", "<tool_call", "<function", "```", "<|python_tag|>")) or "Action:" in text


def as_json(text: str) -> Any:
    """What a text says in JSON; `None` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
