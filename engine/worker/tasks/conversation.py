"""Conversations as token ids, and which of the tokens are learned: what the assistant says, with the mark that ends its turn.

Templates need no generation marks: the text up to an answer and the text with it are rendered, and the answer is what the
second has more. Both must be beginnings of the whole, or the answer's place could not be told.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.text import one_line
from engine.worker.packing import IGNORED
from recommender.errors import InputError

PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
    "{% elif message['role'] == 'tool' %}{{ '### Input:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
"""For models that come without a template: the form of the Alpaca data, each answer closed by the end token."""


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

    Of the answers those are learned that stand among the messages from `since` on.

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
    try:
        text = tokenizer.apply_chat_template(list(messages), tools=tools, tokenize=False, add_generation_prompt=ask)
    except Exception as error:  # a template is the model's own code and raises what it likes
        said = one_line(str(error) or type(error).__name__, 200)
        raise InputError(f"{where}: the model's chat template does not take this conversation: {said}") from None
    return str(text)


def _answers(
    tokenizer: Any, messages: list[Any], tools: Any, whole: str, where: str, *, since: int
) -> list[tuple[int, int]] | None:
    """Where in the whole text each answer from `since` on begins and ends; `None` where the template does not let it be told."""
    specials = tuple(t for t in tokenizer.all_special_tokens if t)
    spans = []
    for i, message in enumerate(messages):
        if i < since or message["role"] != "assistant":
            continue
        before = _text(tokenizer, messages[:i], tools, where, ask=True)
        after = whole if i == len(messages) - 1 else _text(tokenizer, messages[: i + 1], tools, where)
        if not (after.startswith(before) and whole.startswith(after)):
            return None
        if not _says_calls(message, after[len(before) :]):
            continue  # an empty answer, from which a model would learn to say nothing
        # The line end that many templates put behind the end of a turn belongs to the next one.
        end = len(after.rstrip()) if after.rstrip().endswith(specials) else len(after)
        if end > len(before):
            spans.append((len(before), end))
    return spans


def unwritten_calls(tokenizer: Any, item: dict[str, Any], where: str) -> bool:
    """Whether a conversation calls tools and the model's template leaves a call out.

    Raises:
        InputError: the template does not take such a conversation.
    """
    calling = [message for message in item["messages"] if message.get("tool_calls")]
    if not calling:
        return False
    whole = _text(tokenizer, item["messages"], item["tools"], where)
    return not all(_says_calls(message, whole) for message in calling)


def _says_calls(message: dict[str, Any], text: str) -> bool:
    """Whether the names of the tools that a message calls stand in that text."""
    calls = message.get("tool_calls") or ()
    return all(str((call.get("function") or call).get("name", "")) in text for call in calls)


def _marked(tokenizer: Any, messages: list[Any], tools: Any, where: str) -> Rendered:
    """By the template's own generation marks.

    Raises:
        InputError: it has none.
    """
    if "generation %}" not in str(tokenizer.chat_template).replace("-%}", " %}").replace("  ", " "):
        raise InputError(
            f"{where}: the model's chat template rewrites earlier turns and marks no answers ({{% generation %}}), so what is to"
            " be learned cannot be told apart; give the tokenizer a template with such marks, or rows of one answer each."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    ids = list(found["input_ids"])
    return Rendered(ids, [i if learned else IGNORED for i, learned in zip(ids, found["assistant_masks"], strict=True)])


def _closed(tokenizer: Any, row: Rendered) -> Rendered:
    """With an end token learned last where the template puts none there: a model must learn to stop."""
    learned = [label for label in row.labels if label != IGNORED]
    end = tokenizer.eos_token_id
    if not learned or end is None or learned[-1] in tokenizer.all_special_ids:
        return row
    last = max(i for i, label in enumerate(row.labels) if label != IGNORED)
    return Rendered([*row.ids[: last + 1], end], [*row.labels[: last + 1], end])
