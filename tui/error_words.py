"""Sentences of the engine about what is wrong, in the reader's language.

The engine says them in English, in exceptions, and from other processes in answers and event logs. Here each is recognised by its
template and said by the catalogue's; one that is not listed, or has no translation, stays English.
"""

import re
import string
from functools import cache

from recommender.language import marked, said
from tui import sentences_data, sentences_input, sentences_machine, sentences_runs

SENTENCES: tuple[str, ...] = (
    *sentences_input.SENTENCES,
    *sentences_data.SENTENCES,
    *sentences_machine.SENTENCES,
    *sentences_runs.SENTENCES,
)
"""As the engine writes them, what varies in braces. Where one ends, another may follow."""
OF_LIBRARIES = (
    marked("{place}: {field} must be greater than or equal to {least} (it is {value})."),
    marked("{place}: {field} must be greater than {least} (it is {value})."),
    marked("{place}: {field} must be less than or equal to {most} (it is {value})."),
    marked("{place}: {field} must be less than {most} (it is {value})."),
    marked("{place}: {field} must be {known} (it is {value})."),
    marked("{place}: task {task} has no metric {metric}; it has {known}."),
    marked("{place}: trained: {part} belongs to method full."),
    marked("{place}: trained: last_layers and a number of last_layers go together."),
    marked("{place}: method {method} needs rank and alpha."),
    marked("{place}: method {method} needs {field}."),
    marked("{place}: {field} belongs to methods lora and qlora."),
    marked("{place}: adapter_dtype bf16 belongs to methods lora and qlora with precision bf16-mixed."),
    marked("{place}: pissa needs weights that are not in 4 bits: use method lora."),
    marked("{place}: pissa and dora exclude each other."),
    marked("{place}: pissa needs dropout: 0, because its adapters hold the main part of the weights."),
    marked("{place}: compile and kernels: liger exclude each other; with compile, set kernels: torch."),
    marked("{place}: folds and fold go together, and fold is counted from 0."),
    marked("{place}: folds and a held-out file exclude each other."),
    marked("{place}: {label} is named more than once."),
    marked("{place}: this plan is of version {version}; this Loracle reads up to {known}: update Loracle."),
    marked("{place}: must be all-linear or module names."),
    marked("{place}: is read as module names separated by commas (q_proj,v_proj), not as a pattern; name them."),
    marked("No such file or directory"),
    marked("Permission denied"),
    marked("Is a directory"),
    marked("No space left on device"),
    marked("Read-only file system"),
)
"""What the system, pydantic and the checks of a plan say within those sentences."""
_BETWEEN = re.compile(r"(?<=[.!?。]) (?=[A-Z`]|--)")
_LISTED = re.compile(r"(?<=') or (?=')")
"""Between the last two of the values that may be chosen from."""
Listed = list[tuple[str, str, bool]]
"""Templates, what they are in the language in use, and whether words of ours stand in the braces."""


def in_words(text: str) -> str:
    """What the engine said is wrong, or what a plan keeps of an advice, line by line in the language in use."""
    listed = [(template, words, False) for template in (*SENTENCES, *OF_LIBRARIES) if (words := said(template)) != template]
    if not listed:
        return text
    listed += _reasons()
    told = "\n".join(_whole(line, listed) for line in text.split("\n"))
    return _LISTED.sub(said(" or "), told)


def _reasons() -> Listed:
    """The recommender's sentences, whose numbers are written already."""
    from recommender.catalogue import SENTENCES as REASONS

    return [(template, re.sub(r"\{(\w+):\w+\}", r"{\1}", said(template)), True) for template in REASONS.values()]


def _whole(text: str, listed: Listed) -> str:
    """One sentence, or several in a row."""
    parts = _BETWEEN.split(text)
    found = [_one(part, listed) for part in parts]
    if None in found and (whole := _one(text, listed)) is not None:
        return whole
    told = ""
    for part, words in zip(parts, found, strict=True):
        space = "" if not told or told.endswith(("。", "？")) else " "
        told += space + (words or part)
    return told


def _one(text: str, listed: Listed) -> str | None:
    for template, words, ours in listed:
        pattern, longest = _pattern(template)
        found = pattern.fullmatch(text) if longest in text else None
        if found is not None:
            named = found.groupdict().items()
            names = {name for name, _value in named if ours or name in ("metric", "measure")}
            values = {name: said(value) if name in names else _whole(value, listed) for name, value in named}
            return words.format_map(values)
    return None


@cache
def _pattern(template: str) -> tuple[re.Pattern[str], str]:
    """What a sentence of that template looks like, and the longest part of it that does not vary."""
    pieces = [(literal, name) for literal, name, _form, _conversion in string.Formatter().parse(template)]
    pattern, seen = "", set[str]()
    for literal, name in pieces:
        pattern += re.escape(literal)
        if name is not None:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    return re.compile(pattern, re.DOTALL), max((literal for literal, _ in pieces), key=len)
