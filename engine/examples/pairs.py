"""Rows of preferences: a conversation, and two answers of which one was chosen."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from engine.examples.turns import (
    Fault,
    Message,
    check_turns,
    conversation,
    from_question,
    messages_of,
    opened,
    parts_joined,
    said_and_asked,
)
from engine.tables.table import as_text
from recommender.errors import InputError

_SPEAKERS = re.compile(r"\n\n(Human|Assistant): ?")
"""How conversations are written in one text in the data of Bai et al. (2022), and in many made after it."""
UNASKED = "holds an answer and no question; name the column of the question with --column prompt=NAME"


class Pair(NamedTuple):
    """One row; neither side is empty, and they differ."""

    prompt: list[Message]
    """What both go on from."""
    chosen: list[Message]
    rejected: list[Message]


def pair(row: dict[str, Any], fault: Callable[[str, str], InputError]) -> Pair | None:
    """The two conversations of a row by role (prompt, input, chosen, rejected); `None` where there is nothing to prefer.

    `fault(role, what)` makes the error that names file, row and column.

    Raises:
        InputError: a side that is no answer, or a conversation that no model could have had.
    """
    sides = [_side(row[role], partial(fault, role)) for role in ("chosen", "rejected")]
    if not all(sides):
        return None
    one, other = (isinstance(row[role], list | dict) for role in ("chosen", "rejected"))
    if one != other:
        unlike = "a text, where chosen holds messages" if one else "messages, where chosen holds a text"
        raise fault("rejected", f"holds {unlike}; write both alike")
    system = as_text(parts_joined(row.get("system"))).strip()
    asked = _prompt(row, partial(fault, "prompt"))
    if "prompt" in row and not asked and all(side[0]["role"] == "assistant" for side in sides):
        raise fault("prompt", "holds no question, and chosen and rejected are answers alone; leave such rows out")
    prompt = from_question(opened(asked, system))
    sides = [from_question(side) if len(side) > 1 and not prompt else side for side in sides]
    check_turns(prompt, partial(fault, "prompt"))
    unasked = next((role for role, side in zip(("chosen", "rejected"), sides, strict=True) if not side), None)
    if unasked is not None:  # several answers in a row, and nothing before them
        raise fault(unasked, UNASKED)
    if all(side[0]["role"] != "assistant" for side in sides):  # whole conversations, which begin alike
        prompt = _common(*sides)
        sides = [side[len(prompt) :] for side in sides]
        prompt = opened(prompt, system)
        if not all(sides):
            return None
    elif prompt:
        sides = [_without(prompt, side) for side in sides]
    whole = []
    for role, side in zip(("chosen", "rejected"), sides, strict=True):
        if not prompt and side[0]["role"] == "assistant":
            raise fault(role, UNASKED)
        whole.append(conversation([*prompt, *side], partial(fault, role)).messages)
    chosen, rejected = (messages[len(prompt) :] for messages in whole)
    said = [said_and_asked(side)[0] for side in (chosen, rejected)]
    return Pair(prompt, chosen, rejected) if all(said) and chosen != rejected else None


def as_one_text(messages: Sequence[Message]) -> str:
    """What all of them say."""
    said, asked = said_and_asked(messages)
    return "\n".join((*asked, *said))


def _side(value: Any, fault: Fault) -> list[Message]:
    """One side as messages: an answer, or a whole conversation."""
    if isinstance(value, list | dict):
        return messages_of(value, fault)
    text = as_text(value).strip("\n") if isinstance(value, str) else as_text(value)
    if not text.strip():
        return []
    return _spoken_in(f"\n\n{text}") or [{"role": "assistant", "content": text.strip()}]


def _spoken_in(text: str) -> list[Message]:
    """The turns of a conversation that is written as one text; none where it is not one."""
    parts = _SPEAKERS.split(text)
    if len(parts) < 5 or parts[0].strip() or parts[1] != "Human":
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def _prompt(row: dict[str, Any], fault: Fault) -> list[Message]:
    value = row.get("prompt")
    if isinstance(value, list | dict):
        return messages_of(value, fault)
    more = as_text(row.get("input")).strip() if not isinstance(row.get("input"), list | dict) else ""
    asked = "\n\n".join(t for t in (as_text(value).strip(), more) if t)
    return [{"role": "user", "content": asked}] if asked else []


def _common(one: list[Message], other: list[Message]) -> list[Message]:
    """What both begin with, up to the answer that makes the difference."""
    alike = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        alike += 1
    return one[:alike]


def _without(prompt: list[Message], side: list[Message]) -> list[Message]:
    """An answer without the prompt, where its text repeats it."""
    asked, first = prompt[-1]["content"], side[0]["content"]
    if len(side) == 1 and asked and first.startswith(asked) and len(first) > len(asked):
        return [side[0] | {"content": first[len(asked) :].strip()}]
    return side
