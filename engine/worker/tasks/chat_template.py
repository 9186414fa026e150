"""Conversations as a tokenizer's chat template writes them, and what it leaves out."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count
from typing import Any, Literal

from engine.examples.turns import THOUGHT_END, THOUGHTS, WEIGHT, is_answer, thought_of
from engine.inspection.templates import PLAIN
from engine.text import one_line
from engine.worker.tasks.answers import SHORT, name_of, says_calls, unlike
from recommender.errors import InputError

_WORD = re.compile(r"\w+")
HIDDEN_END = f"\ue000{THOUGHT_END[1:]}"
"""Stands for the end of a thought where a template would cut it out; as long, so that places in the text stay."""


def give_template(tokenizer: Any) -> bool:
    """Put `PLAIN` into a tokenizer that has no chat template, so that it is saved with the model; whether it had none.

    Raises:
        InputError: it has no end token either, and the model could not learn to stop.
    """
    if tokenizer.chat_template:
        return False
    if tokenizer.eos_token is None:
        raise InputError("the model's tokenizer has neither a chat template nor an end token; take a model that has one.")
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    tokenizer.chat_template = ("{{ bos_token }}" if adds_bos else "") + PLAIN
    return True


def written(tokenizer: Any, messages: Sequence[Any], tools: Any, where: str, *, ask: bool = False) -> str:
    """The conversation as one text; with `ask` also what asks for the next answer. With every call in it, if the template knows
    how to write calls at all; with the system message before the first question, if it knows no other place for it.

    Raises:
        InputError: the template does not take it.
    """
    found, _ = _placed(tokenizer, messages, tools, ask=ask)
    if isinstance(found, str):
        return found
    said = one_line(str(found) or type(found).__name__, 200)
    raise InputError(f"{where}: the model's chat template does not take this conversation: {said}") from None


def as_placed(tokenizer: Any, messages: Sequence[Any], tools: Any) -> Sequence[Any]:
    """The messages; where the template refuses the system message (Gemma 2's) or leaves it out (Mistral's where an answer comes
    last), that stands before the first question."""
    has_one = bool(messages) and messages[0].get("role") == "system"
    return _placed(tokenizer, messages, tools, ask=False)[1] if has_one else messages


def _placed(tokenizer: Any, messages: Sequence[Any], tools: Any, *, ask: bool) -> tuple[str | Exception, Sequence[Any]]:
    """The conversation as one text, or why it is none; and the messages that it was made of."""
    found = _rendered(tokenizer, messages, tools, ask=ask)
    first, *rest = messages or [{}]
    system = str(first.get("content") or "").strip() if first.get("role") == "system" else ""
    if not system or not rest or rest[0]["role"] != "user" or (isinstance(found, str) and system in found):
        return found, messages
    # Some templates do not write it, but go by what it says (SmolLM3's of /no_think).
    if isinstance(found, str) and found != _rendered(tokenizer, rest, tools, ask=ask):
        return found, messages
    moved = [rest[0] | {"content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    instead = _rendered(tokenizer, moved, tools, ask=ask)
    if isinstance(instead, str):
        return instead, moved
    return (found if isinstance(found, str) else instead), messages  # what is wrong beside the system message


def _rendered(tokenizer: Any, messages: Sequence[Any], tools: Any, *, ask: bool) -> str | Exception:
    """What the template makes of the messages as they are, or what it raises first."""
    failed: Exception | None = None
    found: list[str] = []
    calling = [m for m in messages if m.get("tool_calls")]
    takes = [messages, numbered(messages)] if calling else [messages]
    if not any(call.get("id") for m in calling for call in m["tool_calls"] if isinstance(call, dict)):
        takes.reverse()  # whoever serves the model gives calls ids
    for parsed in (True, False) if calling else (True,):
        for known in takes:
            try:
                given = as_known(known, parsed=parsed)
                found.append(str(tokenizer.apply_chat_template(given, tools=tools, tokenize=False, add_generation_prompt=ask)))
                break
            except Exception as error:  # a template is the model's own code and raises what it likes
                failed = failed or error
        if found and all(says_calls(m, found[-1]) for m in calling):
            return found[-1]
    return found[0] if found or failed is None else failed


def numbered(messages: Sequence[Any]) -> list[Any]:
    """The messages with ids of calls as Mistral's templates want them, nine signs (OpenAI's are longer, ShareGPT's rows have
    none), and what tools answer with the name of the tool, as Gemma 4's and Qwen 1.5's want it."""
    ids: dict[str, tuple[str, str]] = {}
    waiting: list[tuple[str, str]] = []
    given, made = [], count()
    for message in messages:
        other: dict[str, Any] = {}
        if calls := message.get("tool_calls"):
            waiting = [(f"{next(made):09d}", name_of(call)) for call in calls]
            ids |= {str(call.get("id") or new[0]): new for call, new in zip(calls, waiting, strict=True)}
            other = {"tool_calls": [call | {"id": new} for call, (new, _) in zip(calls, waiting, strict=True)]}
        elif message["role"] == "tool":
            following = waiting.pop(0) if waiting else ("", "")
            answered, name = ids.get(str(message.get("tool_call_id")), following)
            other = {"tool_call_id": answered, "name": message.get("name") or name}
        given.append(message | other)
    return given


def as_known(messages: Sequence[Any], *, parsed: bool = True) -> list[Any]:
    """Messages as templates know them: without weights, the arguments of calls `parsed`, or else all written out.

    Most templates write objects as JSON; OpenAI's rows hold JSON already, of which they would make JSON again. DeepSeek's want
    it so.
    """
    known = [{name: said for name, said in m.items() if name != WEIGHT} if WEIGHT in m else m for m in messages]
    return [m | {"tool_calls": [_call(c, parsed) for c in m["tool_calls"]]} if m.get("tool_calls") else m for m in known]


def _call(call: Any, parsed: bool) -> Any:
    """A call with its arguments as an object, or as JSON."""
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return call | {"function": _call(call["function"], parsed)}
    given = call.get("arguments")
    if parsed and isinstance(given, str):
        with suppress(ValueError, RecursionError):
            found = json.loads(given)
            return call | {"arguments": found} if isinstance(found, dict) else call
    return call | {"arguments": json.dumps(given, ensure_ascii=False)} if isinstance(given, dict) and not parsed else call


@lru_cache(maxsize=8)
def special_tokens(tokenizer: Any) -> frozenset[str]:
    """Tokens that are no text: those with a name, and those that the tokenizer's file calls special, as the ends of turns of
    Llama 3, Phi and Gemma are."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return frozenset(token for token in (*tokenizer.all_special_tokens, *added) if token)


@lru_cache(maxsize=8)
def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of those."""
    return frozenset(tokenizer.convert_tokens_to_ids(sorted(special_tokens(tokenizer))))


def unwritten_calls(tokenizer: Any, item: dict[str, Any], where: str) -> Literal["calls", "others"] | None:
    """Whether a conversation calls tools and the model's template leaves a call out, or all but the first of several at once.

    Raises:
        InputError: the template does not take such a conversation.
    """
    calling = [message for message in item["messages"] if message.get("tool_calls")]
    if not calling:
        return None
    messages, tools = item["messages"], item["tools"]
    whole = written(tokenizer, messages, tools, where)
    if not all(says_calls(message, whole) for message in calling):
        return "calls"
    names = {name_of(call) for message in calling for call in message["tool_calls"]}
    others = json.dumps([[(m["content"], m.get("name")) for m in messages], tools], ensure_ascii=False)
    several = any(len(message["tool_calls"]) > 1 for message in calling)
    if not several and not any(name in others for name in names):
        return None
    # The name may be a word of the question, or stand in the list of tools: calls that are written are so with other names too.
    changed = [renamed(message) for message in messages]
    again = written(tokenizer, changed, tools, where)
    if again == whole:
        return "calls"
    return None if all(says_calls(message, again) for message in changed) else "others"


def renamed(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose calls are of tools with other names, different ones."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    named = [(call, f"{name_of(call)}x{i}") for i, call in enumerate(calls)]
    return message | {
        "tool_calls": [c | ({"function": c["function"] | {"name": n}} if c.get("function") else {"name": n}) for c, n in named]
    }


def as_spoken(tokenizer: Any, messages: Sequence[Any], tools: Any, where: str) -> list[Any]:
    """The messages; words beside a call are gone where the template writes nothing of them (Llama 3, Mistral), so that the call
    is learned as it is written."""
    known = list(messages)
    beside = [i for i, message in enumerate(known) if message.get("tool_calls") and message["content"].strip()]
    whole = written(tokenizer, known, tools, where) if beside else ""
    texts = _texts(messages)
    for i in beside:
        words = known[i]["content"].strip()
        if len(words) >= SHORT and whole.count(words) >= texts.count(words):
            continue  # all that say so are there
        bare = [*known[:i], known[i] | {"content": ""}, *known[i + 1 :]]
        known = bare if written(tokenizer, bare, tools, where) == whole else known
    return known


def words_beside_calls(messages: Sequence[Any]) -> int:
    """How many messages have both."""
    return sum(bool(message.get("tool_calls") and message["content"].strip()) for message in messages)


def with_last_thought(tokenizer: Any, messages: Sequence[Any], tools: Any, where: str) -> list[Any]:
    """The messages; the last one's thought stands in its text, its end hidden, where the template cuts all thoughts out (R1 and
    what was distilled of it, QwQ) and does not ask for an answer without one: talks that go on repeat none, which is no lesson.

    Raises:
        InputError: the template does not take the conversation.
    """
    last, thought, given = messages[-1], thought_of(messages[-1]), list(messages)
    if not thought or last.get("tool_calls") or THOUGHT_END not in str(tokenizer.chat_template):
        return given
    if thought in written(tokenizer, given, tools, where):
        return given
    if written(tokenizer, given[:-1], tools, where, ask=True).rstrip().endswith(THOUGHT_END):
        return given
    said = last["content"].rpartition(THOUGHT_END)[2].strip()
    return [*given[:-1], {"role": "assistant", "content": f"<think>\n{thought}\n{HIDDEN_END}\n\n{said}"}]


def unwritten_results(tokenizer: Any, item: dict[str, Any], where: str) -> bool:
    """Whether what a tool answered is not in the conversation as written: the answer after it is then learned as if made up.

    Told by its words: some templates write it as it is, others as JSON.

    Raises:
        InputError: the template does not take such a conversation.
    """
    results = [message["content"] for message in item["messages"] if message["role"] == "tool"]
    if not results:
        return False
    whole = written(tokenizer, item["messages"], item["tools"], where)
    return any(word not in whole for result in results for word in _WORD.findall(result))


def leaves_out(tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, at: int) -> bool:
    """Whether the thought of the message in place `at` is not in the whole conversation as written; another message may have the
    same one there ("A greeting." before two answers).

    Raises:
        InputError: the template does not take the conversation.
    """
    thought = thought_of(messages[at])
    if thought not in whole or whole.count(thought) >= _texts(messages).count(thought):
        return thought not in whole
    other = {name: said.replace(thought, unlike(thought)) for name in ("content", *THOUGHTS) if (said := messages[at].get(name))}
    return written(tokenizer, [*messages[:at], messages[at] | other, *messages[at + 1 :]], tools, where) == whole


def _texts(messages: Sequence[Any]) -> str:
    """What is said and thought."""
    return "\n".join(f"{m.get(THOUGHTS[0]) or ''}\n{m['content']}" for m in messages)


def unwritten_thoughts(tokenizer: Any, item: dict[str, Any], where: str) -> Literal["never", "earlier", "said"] | None:
    """Whether a conversation's answers have thoughts that the model's template never writes, or only in the last answer, or as a
    part of what is said: where neither it nor the tokenizer knows what ends one.

    Raises:
        InputError: the template does not take such a conversation.
    """
    messages, tools = item["messages"], item["tools"]
    thoughts = [(i, thought) for i, m in enumerate(messages) if is_answer(m) and (thought := thought_of(m))]
    if not thoughts:
        return None
    messages = with_last_thought(tokenizer, messages, tools, where)
    whole = written(tokenizer, messages, tools, where)
    lost = next(((i, thought) for i, thought in thoughts if leaves_out(tokenizer, messages, tools, whole, where, at=i)), None)
    if lost is None:
        marks = tokenizer(THOUGHT_END, add_special_tokens=False)["input_ids"]
        return "said" if THOUGHT_END in whole and len(marks) > 1 and THOUGHT_END not in str(tokenizer.chat_template) else None
    so_far = with_last_thought(tokenizer, messages[: lost[0] + 1], tools, where)
    return "earlier" if lost[1] in written(tokenizer, so_far, tools, where) else "never"
