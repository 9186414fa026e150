"""How large a model, or a card's memory, is by its name alone, where nothing else is known of it."""

import re

from recommender.cards import card_of
from recommender.facts import Device, ModelFacts

_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)(b|m)(?![a-z0-9]|-\d+E\b)", re.IGNORECASE)
"""`8B`, `1.5b`, `135M`, `8x7B` as a part of a name; not the `17B` that one token takes of a `17B-16E`."""
_LONGEST_CONTEXT = 16
"""Millions, up to which a number beside one of billions is that of tokens read: Qwen2.5-7B-Instruct-1M."""
_MIXED_SHARE = 0.83
"""Of 8 x 7B in Mixtral-8x7B (46.7B) and much the same in 8x22B (141B): the experts share their attention."""
_OFTEN_USED: tuple[tuple[str, int], ...] = (
    ("minilm-l6", 22_700_000),
    ("minilm-l12", 33_400_000),
    ("bert-tiny", 4_400_000),
    ("bert-mini", 11_200_000),
    ("bert-small", 28_800_000),
    ("bert-medium", 41_400_000),
    ("distilbert-base-multilingual", 134_700_000),
    ("distilbert", 66_400_000),
    ("distilroberta", 82_100_000),
    ("xlm-roberta-base", 278_000_000),
    ("xlm-roberta-large", 560_000_000),
    ("mdeberta-v3-base", 276_000_000),
    ("deberta-v3-small", 141_000_000),
    ("deberta-v3-large", 434_000_000),
    ("deberta-v3-base", 184_000_000),
    ("modernbert-large", 395_000_000),
    ("modernbert-base", 149_000_000),
    ("roberta-large", 355_000_000),
    ("bert-large", 335_000_000),
    ("electra-large", 335_000_000),
    ("bart-large", 406_000_000),
    ("bart-base", 139_000_000),
    ("byt5-small", 300_000_000),
    ("byt5-base", 582_000_000),
    ("byt5-large", 1_230_000_000),
    ("mt5-small", 300_000_000),
    ("mt5-base", 582_000_000),
    ("mt5-large", 1_230_000_000),
    ("mt5-xxl", 12_900_000_000),
    ("mt5-xl", 3_740_000_000),
    ("t5-small", 60_500_000),
    ("t5-base", 223_000_000),
    ("t5-large", 738_000_000),
    ("t5-xxl", 11_000_000_000),
    ("t5-xl", 2_850_000_000),
    ("gpt2-medium", 355_000_000),
    ("gpt2-large", 774_000_000),
    ("gpt2-xl", 1_560_000_000),
    ("distilgpt2", 82_000_000),
    ("gpt2", 124_000_000),
    ("phi-2", 2_780_000_000),
    ("phi-3-mini", 3_820_000_000),
    ("phi-3.5-mini", 3_820_000_000),
    ("phi-4-mini", 3_840_000_000),
    ("phi-4", 14_700_000_000),
    ("gemma-3n-e2b", 5_440_000_000),
    ("gemma-3n-e4b", 7_850_000_000),
    ("llama-4-scout", 109_000_000_000),
    ("llama-4-maverick", 400_000_000_000),
    ("deepseek-v3", 671_000_000_000),
    ("deepseek-r1", 671_000_000_000),
)
"""Parameters of much-used models whose names tell no size; the first part that a name contains counts."""


_STATED = re.compile(r"(\d{1,3}) ?G(?:i?B)\b|-(\d{1,3})[ABCQ](?:ME)?$", re.IGNORECASE)
"""`80GB` in `NVIDIA A100-SXM4-80GB`, and the part of a card that a virtual machine is given: `10C` in `GRID A100-10C`."""


def memory_in_name(device: Device) -> int | None:
    """Bytes of a card's memory as its name gives them, or as cards of that name have at least; `None` where it tells nothing."""
    name = device.name or ""
    if device.mig or re.search(r"\bMIG\b|laptop|\bG[HB]\d{3}\b", name, re.IGNORECASE):  # a GH200's 480GB are its processor's
        return None
    if (stated := _STATED.search(name)) is not None:
        return int(stated[1] or stated[2]) * 10**9
    card = card_of(name)
    return card.memory * 10**9 if card is not None and card.memory is not None else None


def size_in_name(model: ModelFacts) -> int | None:
    """Parameters as the model's name gives them, e.g. 8 billion of `Llama-3.1-8B`; `None` where it gives none, or several."""
    found = _sizes(model)
    if len(found) > 1:
        return None
    if not found:
        name = (model.id or "").lower()
        return next((size for part, size in _OFTEN_USED if part in name), None)
    times, number, unit = found.pop()
    size = round(float(number) * (10**9 if unit == "b" else 10**6) * (_MIXED_SHARE * int(times) if times else 1))
    return size if 10**6 <= size <= 2 * 10**12 else None


def experts_in_name(model: ModelFacts) -> int:
    """8 of `Mixtral-8x7B`; 1 where the name tells of no mixture."""
    return next((max(int(times), 1) for times, _, _ in _sizes(model) if times), 1)


def _sizes(model: ModelFacts) -> set[tuple[str, str, str]]:
    """How many experts (empty in a dense model), the number and its unit, lower case."""
    found = {(x, n, unit.lower()) for x, n, unit in _SIZE.findall((model.id or "").rsplit("/", 1)[-1])}
    large = {(x, n, unit) for x, n, unit in found if unit == "b" or float(n) > _LONGEST_CONTEXT}
    return large or found
