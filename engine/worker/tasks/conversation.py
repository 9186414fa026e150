"""Conversations as token ids, and which of the tokens are learned: what the assistant says, with the mark that ends its turn.

Templates need no generation marks: the text up to an answer and the text with it are rendered, and the answer is what the
second has more. Where they are no beginnings of the whole, because the template writes an answer otherwise once another turn
follows (Qwen3 and Phi-3 do) or asks for it with a thought begun, it is looked for by its own words.
"""

import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from engine.examples.turns import is_answer, thought_of
from engine.worker.packing import IGNORED
from engine.worker.tasks.answers import (
    SHORT,
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
    with_thought,
)
from engine.worker.tasks.chat_template import (
    as_known,
    as_placed,
    as_spoken,
    leaves_out,
    renamed,
    special_ids,
    special_tokens,
    written,
)
from recommender.errors import InputError


class Rendered(NamedTuple):
    """One conversation."""

    ids: list[int]
    """Uncut."""
    labels: list[int]
    """As long; `IGNORED` where nothing is learned."""


def rendered(tokenizer: Any, item: dict[str, Any], where: str, *, since: int = 0) -> Rendered:
    """Ids and labels of one conversation as `engine.examples.written` makes them; `where` is file and row, for messages.

    Of the answers those are learned that stand among the messages from `since` on and are not of weight 0.

    Raises:
        InputError: the template does not take such a conversation, or does not tell where answers begin and end.
    """
    given, tools = item["messages"], item["tools"]
    placed = as_placed(tokenizer, given, tools)  # once: Mistral's has a place for a system message up to an answer only
    messages = as_spoken(tokenizer, placed, tools, where)
    since -= len(given) - len(messages) if since else 0
    whole = written(tokenizer, messages, tools, where)
    spans = _answers(tokenizer, messages, tools, whole, where, since=since)
    if spans is None and not since:
        return _marked(tokenizer, messages, tools, where)
    if spans is None:
        raise InputError(f"{where}: the model's chat template rewrites the question, so the answer to it cannot be found.")
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
    messages, tools = item["messages"], item["tools"]
    text = written(tokenizer, as_placed(tokenizer, messages, tools)[:-1], tools, where, ask=True)
    ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return str(messages[-2]["content"]), list(ids), str(messages[-1]["content"])


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
        if _loses_thought(tokenizer, messages, tools, whole, where, after=after, at=i):
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


def _loses_thought(tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, after: str, at: int) -> bool:
    """Whether the template writes the thought of the message in place `at` only where nothing follows it.

    Raises:
        InputError: it never writes a thought that stands in the answer's own text.
    """
    message = messages[at]
    thought = thought_of(message)
    if not thought or not leaves_out(tokenizer, messages, tools, whole, where, at=at):
        return False
    if thought not in after and thought in message["content"]:
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
            behind = same_behind(words, whole[exact[1] :], after, len(so_far)) if message.get("tool_calls") else ""
            span = exact[0], exact[1] + closed(behind, specials)
    if span is None and message.get("tool_calls") and after.startswith(before):
        span = _as_asked(tokenizer, messages, tools, where, at=at, whole=whole, said=after[len(before) :])
    return span and (with_thought(thought_of(message), whole, span, before[len(so_far) :], specials), span[1])


def _as_asked(
    tokenizer: Any, messages: list[Any], tools: Any, where: str, *, at: int, whole: str, said: str
) -> tuple[int, int] | None:
    """Where the call in place `at` stands, which is `said` there as where nothing follows, though what stands before it is
    not: Mistral lists the tools before the last question."""
    others = [*messages[:at], renamed(messages[at]), *messages[at + 1 :]]
    changes = len(shared_start(whole, written(tokenizer, others, tools, where)))
    said = said.rstrip() if said.rstrip().endswith(tuple(special_tokens(tokenizer))) else said
    start = whole.rfind(said, 0, changes + len(said)) if said else -1
    return (start, start + len(said)) if 0 <= start <= changes < start + len(said) else None


def _changing(tokenizer: Any, messages: list[Any], tools: Any, *, at: int, whole: str, where: str) -> tuple[int, int] | None:
    """Where the words of the message in place `at` stand, told by what changes with them; `None` where anything else does."""
    words = messages[at]["content"].strip()
    others = [*messages[:at], messages[at] | {"content": unlike(words)}, *messages[at + 1 :]]
    return where_they_differ(whole, written(tokenizer, others, tools, where), words)


def _marked(tokenizer: Any, messages: list[Any], tools: Any, where: str) -> Rendered:
    """By the template's own generation marks.

    Raises:
        InputError: it has none, or not one for each answer where some are not to be learned.
    """
    if "generation %}" not in str(tokenizer.chat_template).replace("-%}", " %}").replace("  ", " "):
        raise InputError(
            f"{where}: the model's chat template leaves out or rewrites answers and marks none ({{% generation %}}), so what "
            "is to be learned cannot be found; give the tokenizer a template with such marks, or rows of one answer each, "
            "without reasoning that it leaves out."
        )
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
