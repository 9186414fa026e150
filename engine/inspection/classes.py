"""Whether the labels of a whole file look like names of classes, or hold slips that would become classes of their own."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from engine.rows import key_of
from engine.tables.table import Place, Table
from engine.text import one_line
from recommender.errors import InputError

_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")
"""A whole number with a point, as data frames write a column in which something was missing."""
_MISSING = ("nan", "<na>", "null", "\\n", "#n/a")
"""What pandas, databases and spreadsheets write for what is missing; "none" and "n/a" may well be classes."""
_SPAN_TAG = re.compile(r"O|[A-Z]{1,2}-\S.*")
_BELOW_ZERO = re.compile(r"-[1-9][0-9]*")
_FAR_ABOVE = 50
"""How many times as many tags as the others show there would have to be: a sample does not show all, but most of them."""
_FEW_TAGS = 0.05
"""Share of words up to which tags of another form are slips."""
FEW_ROWS, FEW_LABELS, MANY_ROWS = 2, 2, 10
"""A number of so few rows, beside others of so many each that follow one another, is a slip or a mark of something missing."""


def usual_labels(counts: Counter[str]) -> tuple[str, ...]:
    """Each class once, as most rows write it: `Delivery`, `delivery` and `DELIVERY` are one, and so are 1 and 1.0. Letters, which
    may well differ by case alone, are all meant."""
    usual: dict[str, str] = {}
    for label in sorted(counts, key=lambda x: -counts[x]):
        usual.setdefault(_spelling(label), label)
    return tuple(usual.values())


def as_usual(labels: Sequence[str]) -> Callable[[str], str]:
    """What makes of a label the one of `labels` from which it differs in case or spaces alone; others stay as they are."""
    known, usual = set(labels), {_spelling(label): label for label in labels}
    return lambda label: label if label in known else usual.get(_spelling(label), label)


def _spelling(label: str) -> str:
    return label if len(label) == 1 else _WHOLE.sub(r"\1", key_of(label))


def check_classes(
    place: Place, column: str, counts: Counter[str], first: Mapping[str, int], *, numeric: bool, single: bool = True
) -> None:
    """The labels of a whole file look like names of classes; a part of it would show neither what is rare nor what is mixed.

    `counts` has the rows of each label, `first` its first row, which `place` tells; `numeric` says whether the file tells
    numbers from words (`holds_numbers`), `single` whether a row has one of them only.

    Raises:
        InputError: words among numbers or numbers among words, a slip among numbers, or a missing one written out; naming
            the first such row.
    """
    name = one_line(column, 60)
    missing = next((label for label in counts if label.casefold() in _MISSING), None)
    if missing is not None:
        raise InputError(
            f"{place(first[missing])}: column {name} holds {missing}, which programs write for missing values; leave such "
            "rows out, or give them a class."
        )
    words, numbers = ({x for x in counts if _is_number(x) is kind} for kind in (False, True))
    if words and numbers and (numeric or (single and _one_is_a_slip(counts, words))):
        rarer = sum(counts[x] for x in words) < sum(counts[x] for x in numbers)
        few, kind, others = (words, "a word", "numbers") if rarer else (numbers, "a number", "words")
        label = min(few, key=first.__getitem__)
        raise InputError(
            f"{place(first[label])}: column {name} holds {kind}, {one_line(label, 40)}, where other rows hold"
            f" {others}; write all labels alike."
        )
    slip = None if words or not single else _slip(counts)
    if slip is not None:
        label, lowest, highest = slip
        cure = "name the classes with words" if float(label).is_integer() else "use --task regression"
        raise InputError(
            f"{place(first[label])}: column {name} holds {one_line(label, 40)}, where the other labels are the whole numbers "
            f"{lowest:g} to {highest:g}; fix it or leave the row out. If it is meant, {cure}."
        )


def check_tags(place: Place, column: str, counts: Counter[str], first: Mapping[str, int]) -> None:
    """Where nearly all tags say where a span begins and goes on (`B-PER`, `I-PER`, `O`), all do; numbers are of no class below 0.

    `counts` has the words of each tag, `first` its first row, which `place` tells.

    Raises:
        InputError: one does not, and would be learned as a kind of its own; naming its first row.
    """
    below = [tag for tag in counts if _BELOW_ZERO.fullmatch(tag)]
    if below and all(map(_is_number, counts)):
        tag = min(below, key=first.__getitem__)
        raise InputError(
            f"{place(first[tag])}: column {one_line(column, 60)} holds the tag {one_line(tag, 40)}, and tags written as numbers "
            "count from 0; fix it or leave the row out."
        )
    others = sorted(map(float, counts))[:-1] if all(map(_is_number, counts)) else []
    if others and float(tag := max(counts, key=float)) > _FAR_ABOVE * (others[-1] + 1):
        raise InputError(
            f"{place(first[tag])}: column {one_line(column, 60)} holds the tag {one_line(tag, 40)}, where others count from "
            f"{others[0]:g} to {others[-1]:g}; fix it or leave the row out."
        )
    strange = [tag for tag in counts if _SPAN_TAG.fullmatch(tag) is None]
    spans = len(counts) - len(strange) > ("O" in counts)
    if spans and strange and sum(counts[tag] for tag in strange) < _FEW_TAGS * counts.total():
        tag = min(strange, key=first.__getitem__)
        raise InputError(
            f"{place(first[tag])}: column {one_line(column, 60)} holds the tag {one_line(tag, 40)}, where others are O or "
            "begin with B-, I- or the like; fix it or leave the row out."
        )


def _slip(counts: Counter[str]) -> tuple[str, float, float] | None:
    """A label that is hardly meant, and the range of the others: classes numbered through hold no -5, 50 or 0.5 in a row or two.

    Numbers with gaps, and numbers of more rows, may well be meant. The next number may be a rare class; -1 below 0 is what many
    write where nobody said the label.
    """
    usual = sorted(float(label) for label, n in counts.items() if n >= MANY_ROWS)
    through = len(usual) > 1 and usual == [usual[0] + i for i in range(len(usual))] and usual[0].is_integer()
    rare = {label: float(label) for label, n in counts.items() if n < MANY_ROWS}
    if not through or len(rare) > FEW_LABELS or any(counts[label] > FEW_ROWS for label in rare):
        return None
    for label, number in rare.items():
        if not (number.is_integer() and usual[0] - (usual[0] != 0) <= number <= usual[-1] + 1):
            return label, usual[0], usual[-1]
    return None


def _one_is_a_slip(counts: Counter[str], words: set[str]) -> bool:
    """Whether words stand among numbers, or numbers among words, in a row or two of a file that does not tell them apart."""
    few, others = sorted(([n for x, n in counts.items() if (x in words) is kind] for kind in (False, True)), key=sum)
    return len(few) <= FEW_LABELS and max(few) <= FEW_ROWS and min(others) >= MANY_ROWS


def holds_numbers(table: Table, name: str) -> bool:
    """Whether labels are written as numbers, which JSON and parquet tell from words; NaN is a missing one."""
    values = [v for value in table.values(name) for v in (value if isinstance(value, list) else [value])]
    return not {int, float}.isdisjoint(map(type, values)) and any(type(v) in (int, float) and v == v for v in values)  # noqa: PLR0124


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
