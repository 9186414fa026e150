"""Where in a rendered conversation an answer stands. Text alone: no template is asked here."""

import re
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\w+")
SHORT = 20
"""Characters below which an answer may stand in what a template writes of its own, too."""


def is_said(message: dict[str, Any], text: str) -> bool:
    """Whether that text has the last word of what is said: templates may leave thoughts out, and some everything that is no
    list of parts."""
    words = str(message["content"]).split()
    return not words or words[-1] in text


def holds_a_word(message: dict[str, Any], text: str) -> bool:
    """Whether that text has a word of the message."""
    return not set(_WORD.findall(message["content"])).isdisjoint(_WORD.findall(text))


def unlike(words: str) -> str:
    """A text that neither begins nor ends as `words` do."""
    first, last = (next(c for c in "xyz" if c != end) for end in (words[0], words[-1]))
    return f"{first} {last}"


def where_they_differ(whole: str, other: str, words: str) -> tuple[int, int] | None:
    """Where in the whole the words stand instead of which `other` has others; `None` where something else differs. So an answer
    is found whose template writes what stands before it otherwise, too, once a turn follows (Qwen 3.5 behind a call)."""
    start = len(shared_start(whole, other))
    end = len(whole) - len(shared_start(whole[start:][::-1], other[start:][::-1]))
    return (start, end) if whole[start:end] == words else None


def by_its_words(
    message: dict[str, Any], whole: str, after: str, *, asked: str, so_far: str, specials: Sequence[str]
) -> tuple[int, int] | None:
    """Where in the whole an answer stands that its template writes otherwise there than at the end of a conversation.

    `after` ends with it; `so_far` is what stands before it, `asked` that and what asks for it. Found by its text, or by the name
    of the first tool that it calls; its end is what stands behind that in both. `None` where it is not all there.
    """
    calls = message.get("tool_calls") or ()
    words = str(message["content"] or "").strip() or name_of(calls[0] if calls else {})
    shared = shared_start(asked, whole)
    if not words or len(shared) < len(so_far):
        return None
    if shared == asked:
        start, at = len(asked), whole.find(words, len(asked))
    else:  # what asks for it is another beginning than the one it has here: it is what `after` has before its closing tokens
        said = _unclosed(after, specials)
        start = at = len(said) - len(words) if said.endswith(words) and whole.startswith(said) else -1
        if at < 0:  # or it stands where what is asked with goes on with a thought
            begun = max(shared.rfind("\n") + 1, *(shared.rfind(token) + len(token) for token in specials if token in shared), 0)
            start, at = begun, whole.find(words, begun) if begun >= len(so_far) else -1
            at = at if at == begun or (calls and not message["content"]) else -1
    between = whole[start:at].strip()
    if at < 0 or (between and not (calls and not message["content"]) and not after.startswith(whole[start:at] + words, start)):
        return None
    rest = whole[at + len(words) :]
    same = same_behind(words, rest, after, len(so_far))
    if rest.startswith(tuple(specials)) and not same.startswith(tuple(specials)):
        same = ""  # two ends of turns that begin alike
    elif rest and not same:
        return None  # not these words, but a part of others
    if calls and not message["content"] and not any(token in same for token in specials):
        # The call goes on otherwise here (Apriel's have an id once they are answered): to what ends its turn in both.
        ends = _first(after[after.rfind(words) + len(words) :], specials)
        end = _first(rest, specials)
        same = rest[: rest.find(end) + len(end)] if end and end == ends else same
    return start, at + len(words) + closed(same, specials)


def _first(text: str, specials: Sequence[str]) -> str:
    """The special token that stands first in it, if any does."""
    return min((token for token in specials if token in text), key=text.find, default="")


def with_thought(thought: str, whole: str, span: tuple[int, int], opener: str, specials: Sequence[str]) -> int:
    """Where the answer at that span begins with its thought, which stands before it where answers are asked for without one
    (Qwen 3.5's small models) or otherwise once a call is answered (gpt-oss); `opener` is what asks for an answer."""
    at = whole.rfind(thought, 0, span[0]) if thought and thought not in whole[slice(*span)] else -1
    begun = where_begun(opener, whole, at, specials) if at >= 0 else -1
    return span[0] if begun < 0 else min(begun + len(shared_start(opener, whole[begun:])), at)


def where_begun(opener: str, whole: str, at: int, specials: Sequence[str]) -> int:
    """Where the turn begins that `opener` asks for and that holds the place `at`; -1 where that cannot be told."""
    first = min((opener.find(token) + len(token) for token in specials if token in opener), default=opener.find("\n") + 1)
    return whole.rfind(opener[:first], 0, at) if first else -1


def same_behind(words: str, rest: str, after: str, since: int) -> str:
    """What follows the words in both: `rest` in the whole, and where `after` has them behind the place `since`."""
    same, place = "", after.find(words, since)
    while place >= 0:  # the words may stand in what the template puts before them, too
        same = max(same, shared_start(rest, after[place + len(words) :]), key=len)
        place = after.find(words, place + 1)
    return same


def closed(text: str, specials: Sequence[str]) -> int:
    """Where the last special token in it ends; all of it where there is none."""
    return max((text.rfind(token) + len(token) for token in specials if token in text), default=len(text))


def _unclosed(text: str, specials: Sequence[str]) -> str:
    """Without the white space and special tokens at its end."""
    while (shorter := next((text.removesuffix(s) for s in specials if text.endswith(s)), text.rstrip())) != text:
        text = shorter
    return text


def end_of_turn(whole: str, start: int, end: int, specials: Sequence[str]) -> int:
    """Where a turn ends that nothing closes: behind the token that begins the next one, which such models (GLM) stop with."""
    if whole[start:end].rstrip().endswith(tuple(specials)):
        return end
    return end + max((len(token) for token in specials if whole.startswith(token, end)), default=0)


def shared_start(a: str, b: str) -> str:
    """The beginning that both have."""
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def token_start(text: str, place: int, specials: Sequence[str]) -> int:
    """The place, or where the special token begins that it lies in."""
    begins = (text.rfind(token, 0, place + len(token) - 1) for token in specials)
    inside = (begin for token, begin in zip(specials, begins, strict=True) if begin >= 0 and place < begin + len(token))
    return min(inside, default=place)


def is_apart(message: dict[str, Any], text: str, after: str, before: str) -> bool:
    """Whether calls of a message are written and stand elsewhere than in that text of it: `after` has more of their names than
    `before`, where they may stand in a list of tools, and its own words have."""
    names = [name_of(call) for call in message.get("tool_calls") or ()]
    written = all(after.count(name) > before.count(name) + message["content"].count(name) for name in names)
    return written and not says_calls(message, text)


def says_calls(message: dict[str, Any], text: str) -> bool:
    """Whether the names of the tools that a message calls stand in that text."""
    calls = message.get("tool_calls") or ()
    return all(name_of(call) in text for call in calls)


def name_of(call: dict[str, Any]) -> str:
    """The tool that is called, or described."""
    function = call.get("function")
    return str((function if isinstance(function, dict) else call).get("name", ""))
