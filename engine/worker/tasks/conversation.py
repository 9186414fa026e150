"""Conversations as token ids, and which of the tokens are learned: what the assistant says, with the mark that ends its turn.

Templates need no generation marks: the text up to an answer and the text with it are rendered, and the answer is what the
second has more. Where they are no beginnings of the whole, because the template writes an answer otherwise once another turn
follows (Qwen3 and Phi-3 do) or asks for it with a thought begun, it is looked for by its own words.
"""

import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from engine.examples.turns import THOUGHT_END, is_answer, thought_of
from engine.worker.packing import IGNORED
from engine.worker.tasks.answers import (
    SHORT,
    by_its_words,
    closed,
    end_of_turn,
    holds_a_word,
    is_apart,
    is_said,
    same_behind,
    says_calls,
    shared_start,
    token_start,
    unlike,
    where_begun,
    where_they_differ,
    with_thought,
)
from engine.worker.tasks.chat_template import (
    HIDDEN_END,
    as_known,
    as_placed,
    as_spoken,
    leaves_out,
    renamed,
    special_ids,
    special_tokens,
    with_last_thought,
    words_beside_calls,
    written,
)
from recommender.errors import InputError


class Rendered(NamedTuple):
    """One conversation."""

    ids: list[int]
    """Uncut."""
    labels: list[int]
    """As long; `IGNORED` where nothing is learned."""
    spoken: Sequence[Any] = ()
    """The messages, without words that the template does not write where they are said."""


def rendered(tokenizer: Any, item: dict[str, Any], where: str, *, since: int = 0) -> Rendered:
    """Ids and labels of one conversation as `engine.inspection.record` makes them; `where` is file and row, for messages.

    Of the answers those are learned that stand among the messages from `since` on and are not of weight 0.

    Raises:
        InputError: the template does not take such a conversation, or does not tell where answers begin and end.
    """
    given, tools = item["messages"], item["tools"]
    placed = as_placed(tokenizer, given, tools)  # once: Mistral's has a place for a system message up to an answer only
    since -= len(given) - len(placed) if since else 0
    spoken = as_spoken(tokenizer, placed, tools, where)
    row = _found(tokenizer, spoken, tools, where, since=since)
    if row is None and not since and "generation %}" in str(tokenizer.chat_template).replace("-%}", " %}").replace("  ", " "):
        row = _marked(tokenizer, spoken, tools, where)
    if row is None and words_beside_calls(spoken):  # Gemma 4's template writes them behind what the tool answers
        spoken = [m | {"content": ""} if m.get("tool_calls") else m for m in spoken]
        row = _found(tokenizer, spoken, tools, where, since=since)
    if row is None and since:
        raise InputError(f"{where}: the model's chat template rewrites the question, so the answer to it cannot be found.")
    if row is None:
        raise InputError(
            f"{where}: the model's chat template leaves out or rewrites answers and marks none ({{% generation %}}), so what "
            "is to be learned cannot be found; give the tokenizer a template with such marks, or rows of one answer each, "
            "without reasoning that it leaves out."
        )
    return _closed(tokenizer, row._replace(spoken=spoken))


def _found(tokenizer: Any, spoken: Sequence[Any], tools: Any, where: str, *, since: int) -> Rendered | None:
    """By where the answers stand in the text; `None` where the template does not let it be told."""
    messages = with_last_thought(tokenizer, spoken, tools, where)
    whole = written(tokenizer, messages, tools, where)
    spans = _answers(tokenizer, messages, tools, whole, where, since=since)
    if spans is None:
        return None
    text = whole.replace(HIDDEN_END, THOUGHT_END)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
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
    return Rendered(ids, labels)


def sides(tokenizer: Any, item: dict[str, Any], where: str) -> dict[str, Rendered]:
    """Both sequences of a pair as `engine.inspection.record` makes them: chosen and rejected, only these answers learned.

    Raises:
        InputError: the template does not take one of them.
    """
    before, tools = item["messages"], item["tools"]
    whole = {name: {"messages": before + item[name], "tools": tools} for name in ("chosen", "rejected")}
    return {name: rendered(tokenizer, side, where, since=len(before)) for name, side in whole.items()}


def prompt_of(tokenizer: Any, item: dict[str, Any], where: str) -> tuple[str, list[int], str]:
    """The conversation up to its last answer: what is asked last, the ids that the model goes on from, and that answer."""
    messages, tools = item["messages"], item["tools"]
    text = written(tokenizer, as_placed(tokenizer, messages, tools)[:-1], tools, where, ask=True)
    ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    asked = max((i for i, m in enumerate(messages[:-1]) if m["role"] == "user"), default=len(messages) - 2)
    told = [str(m["content"]) for m in messages[asked:-1] if m["role"] != "assistant"]  # a tool's answer alone says nothing
    return "\n".join(told), list(ids), str(messages[-1]["content"])


def _answers(
    tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, since: int
) -> list[tuple[int, int]] | None:
    """Where in the whole text each answer from `since` on begins and ends; `None` where the template does not let it be told."""
    specials = tuple(special_tokens(tokenizer))
    spans = []
    for i, message in enumerate(messages):
        if i < since or not is_answer(message):
            continue
        before = written(tokenizer, messages[:i], tools, where, ask=True)
        after = whole if i == len(messages) - 1 else written(tokenizer, messages[: i + 1], tools, where)
        if not says_calls(message, after):
            continue  # an empty answer, from which a model would learn to say nothing
        if _loses_thought(tokenizer, messages, tools, whole, where, at=i):
            continue  # from what is left of it, asked as ever, a model would learn to answer without a thought
        if after.startswith(before) and whole.startswith(after):
            # The line end that many templates put behind the end of a turn belongs to the next one.
            end = len(after.rstrip()) if after.rstrip().endswith(specials) else len(after)
            span: tuple[int, int] | None = (len(before), end)
        else:
            span = _rewritten(tokenizer, messages, tools, where, at=i, whole=whole, before=before, after=after)
        if span is None:
            return None
        said = whole[slice(*span)]
        if not is_said(message, said) or is_apart(message, said, after, before):
            return None
        if said and says_calls(message, said):
            spans.append((span[0], end_of_turn(whole, *span, specials)))
    return spans


def _loses_thought(tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, at: int) -> bool:
    """Whether the template writes the thought of the message in place `at` only where nothing follows it.

    Raises:
        InputError: it never writes a thought that stands in the answer's own text.
    """
    thought = thought_of(messages[at])
    if not thought or not leaves_out(tokenizer, messages, tools, whole, where, at=at):
        return False
    after = written(tokenizer, with_last_thought(tokenizer, messages[: at + 1], tools, where), tools, where)
    if thought not in after and thought in messages[at]["content"]:
        raise InputError(
            f"{where}: the model's chat template leaves reasoning (<think>) out of answers, so it cannot be learned; remove "
            "it from the rows, or give the tokenizer a template that keeps it."
        )
    return thought in after


def _rewritten(
    tokenizer: Any, messages: list[Any], tools: Any, where: str, *, at: int, whole: str, before: str, after: str
) -> tuple[int, int] | None:
    """Where the answer in place `at` stands, which the template writes otherwise in the whole than where nothing follows it."""
    message = messages[at]
    specials = tuple(special_tokens(tokenizer))
    so_far = shared_start(written(tokenizer, messages[:at], tools, where) if at else "", before)
    words = message["content"].strip()
    span = by_its_words(message, whole, after, asked=before, so_far=so_far, specials=specials)
    if words and (span is None or len(words) < SHORT):
        exact = _changing(tokenizer, messages, tools, at=at, whole=whole, where=where)
        if exact is not None and (span is None or not span[0] <= exact[0] <= exact[1] <= span[1]):
            rest = whole[exact[1] :]
            behind = same_behind(words, rest, after, len(so_far)) if message.get("tool_calls") else rest[: -len(rest.lstrip())]
            span = exact[0], exact[1] + closed(behind, specials)
    if span is None and message.get("tool_calls"):
        others = [*messages[:at], renamed(message), *messages[at + 1 :]]
        changes = len(shared_start(whole, written(tokenizer, others, tools, where)))
        asked = token_start(before, len(shared_start(before, after)), specials)
        if not holds_a_word(messages[at - 1], before[asked:]):
            span = _as_asked(whole, after[asked:], changes, specials)
        begun = where_begun(before[len(so_far) :], whole, changes, specials)
        if span is None and begun >= 0 and after.startswith(so_far):  # what stands before it is written otherwise here
            head, asked_so, after = whole[:begun], whole[:begun] + before[len(so_far) :], whole[:begun] + after[len(so_far) :]
            span = by_its_words(message, whole, after, asked=asked_so, so_far=head, specials=specials)
    beside = bool(words and message.get("tool_calls"))
    if span and beside and _reaches(tokenizer, messages, tools, where, at=at, whole=whole, end=span[1]):
        return None
    return span and (with_thought(thought_of(message), whole, span, before[len(so_far) :], specials), span[1])


def _reaches(tokenizer: Any, messages: list[Any], tools: Any, where: str, *, at: int, whole: str, end: int) -> bool:
    """Whether the place `end` lies behind what is said after the message in place `at`: Gemma 4's template writes words beside a
    call behind what the tool answers, which is not to be learned with them."""
    follows = messages[at + 1 : at + 2]
    if not follows or not (said := follows[0]["content"].strip()):
        return False
    others = [*messages[: at + 1], follows[0] | {"content": unlike(said)}, *messages[at + 2 :]]
    return len(shared_start(whole, written(tokenizer, others, tools, where))) < end


def _as_asked(whole: str, said: str, changes: int, specials: Sequence[str]) -> tuple[int, int] | None:
    """Where a call stands that holds the place `changes`, and is `said` there as where nothing follows, though what stands
    before it is not: Mistral lists the tools before the last question; DeepSeek V3 and Apertus ask for an answer to a tool
    otherwise than they write a call there."""
    said = said.rstrip() if said.rstrip().endswith(tuple(specials)) else said
    start = whole.rfind(said, 0, changes + len(said)) if said else -1
    return (start, start + len(said)) if 0 <= start <= changes < start + len(said) else None


def _changing(tokenizer: Any, messages: list[Any], tools: Any, *, at: int, whole: str, where: str) -> tuple[int, int] | None:
    """Where the words of the message in place `at` stand, told by what changes with them; `None` where anything else does."""
    words = messages[at]["content"].strip()
    other = messages[at] | {"content": messages[at]["content"].replace(words, unlike(words))}  # white space around them stays
    others = [*messages[:at], other, *messages[at + 1 :]]
    return where_they_differ(whole, written(tokenizer, others, tools, where), words)


def _marked(tokenizer: Any, messages: list[Any], tools: Any, where: str) -> Rendered:
    """By the template's own generation marks.

    Raises:
        InputError: it has not one for each answer, and some are not to be learned.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tokenizer.apply_chat_template(
            as_known(messages), tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    ids, marked = list(found["input_ids"]), list(found["assistant_masks"])
    said = [message for message in messages if message["role"] == "assistant"]
    if not all(map(is_answer, said)):
        begins = [i for i, m in enumerate(marked) if m and not (i and marked[i - 1])]
        if len(begins) != len(said):
            why = "the model's chat template does not mark each answer, so those of weight 0 cannot be found"
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
    return Rendered(ids, [i if is_learned else IGNORED for i, is_learned in zip(ids, learned, strict=True)])


def _closed(tokenizer: Any, row: Rendered) -> Rendered:
    """With an end token learned last where the template puts none there: a model must learn to stop."""
    learned = [label for label in row.labels if label != IGNORED]
    end = tokenizer.eos_token_id
    if not learned or end is None or _is_closed(tokenizer, learned):
        return row
    last = max(i for i, label in enumerate(row.labels) if label != IGNORED)
    return row._replace(ids=[*row.ids[: last + 1], end], labels=[*row.labels[: last + 1], end])


def ends_of(tokenizer: Any, labels: Sequence[int]) -> set[int]:
    """The tokens that close what is learned of a row."""
    runs = (list(run) for is_learned, run in groupby(labels, lambda label: label != IGNORED) if is_learned)
    return {last for run in runs if (last := _last(tokenizer, run)) in special_ids(tokenizer)}


def _is_closed(tokenizer: Any, learned: Sequence[int]) -> bool:
    return _last(tokenizer, learned) in special_ids(tokenizer)


def _last(tokenizer: Any, tokens: Sequence[int]) -> int:
    """The last of them that is no white space."""
    return next((token for token in reversed(tokens) if tokenizer.decode([token]).strip()), IGNORED)
