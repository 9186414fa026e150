"""Classes that may be one, written in two ways: of the same letters, or a rare one that is a slip of another."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache

ALIKE = 0.9
"""How much of two words is the same, from which on one may be a slip of the other (difflib's ratio): `issue` and `issues`."""
SHORT = 3
"""Letters of a name that means another one with any other sign in it."""


@lru_cache(maxsize=8)  # a decision asks hundreds of times
def alike(labels: tuple[str, ...], counts: tuple[int, ...], rare: int) -> str:
    """The rarer and the more usual of such classes, each with its rows: three pairs at most. In time linear in their number.

    A slip is looked for in classes of fewer than `rare` rows.
    """
    named = sorted(zip(labels, counts, strict=False), key=lambda named: -named[1])
    usual: dict[object, tuple[str, int]] = {}
    pairs = []
    for label, count in named:
        keys = [_letters(label), *(_slips(label) if count else ())]
        same = usual.get(keys[0])
        near = (usual[key] for key in keys[1:] if key in usual) if count < rare else iter(())
        other = same or next((found for found in near if found[1] > count and _is_slip(label, found[0])), None)
        if count and other:
            pairs.append(f"{label[:40]} ({count}), {other[0][:40]} ({other[1]})")
        for key in keys:
            usual.setdefault(key, (label, count))
    return "; ".join(pairs[:3]) + ("; …" if len(pairs) > 3 else "")


def _letters(name: str) -> str:
    """Its letters and digits; the name itself where they are few: C++ is not C#, and 1.5 not 15."""
    found = "".join(sign for sign in name.casefold() if sign.isalnum())
    return found if len(found) > SHORT and not found.isdigit() else name


def _slips(name: str) -> Iterator[tuple[str, ...]]:
    """The name's words, and once for each letter in them those without it: two names that differ in one letter share one.

    A word's first letter stays: atypical is no slip of typical.
    """
    words = name[:200].casefold().split()
    for place, word in enumerate(words):
        for cut in range(1, len(word) + 1):
            yield (*words[:place], word[:cut] + word[cut + 1 :], *words[place + 1 :], str(place))


def _is_slip(label: str, usual: str) -> bool:
    """Whether one long word of it is nearly another one's, and all others are the same."""
    words, others = label.casefold().split(), usual.casefold().split()
    different = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
    if len(words) != len(others) or len(different) != 1 or not all(word.isalpha() for word in different[0]):
        return False
    return min(map(len, different[0])) > SHORT and SequenceMatcher(None, *different[0], autojunk=False).ratio() >= ALIKE
