"""Conversations as token ids, and which of the tokens are learned: what the assistant says, with the mark that ends its turn.

Templates need no generation marks: the text up to an answer and the text with it are rendered, and the answer is what the
second has more. Where they are no beginnings of the whole, because the template writes an answer otherwise once another turn
follows (Qwen3 and Phi-3 do) or asks for it with a thought begun, it is looked for by its own words.
"""

import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

from engine.examples.turns import WEIGHT, is_answer, thought_of
from engine.inspection.templates import PLAIN
from engine.text import one_line
from engine.worker.packing import IGNORED
from engine.worker.tasks.answers import (
    by_its_words,
    closed,
    end_of_turn,
    is_apart,
    is_said,
    same_behind,
    says_calls,
    shared_start,
    unlike,
    where_they_differ,
)
from recommender.errors import InputError

_SHORT = 20
"""Characters below which an answer may stand in what a template writes of its own, too."""


class Rendered(NamedTuple):
    """One conversation."""

    ids: list[int]
    """Uncut."""
    labels: list[int]
    """As long; `IGNORED` where nothing is learned."""


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


def rendered(tokenizer: Any, item: dict[str, Any], where: str, *, since: int = 0) -> Rendered:
    """Ids and labels of one conversation as `engine.examples.written` makes them; `where` is file and row, for messages.

    Of the answers those are learned that stand among the messages from `since` on and are not of weight 0.

    Raises:
        InputError: the template does not take such a conversation, or does not tell where answers begin and end.
    """
    messages, tools = item["messages"], item["tools"]
    whole = _text(tokenizer, messages, tools, where)
    spans = _answers(tokenizer, messages, tools, whole, where, since=since)
    if spans is None and not since:
        return _marked(tokenizer, messages, tools, where)
    if spans is None:
        raise InputError(f"{where}: the model's chat template rewrites what was asked, so that its answer cannot be told apart.")
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
    ids, offsets = list(found["input_ids"]), found["offset_mapping"]
    labels = [IGNORED] * len(ids)
    place = 0
    for start, end in spans:
        # A token that holds the last character of the prompt and the first of the answer is learned.
        while place < len(ids) and offsets[place][1] <= start:
            place += 1
        while place < len(ids) and offsets[place][0] < end:
            labels[place] = ids[place]
            place += 1
    return _closed(tokenizer, Rendered(ids, labels))


def sides(tokenizer: Any, item: dict[str, Any], where: str) -> dict[str, Rendered]:
    """Both sequences of a pair as `engine.examples.pairs` makes them: chosen and rejected, only these answers learned.

    Raises:
        InputError: the template does not take one of them.
    """
    before, tools = item["messages"], item["tools"]
    whole = {name: {"messages": before + item[name], "tools": tools} for name in ("chosen", "rejected")}
    return {name: rendered(tokenizer, side, where, since=len(before)) for name, side in whole.items()}


def prompt_of(tokenizer: Any, item: dict[str, Any], where: str) -> tuple[str, list[int], str]:
    """The conversation up to its last answer: what is asked last, the ids that the model goes on from, and that answer."""
    messages = item["messages"]
    before, answer = messages[:-1], messages[-1]
    text = _text(tokenizer, before, item["tools"], where, ask=True)
    ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return str(before[-1]["content"]), list(ids), str(answer["content"])


def _text(tokenizer: Any, messages: Sequence[Any], tools: Any, where: str, *, ask: bool = False) -> str:
    failed: Exception | None = None
    found: list[str] = []
    calling = [m for m in messages if m.get("tool_calls")]
    for parsed in (True, False) if calling else (True,):
        try:
            given = _as_known(messages, parsed=parsed)
            found.append(str(tokenizer.apply_chat_template(given, tools=tools, tokenize=False, add_generation_prompt=ask)))
        except Exception as error:  # a template is the model's own code and raises what it likes
            failed = failed or error
            continue
        if all(says_calls(m, found[-1]) for m in calling):
            return found[-1]
    if found:
        return found[0]
    said = one_line(str(failed) or type(failed).__name__, 200)
    raise InputError(f"{where}: the model's chat template does not take this conversation: {said}") from None


def _as_known(messages: Sequence[Any], *, parsed: bool = True) -> list[Any]:
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
        with suppress(ValueError):
            found = json.loads(given)
            return call | {"arguments": found} if isinstance(found, dict) else call
    return call | {"arguments": json.dumps(given, ensure_ascii=False)} if isinstance(given, dict) and not parsed else call


def _answers(
    tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, since: int
) -> list[tuple[int, int]] | None:
    """Where in the whole text each answer from `since` on begins and ends; `None` where the template does not let it be told."""
    specials = tuple(special_tokens(tokenizer))
    spans = []
    for i, message in enumerate(messages):
        if i < since or not is_answer(message):
            continue
        before = _text(tokenizer, messages[:i], tools, where, ask=True)
        after = whole if i == len(messages) - 1 else _text(tokenizer, messages[: i + 1], tools, where)
        if not says_calls(message, after):
            continue  # an empty answer, from which a model would learn to say nothing
        thought = thought_of(message)
        if thought and thought not in whole:
            if thought in after:
                continue  # from what is left of it, asked as ever, a model would learn to answer without a thought
            if thought in message["content"]:
                raise InputError(
                    f"{where}: the model's chat template leaves thoughts (<think>) out of answers, so that they cannot be"
                    " learned; take them out of the rows, or give the tokenizer a template that keeps them."
                )
        if after.startswith(before) and whole.startswith(after):
            # The line end that many templates put behind the end of a turn belongs to the next one.
            end = len(after.rstrip()) if after.rstrip().endswith(specials) else len(after)
            span: tuple[int, int] | None = (len(before), end)
        else:
            plain = _text(tokenizer, messages[:i], tools, where) if i else ""
            so_far, words = shared_start(plain, before), message["content"].strip()
            span = by_its_words(message, whole, after, asked=before, so_far=so_far, specials=specials)
            doubtful = words and (span is None or len(words) < _SHORT)
            exact = _changing(tokenizer, messages, tools, at=i, whole=whole, where=where) if doubtful else None
            if exact is not None and not _within(exact, span):
                behind = same_behind(words, whole[exact[1] :], after, len(so_far)) if message.get("tool_calls") else ""
                span = exact[0], exact[1] + closed(behind, specials)
        if span is None or not is_said(message, whole[slice(*span)]) or is_apart(message, whole[slice(*span)], after, before):
            return None
        if not says_calls(message, whole[slice(*span)]):
            continue
        if span[1] > span[0]:
            spans.append((span[0], end_of_turn(whole, *span, specials)))
    return spans


def _changing(
    tokenizer: Any, messages: list[Any], tools: Any, *, at: int, whole: str, where: str
) -> tuple[int, int] | None:
    """Where the words of the message in place `at` stand, told by what changes with them; `None` where anything else does."""
    words = messages[at]["content"].strip()
    others = [*messages[:at], messages[at] | {"content": unlike(words)}, *messages[at + 1 :]]
    return where_they_differ(whole, _text(tokenizer, others, tools, where), words)


def _within(part: tuple[int, int], span: tuple[int, int] | None) -> bool:
    return span is not None and span[0] <= part[0] and part[1] <= span[1]


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


def unwritten_calls(tokenizer: Any, item: dict[str, Any], where: str) -> bool:
    """Whether a conversation calls tools and the model's template leaves a call out.

    Raises:
        InputError: the template does not take such a conversation.
    """
    calling = [message for message in item["messages"] if message.get("tool_calls")]
    if not calling:
        return False
    whole = _text(tokenizer, item["messages"], item["tools"], where)
    return not all(says_calls(message, whole) for message in calling)


def unwritten_thoughts(tokenizer: Any, item: dict[str, Any], where: str) -> Literal["never", "earlier"] | None:
    """Whether a conversation's answers have thoughts that the model's template never writes, or only in the last answer.

    Raises:
        InputError: the template does not take such a conversation.
    """
    messages, tools = item["messages"], item["tools"]
    thoughts = [(i, thought) for i, m in enumerate(messages) if is_answer(m) and (thought := thought_of(m))]
    whole = _text(tokenizer, messages, tools, where) if thoughts else ""
    lost = next(((i, thought) for i, thought in thoughts if thought not in whole), None)
    if lost is None:
        return None
    return "earlier" if lost[1] in _text(tokenizer, messages[: lost[0] + 1], tools, where) else "never"


def _marked(tokenizer: Any, messages: list[Any], tools: Any, where: str) -> Rendered:
    """By the template's own generation marks.

    Raises:
        InputError: it has none, or not one for each answer where some are not to be learned.
    """
    if "generation %}" not in str(tokenizer.chat_template).replace("-%}", " %}").replace("  ", " "):
        raise InputError(
            f"{where}: the model's chat template leaves out or rewrites answers and marks none ({{% generation %}}), so what is"
            " to be learned cannot be told apart; give the tokenizer a template with such marks, or rows of one answer each,"
            " without thoughts that it leaves out."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tokenizer.apply_chat_template(
            _as_known(messages), tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    ids, marked = list(found["input_ids"]), list(found["assistant_masks"])
    said = [message for message in messages if message["role"] == "assistant"]
    if not all(map(is_answer, said)):
        begins = [i for i, m in enumerate(marked) if m and not (i and marked[i - 1])]
        if len(begins) != len(said):
            why = "the model's chat template does not mark each answer, so those of weight 0 cannot be told"
            raise InputError(f"{where}: {why}.")
        for begin, message in zip(begins, said, strict=True):
            while not is_answer(message) and begin < len(marked) and marked[begin]:
                marked[begin] = 0
                begin += 1
    # Some templates close the mark before the token that ends the turn.
    learned = [bool(m) for m in marked]
    for i, is_learned in enumerate(learned):
        if is_learned or not i or not learned[i - 1] or ids[i] not in special_ids(tokenizer):
            continue
        learned[i] = not _is_closed(tokenizer, [token for token, m in zip(ids[:i], learned, strict=False) if m])
    return _closed(tokenizer, Rendered(ids, [i if is_learned else IGNORED for i, is_learned in zip(ids, learned, strict=True)]))


def _closed(tokenizer: Any, row: Rendered) -> Rendered:
    """With an end token learned last where the template puts none there: a model must learn to stop."""
    learned = [label for label in row.labels if label != IGNORED]
    end = tokenizer.eos_token_id
    if not learned or end is None or _is_closed(tokenizer, learned):
        return row
    last = max(i for i, label in enumerate(row.labels) if label != IGNORED)
    return Rendered([*row.ids[: last + 1], end], [*row.labels[: last + 1], end])


def ends_of(tokenizer: Any, labels: Sequence[int]) -> set[int]:
    """The tokens that close what is learned of a row."""
    runs = (list(run) for is_learned, run in groupby(labels, lambda label: label != IGNORED) if is_learned)
    return {last for run in runs if (last := _last(tokenizer, run)) in special_ids(tokenizer)}


def _is_closed(tokenizer: Any, learned: Sequence[int]) -> bool:
    return _last(tokenizer, learned) in special_ids(tokenizer)


def _last(tokenizer: Any, tokens: Sequence[int]) -> int:
    """The last of them that is no white space."""
    return next((token for token in reversed(tokens) if tokenizer.decode([token]).strip()), IGNORED)
