"""Separated values of which a cell is more than a text, or a row less than a row: lists written into cells, and a word a row."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from engine.tables.encoding import TextFile
from engine.tables.source import Row, Source, Told, Wanted, in_batches
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_LOOK_AT = 500
"""Rows that tell what the cells of a column hold."""
_FAULTS = 0.05
"""Share of cells up to which they are faults in a column that holds something else, told with their rows; one may always be."""
_MAYBE = re.compile(r'(?:^|[,;\t|])"?\[|"\{""choices""', re.MULTILINE)
_BRACKETS = ("[]", "()", "{}")
_NUMPY = re.compile(r"""\[\s*(["'])(?:(?!\1)[^\\])*\1\s+["']""")
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_TURNS = ({"role", "content"}, {"from", "value"})
PLURALS = frozenset({"labels", "tags", "genres", "categories", "topics", "emotions", "classes"})
"""Names under which a value may well be several labels."""
_CHOSEN = re.compile(r'\{\s*"choices"\s*:')
"""How Label Studio writes several choices into a cell; a single one stands there as it is."""
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")
"""A number as most of the world writes it: `1.234,56`."""
THOUSANDS_COMMA = re.compile(r"[+-]?(0|[1-9]\d{0,2}(,\d{3})*)(\.\d+)?")
"""A number as English has it: `1,234.56`."""
MOSTLY_COMMAS = 0.8
"""Share of numbers with a comma from which on a comma is the decimal one; labels such as `3,27` stand beside single ones."""
_SENTENCES = ("sentence #", "sentence_id", "sentence id", "sentenceid", "sent_id", "sentence_idx", "sentence_number", "sentence")
OF_TAGGED = ("tokens", "tags")
WORDS = ("word", "words", "token", "tokens", "form")
TAGS = ("tag", "tags", "ner_tag", "ner_tags", "ner", "iob", "label", "labels")


def unfolded(source: Source, file: TextFile) -> Source:
    """The rows that are meant: with lists where cells spell them, and a row a sentence where there is a word a row.

    Lists are read where two columns hold as many items each (words and their tags), or where the items are objects (turns
    of a conversation). A single column of lists stays as it is: labels of a row are parted later, as the plan says.
    """
    by_name = {name.casefold().strip(): name for name in reversed(source.names)}
    parts = [next((by_name[n] for n in names if n in by_name), None) for names in (_SENTENCES, WORDS, TAGS)]
    head = file.head(64 << 10)
    maybe = _MAYBE.search(head) is not None or source.separator == "semicolon"
    if not maybe and None in parts:
        return source
    first = next(source.batches(), None)
    if first is None:
        return source
    if source.separator == "semicolon" and (numbers := _columns_with_commas(first)):
        source = source.through(partial(_with_points, numbers))
    chosen = tuple(n for n, values in first.columns.items() if any(map(_CHOSEN.match, values[:_LOOK_AT])))
    if chosen:
        source = source.through(partial(_with_choices, chosen))
    if None not in parts and _are_tags(first.columns[str(parts[2])][:_LOOK_AT]):
        read = partial(_by_sentence, source, [str(name) for name in parts])
        return replace(source, read=read, names=OF_TAGGED)
    names = tuple(name for name in _columns_of_lists(first) if name not in chosen)
    return source.through(partial(_with_lists, names)) if names else source


def _are_tags(values: Sequence[str]) -> bool:
    filled = [v for v in values if v.strip()]
    return bool(filled) and _nearly_all(sum(_TAG.fullmatch(v.strip()) is not None for v in filled), len(filled))


def _by_sentence(source: Source, names: list[str], told: Told, _: Wanted) -> Iterator[Table]:
    return in_batches(source.path, source.format, OF_TAGGED, _sentences(source, names, told))


def _sentences(source: Source, names: list[str], told: Told) -> Iterator[Row]:
    """A sentence begins where another number stands; a row without one belongs to the sentence before it."""
    words: list[str] = []
    tags: list[str] = []
    now = ""
    for table in source.read(told, None):
        for key, word, tag in zip(*(table.columns[name] for name in names), strict=True):
            if not word.strip():
                continue
            if words and key.strip() and key != now:
                yield (words, tags), 0
                words, tags = [], []
            if not words:
                now = key
            words.append(word.strip())
            tags.append(tag.strip())
    if words:
        yield (words, tags), 0


def _with_choices(names: Iterable[str], table: Table) -> Table:
    return replace(table, columns=table.columns | {name: [_choices_in(v) for v in table.columns[name]] for name in names})


def _choices_in(cell: str) -> list[Any]:
    if _CHOSEN.match(cell):
        with suppress(ValueError, RecursionError):
            found = json.loads(cell).get("choices")
            return found if isinstance(found, list) else [found]
    return [cell.strip()] if cell.strip() else []


def _columns_with_commas(table: Table) -> tuple[str, ...]:
    """Columns of numbers written `3,40`, as spreadsheets do where a semicolon parts cells; `3,27` under a name such as `labels`
    are two."""
    return tuple(name for name, values in table.columns.items() if name.casefold() not in PLURALS and _have_decimals(values))


def _have_decimals(values: Sequence[str]) -> bool:
    filled = [v.strip() for v in values[:_LOOK_AT] if v.strip()]
    decimals = [v for v in filled if _is_decimal(v)]
    if all(map(THOUSANDS_COMMA.fullmatch, decimals)):
        return False  # 1,234 beside 987: which comma it is is not to be guessed
    enough = len(decimals) >= MOSTLY_COMMAS * len(filled)
    return enough and _nearly_all(sum(DECIMAL_COMMA.fullmatch(v) is not None for v in filled), len(filled))


def _is_decimal(text: str) -> bool:
    return "," in text and DECIMAL_COMMA.fullmatch(text) is not None


def _with_points(names: Iterable[str], table: Table) -> Table:
    return replace(table, columns=table.columns | {name: [_with_point(v) for v in table.columns[name]] for name in names})


def _with_point(text: str) -> str:
    return text.replace(".", "").replace(",", ".") if _is_decimal(text.strip()) else text


def _columns_of_lists(table: Table) -> tuple[str, ...]:
    found: dict[str, list[list[Any] | None]] = {}
    for name, values in table.columns.items():
        lists = [list_in(v) for v in values[:_LOOK_AT]]
        filled = sum(bool(v.strip()) for v in values[:_LOOK_AT])
        if any(lists) and _nearly_all(sum(v is not None for v in lists), filled):
            found[name] = lists
    return tuple(
        name
        for name, lists in found.items()
        if _of_objects(lists) or any(_as_long(lists, others) for other, others in found.items() if other != name)
    )


def _of_objects(lists: Iterable[list[Any] | None]) -> bool:
    filled = [v for v in lists if v]
    return _nearly_all(sum(all(isinstance(item, dict) for item in v) for v in filled), len(filled))


def _as_long(some: Sequence[list[Any] | None], others: Sequence[list[Any] | None]) -> bool:
    """Whether both hold as many items, row by row."""
    lengths = [(len(a), len(b)) for a, b in zip(some, others, strict=True) if a is not None and b is not None]
    return _nearly_all(sum(a == b for a, b in lengths), len(lengths))


def _nearly_all(fit: int, every: int) -> bool:
    return 2 * fit > every and fit >= every - max(1, _FAULTS * every)


def list_in(text: str) -> list[Any] | None:
    """The list that a cell spells, as JSON or as Python prints it, a tuple or a set too; `None` where it spells none."""
    text = text.strip()
    if text[:1] + text[-1:] not in _BRACKETS:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = None if printed_by_numpy(text) else ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return list(found) if isinstance(found, list | tuple | set) else None


def printed_by_numpy(text: str) -> bool:
    """Whether it is a list of several texts as numpy prints them, without commas: Python would read neighbours as one text."""
    return _NUMPY.match(text) is not None


def _with_lists(names: Iterable[str], table: Table) -> Table:
    lists = {name: [_held(table, name, i, v) for i, v in enumerate(table.columns[name])] for name in names}
    return replace(table, columns=table.columns | lists)


def with_talks(source: Source, first: Mapping[str, Sequence[Any]]) -> Source:
    """Conversations as lists where texts spell them (`'[{"role": ...}]'`), as some sets of the hub have them; `first` holds the
    first values of columns."""
    names = tuple(name for name, values in first.items() if _are_talks(values))
    return source.through(partial(_with_lists, names)) if names else source


def _are_talks(values: Sequence[Any]) -> bool:
    lists = [list_in(v) for v in values if isinstance(v, str)]
    items = [item for found in lists for item in found or ()]
    turns = [item for item in items if isinstance(item, dict) and any(item.keys() >= who for who in _TURNS)]
    return bool(turns) and len(turns) == len(items) and _nearly_all(sum(map(bool, lists)), len(lists))


def _held(table: Table, name: str, row: int, cell: Any) -> list[Any] | None:
    if not isinstance(cell, str):
        return cell  # type: ignore[no-any-return]
    found = list_in(cell)
    if found is None and cell.strip():
        raise InputError(f"{table.where(row)}: column {one_line(name, 60)} does not hold a list, where other rows do.")
    return found
