"""Columns that would be taken for something that they are not: told, not guessed at."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.inspection.columns import LABEL_NAMES, LOOK_AT, TEXT_NAMES, Column, is_called_id, listed
from engine.inspection.layouts import Shape
from engine.inspection.usual import NUMBERS
from engine.tables.cells import DECIMAL_COMMA, MOSTLY_COMMAS, PLURALS, THOUSANDS_COMMA, list_in
from engine.tables.table import Table, as_text
from engine.text import one_line
from recommender.errors import InputError

_ASKED = frozenset({"question", "query", "prompt", "context", "ctx"})
_SEVERAL_ANSWERS = ("answers", "choices", "options", "endings")
_SHORT = 40
"""Characters below which values are hardly texts, unless their column is called so."""
_SHORT_DENSE = 10
"""The same in scripts that put no space between words, where a post of 20 characters is a whole sentence."""
_LEAST_MEASURES = 3
_FLAGS = frozenset({"0", "1", "true", "false"})
_COUNTS = re.compile(r"(^|[\W_])(n|num|number|counts?|total|votes?|likes?|shares?|views?|replies|retweets?)([\W_]|$)", re.I)
"""Names of what is counted, which is often 0 or 1 too."""
_SIGNS = "$€£¥% \xa0"
_MEASURES = frozenset(NUMBERS) - frozenset(LABEL_NAMES)


def refuse_several_answers(table: Table, columns: list[Column]) -> None:
    """Questions with answers cut out of a text, or to choose from, look like labels and pairs and are neither.

    Raises:
        InputError: there are such.
    """
    by_name = {c.name.lower(): c for c in columns}
    found = next((by_name[n] for n in _SEVERAL_ANSWERS if n in by_name and by_name[n].kind != "value"), None)
    if found is not None and not _ASKED.isdisjoint(by_name):
        raise InputError(
            f"{table.path}: column {one_line(found.name, 60)} holds several answers to the question, which Loracle cannot "
            "read; write the right one as text into a column of its own and use --task instruction, or name other columns "
            "with --column."
        )


def with_commas(values: Sequence[Any]) -> list[str]:
    """The values as texts where all are numbers and some are written `3,4`, `1,234.5`, `$3` or `3 %`; else nothing."""
    texts = [t for t in (str(v).strip() for v in values if v is not None) if t]
    bare = [t.strip(_SIGNS) for t in texts]
    numbers = all(DECIMAL_COMMA.fullmatch(t) or THOUSANDS_COMMA.fullmatch(t) for t in bare)
    return texts if numbers and any(map(_is_dressed, texts)) else []


def decimal_commas(values: Sequence[Any]) -> list[str]:
    """The same where nearly all have a comma; labels such as `3,27` stand beside single ones."""
    texts = with_commas(values)
    return texts if sum("," in t for t in texts) >= MOSTLY_COMMAS * len(texts) else []


def _is_dressed(number: str) -> bool:
    """Whether a number has a comma, or a sign of a currency or a percentage."""
    return "," in number or number != number.strip(_SIGNS)


def refuse_decimal_commas(table: Table, columns: list[Column], label: str | None) -> None:
    """Measures written `3,4` or `$3`, which would be taken for labels: by their name, or the column that is to be the `label`.
    Under a name such as `labels` they are two.

    Raises:
        InputError: there are such.
    """
    for c in columns:
        measure = c.name.lower() in _MEASURES
        if (measure or (c.name == label and c.called not in PLURALS)) and c.kind == "value" and c.numeric < 0.5:
            texts = (with_commas if measure else decimal_commas)(table.values(c.name))
            if texts:
                one = next(filter(_is_dressed, texts))
                raise InputError(
                    f"{table.path}: column {one_line(c.name, 60)} holds numbers with a comma or a sign ({one_line(one, 20)});"
                    " write them like 1.5 or 1500."
                )


def refuse_vectors(table: Table, name: str) -> None:
    """Lists of 0 and 1, of one length, say of each label whether it is there; read as labels they would be two, 0 and 1. Also
    where a cell spells them, and where a row in ten is another.

    Raises:
        InputError: it holds such.
    """
    spelt = (list_in(value) if isinstance(value, str) else value for value in table.values(name)[:LOOK_AT])
    lists = [value for value in spelt if isinstance(value, list)]
    usual = Counter(map(len, lists)).most_common(1)
    flags = [value for value in lists if len(value) == usual[0][0] and all(v in (0, 1) for v in value)]
    twice = any(len(set(map(str, value))) < len(value) for value in flags)
    if twice and len(flags) >= 0.9 * len(lists):
        raise InputError(
            f"{table.path}: column {one_line(name, 60)} holds a list of 0 and 1, one for each label; write the names of the "
            "row's labels, or a column of 0 and 1 for each label."
        )


def refuse_nested_label(table: Table, columns: list[Column], shape: Shape) -> None:
    """What is called the label is that, and no other column, also where nothing here reads how it is written down.

    Raises:
        InputError: it is such.
    """
    label = next((c for c in columns if c.kind in ("turns", "object") and c.called in ("label", "labels")), None)
    used = {name.partition(".")[0] for name in shape.columns.values()}
    if label is not None and label.name not in used and shape.layout in ("text_label", "text_labels", "text_number", "text"):
        row = next(i for i, value in enumerate(table.values(label.name)) if value)
        where = f"{table.where(row)}: column {one_line(label.name, 60)}"
        way = " (--task continued_pretraining learns the text as it is)" if shape.layout == "text" else ""
        raise InputError(f"{where} holds a nested value; one label per row is needed{way}.")


def refuse_flags(table: Table, columns: list[Column], text: str, flags: Sequence[str]) -> None:
    """Columns of 0 and 1 are labels of a text where little else stands beside it. In a table of many things they say what kind
    of row it is, and which is to be told is not to be guessed.

    Raises:
        InputError: it is such a table, or a column that is nearly one of them holds something else.
    """
    others = [c for c in columns if c.kind == "value" and c.rows and c.name not in (text, *flags) and not is_called_id(c)]
    if len(flags) >= 3 and len(others) > len(flags):
        named = ", ".join(one_line(name, 40) for name in flags[:5])
        raise InputError(
            f"{table.path}: columns {named} hold 0 or 1 each; name the one to predict with --label-column, or use --task "
            "multi_label if all are labels of one text."
        )
    nearly = [c for c in others if c.distinct <= 5 and _COUNTS.search(c.name) is None]
    for c in nearly if len(others) <= len(flags) and len(flags) >= 2 else ():
        values = [as_text(v).strip().lower() for v in table.values(c.name)[:LOOK_AT]]
        strange = [i for i, v in enumerate(values) if v and v not in _FLAGS]
        if 0 < len(strange) < 0.05 * c.rows and {"0", "1"} <= set(values):
            raise InputError(
                f"{table.where(strange[0])}: column {one_line(c.name, 60)} holds {one_line(values[strange[0]], 40)}, where "
                "other rows hold 0 or 1; fix it or leave the row out. If it is not the label, use --task multi_label, or "
                "name the label with --label-column."
            )


def refuse_measurements(table: Table, columns: list[Column], text: str, label: str | None) -> None:
    """A table of measurements, of which one would be read as if it were a text. Names of products with numbers beside them are
    texts all the same where the `label` is words and called so (category, intent), or few numbers stand beside them.

    Raises:
        InputError: it is one.
    """
    chosen = next((c for c in columns if c.name == text), None)
    if chosen is None or any(name in chosen.called for name in TEXT_NAMES):
        return
    told = next((c for c in columns if c.name == label), None)
    others = [c for c in columns if c is not chosen and c.kind == "value"]
    measured = sum(c.numeric > 0.9 and c.called not in LABEL_NAMES for c in others)
    words = told is not None and told.numeric < 0.5
    few = words and told is not None and told.few and chosen.spaced > 0.5 and measured <= _LEAST_MEASURES
    if chosen.prose and told is not None and words and (told.called in LABEL_NAMES or few):
        return
    in_ascii = all(str(value).isascii() for value in table.values(text)[:200])
    short = _SHORT if in_ascii or chosen.spaced > 0.5 else _SHORT_DENSE
    few_words = chosen.mean_characters < short and measured >= _LEAST_MEASURES and 2 * measured >= len(others)
    # Codes and names out of a list; scripts without spaces look like that too.
    codes = not chosen.prose and chosen.spaced < 0.02 and len(others) >= _LEAST_MEASURES and in_ascii
    if chosen.numeric > 0.9 or few_words or codes:
        raise InputError(
            f"{table.path}: its columns ({listed(table)}) look like measurements and short values, not like texts to learn "
            "from; such a table is work for gradient boosting (scikit-learn, XGBoost). If one column is text, name it with "
            "--text-column, and the label with --label-column."
        )
