"""Which column is the text and which the label, told from names and contents."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

TEXT_NAMES = frozenset(
    "text sentence review content message body comment tweet document description question utterance".split()  # noqa: SIM905
)
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "tag", "y", "stars", "rating")
MOST_CLASSES = 1_000
LOOK_AT = 20_000
"""Rows looked at to tell columns apart."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column looks like."""

    name: str
    filled: float
    distinct: int
    mean_characters: float
    spaced: float
    """Share of values with a space inside: prose has them, labels rarely do."""
    rows: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The chosen pair, and how sure that is."""

    text: str
    label: str
    confidence: float
    others: tuple[str, ...]


def describe(table: Table) -> list[Column]:
    """Every column, from the first `LOOK_AT` rows."""
    found = []
    for name, values in table.columns.items():
        shown = ["" if v is None else str(v) for v in values[:LOOK_AT]]
        filled = [v for v in shown if v.strip()]
        n = max(len(filled), 1)
        found.append(
            Column(
                name=name,
                filled=len(filled) / max(len(shown), 1),
                distinct=len(set(filled)),
                mean_characters=sum(map(len, filled)) / n,
                spaced=sum(" " in v.strip() for v in filled) / n,
                rows=len(filled),
            )
        )
    return found


def choose(table: Table, text_column: str | None, label_column: str | None) -> Columns:
    """The text and the label column; what the person named is taken as it is.

    Raises:
        InputError: nothing fits, or a named column does not exist.
    """
    columns = describe(table)
    names = [c.name for c in columns]
    listed = ", ".join(one_line(n, 40) for n in names[:8])
    for flag, wanted in (("--text-column", text_column), ("--label-column", label_column)):
        if wanted is not None and wanted not in names:
            raise InputError(f"{table.path}: has no column {one_line(wanted, 60)} ({flag}); its columns are {listed}.")
    if len(columns) < 2:
        raise InputError(f"{table.path}: has one column only ({listed}); a text column and a label column are needed.")
    text = text_column or _best(columns, _text_score, exclude=label_column)
    label = label_column or _best(columns, _label_score, exclude=text)
    if text is None or label is None or text == label:
        missing = "text" if text is None else "label"
        raise InputError(f"{table.path}: no column looks like a {missing} among {listed}; name it with --{missing}-column.")
    chosen = next(c for c in columns if c.name == label)
    refuse_free_form(table, chosen, named=label_column is not None)
    sure = _label_score(chosen) >= 2 or (text_column is not None and label_column is not None)
    return Columns(text, label, 0.95 if sure else 0.7, tuple(n for n in names if n not in (text, label)))


def refuse_free_form(table: Table, column: Column, *, named: bool) -> None:
    """Say so when a label column holds prose, ids or measurements; long labels are believed when the person named them.

    Raises:
        InputError: it does.
    """
    many = column.distinct > max(50, 0.5 * column.rows) or column.distinct > MOST_CLASSES
    hardly_twice = column.rows >= 10 and column.distinct > 0.8 * column.rows
    prose = column.spaced > 0.5 and column.mean_characters > 60 and not named
    if many or hardly_twice or prose:
        raise InputError(
            f"{table.path}: column {one_line(column.name, 60)} has {column.distinct} different values in {column.rows} rows:"
            f" that looks free-form, not like labels; name {'another' if named else 'the right'} one with --label-column."
        )


def _best(columns: list[Column], score: Callable[[Column], float], exclude: str | None) -> str | None:
    ranked = sorted((c for c in columns if c.name != exclude), key=score, reverse=True)
    return ranked[0].name if ranked and score(ranked[0]) > 0 else None


def _text_score(c: Column) -> float:
    if not c.rows:
        return 0.0
    named = 2.0 if c.name.lower() in TEXT_NAMES else 0.5 if any(t in c.name.lower() for t in TEXT_NAMES) else 0.0
    prose = min(c.mean_characters / 40, 2.0) * (0.3 + c.spaced)
    repeats = 1.0 if c.distinct > 0.5 * c.rows else 0.1
    return (named + prose) * repeats * c.filled


def _label_score(c: Column) -> float:
    if not c.rows:
        return 0.0
    named = 2.0 if c.name.lower() in LABEL_NAMES else 0.5 if any(t in c.name.lower() for t in LABEL_NAMES[:8]) else 0.0
    few = 1.0 if c.distinct <= max(20, 0.05 * c.rows) else 0.2 if c.distinct <= 0.5 * c.rows else 0.05
    short = 1.0 if c.mean_characters <= 30 else 0.2
    return (named + few * short) * c.filled


