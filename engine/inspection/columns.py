"""What columns look like, and which is the text and which the label: told from names and contents."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

TEXT_NAMES = frozenset(
    "text sentence review content message body comment tweet document description question utterance".split()  # noqa: SIM905
)
_ELSEWHERE = "kategorie klasse categorie catégorie categoria categoría classe clase etiqueta 标签 类别 分类 情感 情绪"
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "tag", "y", "stars", "rating"),
    *_ELSEWHERE.split(),
)
MOST_CLASSES = 1_000
LEAST_OF_A_LABEL = 5
"""How often each of very many labels must stand on average; keywords that anybody may write down mostly stand once."""
LOOK_AT = 20_000
"""Rows looked at to tell columns apart."""
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false", "True", "False"})

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
    r"([T ]+\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?( ?[AaPp][Mm])?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?"
)

_ID_NAMES = re.compile(r"(^|[_ -])(id|idx|index|uuid|guid|key|hash|unnamed: 0|rowid)$", re.IGNORECASE)

Kind = Literal["value", "list", "turns", "object"]
"""Text or number; a list of those; a list of objects; an object."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column looks like; of lists, `distinct` and what follows describe their items."""

    name: str
    kind: Kind
    filled: float
    distinct: int
    mean_characters: float
    spaced: float
    """Share of values with a space inside: prose has them, labels rarely do."""
    rows: int
    """Values that are not empty."""
    numeric: float = 0.0
    """Share of values that are numbers, or read as such."""
    fractions: float = 0.0
    """Share of values that are numbers with a fraction."""
    flags: bool = False
    """Nothing but 0 and 1, or true and false, and both of them."""
    dates: bool = False
    """Nothing but dates, times of a day, or moments counted in seconds or thousandths since 1970."""
    keys: frozenset[str] = frozenset()
    """Fields that most objects have: a message that only calls a tool need not have a text."""

    @property
    def called(self) -> str:
        """What its name says, of a field of an object the field's own."""
        return self.name.rpartition(".")[2].lower()

    @property
    def prose(self) -> bool:
        """Text that somebody has written, not a name out of a list."""
        if self.kind != "value" or not self.rows or self.numeric > 0.5 or self.dates:
            return False
        return self.mean_characters > 60 or (self.distinct > 0.5 * self.rows and (self.spaced > 0.3 or self.mean_characters > 20))

    @property
    def few(self) -> bool:
        """Few short values that repeat, as labels do."""
        return self.kind == "value" and 0 < self.distinct <= max(20, 0.05 * self.rows) and self.mean_characters <= 60


def describe(table: Table) -> list[Column]:
    """Every column, from the first `LOOK_AT` rows; behind them what lies inside columns of objects (`ticket.body`)."""
    columns = [_described(name, values[:LOOK_AT]) for name, values in table.columns.items()]
    names = [f"{c.name}.{key}" for c in columns if c.kind == "object" for key in sorted(c.keys)]
    inner = [_described(name, table.values(name)[:LOOK_AT]) for name in names]
    return columns + [c for c in inner if c.kind == "value" and c.rows]


def _described(name: str, values: Sequence[Any]) -> Column:
    present = [v for v in values if v is not None]
    kind = _kind(present)
    filled = sum(bool(v) for v in present) / max(len(values), 1)
    if kind in ("turns", "object"):
        objects = [o for v in present for o in (v if isinstance(v, list) else [v]) if isinstance(o, dict)]
        some = objects[:1_000]
        # A message that calls a tool says so what it has to say.
        spoken = (o.keys() | ({"content"} if {"tool_calls", "function_call"} & o.keys() else set()) for o in some)
        keys = frozenset(key for key, n in Counter(str(k) for names in spoken for k in names).items() if 2 * n > len(some))
        return Column(name, kind, filled, len(objects), 0.0, 0.0, len(present), keys=keys)
    items = [i for v in present for i in (v if isinstance(v, list) else [v])] if kind == "list" else present
    shown = [t for t in ("" if i is None else str(i) for i in items) if t.strip()]
    n = max(len(shown), 1)
    distinct = set(shown)
    looked_at = shown[:LOOK_AT]  # of lists the first items
    numbers = [x for x in map(_number, looked_at) if x is not None]
    return Column(
        name=name,
        kind=kind,
        filled=filled if kind == "list" else len(shown) / max(len(values), 1),
        distinct=len(distinct),
        mean_characters=sum(map(len, shown)) / n,
        spaced=sum(" " in v.strip() for v in shown) / n,
        rows=len(present) if kind == "list" else len(shown),
        numeric=len(numbers) / max(len(looked_at), 1),
        fractions=sum(not x.is_integer() for x in numbers) / max(len(looked_at), 1),
        flags=len(distinct) > 1 and distinct <= _FLAGS,
        dates=bool(shown) and (all(_DATE.fullmatch(t.strip()) for t in shown[:200]) or _are_moments(numbers, len(looked_at))),
    )


def _kind(values: Sequence[Any]) -> Kind:
    """What most of the first values are: a few others are faults, told with their rows."""
    kinds = Counter(_kind_of(v) for v in islice((v for v in values if v not in ([], {}, "")), 100))
    return kinds.most_common(1)[0][0] if kinds else "value"


def _kind_of(value: Any) -> Kind:
    if isinstance(value, list):
        return "turns" if isinstance(value[0], dict) else "list"
    return "object" if isinstance(value, dict) else "value"


def _are_moments(numbers: Sequence[float], values: int) -> bool:
    """Whether all are of the years 2001 to 2036, in Unix time."""
    every = len(numbers) == values and values > 1
    return every and any(all(unit * 1e9 <= x < unit * 2.1e9 for x in numbers) for unit in (1, 1_000))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None  # neither nan nor inf


def check_names(table: Table, named: dict[str, str]) -> None:
    """Every column that a person named, by flag or role, exists.

    Raises:
        InputError: one does not.
    """
    for role, wanted in named.items():
        if not table.holds(wanted):
            flag = f"--{role}-column" if role in ("text", "label") else f"--column {role}=…"
            raise InputError(f"{table.path}: has no column {one_line(wanted, 60)} ({flag}); its columns are {listed(table)}.")


def listed(table: Table) -> str:
    """The first columns' names, for messages."""
    return ", ".join(one_line(n, 40) for n in list(table.columns)[:8])


def choose(table: Table, columns: list[Column], text_column: str | None, label_column: str | None) -> tuple[str, str, float]:
    """The text column, the label column, and how sure that is; what the person named is taken as it is.

    Raises:
        InputError: nothing fits.
    """
    if len(columns) < 2:
        raise InputError(
            f"{table.path}: has one column only ({listed(table)}); a text column and a label column are needed"
            " (--task continued_pretraining learns the text as it is)."
        )
    if text_column is not None and text_column == label_column:
        both = one_line(text_column, 60)
        raise InputError(f"{table.path}: column {both} cannot be text and label at once; choose two of {listed(table)}.")
    text = text_column or best(columns, text_score, exclude=label_column)
    label = label_column or best(columns, label_score, exclude=text)
    if text is None or label is None or text == label:
        missing = "text" if text is None else "label"
        usual = TEXT_NAMES if text is None else LABEL_NAMES
        flat = any(c.kind == "value" and c.rows for c in columns)
        nested = next((c.name for c in columns if c.kind != "value" and (c.name.lower() in usual or not flat)), None)
        if nested is not None:
            where = f"{table.where(0)}: column {one_line(nested, 60)}"
            raise InputError(f"{where} holds a nested value; one {missing} per row is needed.")
        names = listed(table)
        hollow = ", ".join(one_line(c.name, 40) for c in columns if not c.rows)
        names += f" ({hollow}: empty in all rows)" if hollow else ""
        raise InputError(f"{table.path}: no column looks like a {missing} among {names}; name it with --{missing}-column.")
    if text_column is not None and label_column is not None:
        return text, label, 1.0
    sure = label_score(next(c for c in columns if c.name == label)) >= 2
    return text, label, 0.95 if sure else 0.7


def refuse_free_form(table: Table, column: Column, *, named: bool) -> None:
    """Say so when a label column holds prose, ids or measurements; long labels are believed when the person named them.

    Raises:
        InputError: it does.
    """
    many = column.distinct > max(50, 0.5 * column.rows) or column.distinct > MOST_CLASSES
    hardly_twice = column.rows >= 10 and column.distinct > 0.8 * column.rows
    prose = column.spaced > 0.5 and column.mean_characters > 60 and not named
    if column.distinct > MOST_CLASSES and not prose and column.rows >= LEAST_OF_A_LABEL * column.distinct:
        raise too_many_classes(table.path, column.name)
    if many or hardly_twice or prose:
        cure = f"name {'another' if named else 'the right'} one with --label-column"
        if column.prose and not named:
            cure += ", or, if it is an answer to be generated, name the columns with --column prompt=… and --column completion=…"
        raise InputError(
            f"{table.path}: column {one_line(column.name, 60)} has {column.distinct} distinct values in {column.rows} rows: "
            f"that looks like free text, not labels; {cure}."
        )


def too_many_classes(path: str | Path, name: str) -> InputError:
    """Of a column that does hold labels."""
    return InputError(
        f"{path}: column {one_line(name, 60)} has more than {MOST_CLASSES:,} distinct values, and at most {MOST_CLASSES:,} "
        "classes are learned: join the rare ones into one, name another column with --label-column, or have a decoder write "
        "them as answers (--column prompt=… --column completion=…)."
    )


def best(columns: list[Column], score: Callable[[Column], float], exclude: str | None = None) -> str | None:
    """The name of the column that scores highest, if any scores at all."""
    ranked = sorted((c for c in columns if c.name != exclude), key=score, reverse=True)
    return ranked[0].name if ranked and score(ranked[0]) > 0 else None


def is_called_id(c: Column) -> bool:
    """Whether its name says that it tells rows apart."""
    return _ID_NAMES.search(c.name) is not None


def text_score(c: Column) -> float:
    """How much a column looks like the text that is read."""
    if not c.rows or c.kind != "value" or c.dates:
        return 0.0
    named = 2.0 if c.called in TEXT_NAMES else 0.5 if any(t in c.called for t in TEXT_NAMES) else 0.0
    prose = min(c.mean_characters / 40, 2.0) * (0.3 + c.spaced)
    repeats = 1.0 if c.distinct > 0.5 * c.rows else 0.1
    return (named + prose) * repeats * c.filled


def label_score(c: Column) -> float:
    """How much a column looks like the label that is to be told."""
    if not c.rows or c.kind != "value" or c.dates:
        return 0.0
    named = 2.0 if c.called in LABEL_NAMES else 0.5 if any(t in c.called for t in LABEL_NAMES[:8]) else 0.0
    few = 1.0 if c.distinct <= max(20, 0.05 * c.rows) else 0.2 if c.distinct <= 0.5 * c.rows else 0.05
    short = 1.0 if c.mean_characters <= 30 else 0.2
    varied = 0.1 if c.distinct == 1 and c.rows > 1 and not named else 1.0
    return (named + few * short) * c.filled * varied


def usual_column(columns: list[Column], names: Iterable[str], given: dict[str, str] | None = None, role: str = "") -> str | None:
    """The column that the person gave the role, else the one with the most usual name."""
    if given and role in given:
        return given[role]
    by_name = {c.name.lower().strip(): c.name for c in reversed(columns)}
    return next((by_name[n] for n in names if n in by_name), None)
