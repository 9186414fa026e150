"""What only rows behind the first ones show, of which the shape of a file is told: labelled rows that stand last, files sorted by
label, several labels a row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from engine.inspection.columns import LABEL_NAMES, LOOK_AT
from engine.inspection.counting import Counted, count
from engine.inspection.data_facts import LEARNED_FROM
from engine.inspection.detection import detect
from engine.inspection.layouts import Shape
from engine.inspection.several import separator_of
from engine.tables.read import first_rows
from engine.tables.source import Source, Told, Wanted, nobody
from engine.tables.table import Table
from recommender.errors import InputError
from recommender.facts import Task

LEAST_SHARE = 0.01
"""Of all rows that so late a column must hold something in; fewer are a slip."""
KEPT = 0.9
"""Of the rows that can be learned from as the first ones tell, what another shape must leave."""
LEARNED = frozenset({*LEARNED_FROM, "messages", "chosen"})
_MISSING: tuple[Any, ...] = (None, "", [], {})


def shaped_and_counted(
    source: Source, head: Table, named: dict[str, str], task: Task | None, told: Told
) -> tuple[Table, Shape, Counted]:
    """The rows that tell the shape, which are the first ones unless others show more, the shape, and all rows counted.

    Raises:
        InputError: nothing fits, or a row that is not of that shape.
    """
    later = Later(source, head)
    try:
        shape = detect(head, named, task)
    except InputError:
        more = later.read(told)
        if more is None:
            raise
        head, shape = more, detect(more, named, task)
        counted = count(source, shape, told)
    else:
        counted = count(later.watched(), shape, told)
        more = later.rows()
        another = shape if more is None else detect(more, named, task)
        known = replace(another, confidence=shape.confidence) == shape or later.displaces(shape, another)
        if more is not None and not known:
            again = count(source, another, told)
            if not later.tells(shape) or len(again) >= KEPT * len(counted):
                head, shape, counted = more, another, again
    parted = _parted(shape, counted) if task is None and head.rows < len(counted) else None
    return (head, shape, counted) if parted is None else (head, parted, count(source, parted, told))


def _parted(shape: Shape, counted: Counted) -> Shape | None:
    """The shape of several labels a value, where all rows show such that the first ones do not."""
    if shape.layout != "text_label" or "text_pair" in shape.columns:
        return None
    separator = separator_of(list(counted.marks.elements()), shape.columns["label"])
    return None if separator is None else Shape("multi_label", "text_labels", shape.columns, 0.85, separator)


@dataclass(slots=True)
class Later:
    """What a reading of all rows finds in columns in which `head`, the first of them, shows one value at most."""

    source: Source
    head: Table
    _quiet: dict[str, Any] = field(init=False)
    """Such columns, and their value."""
    _numbers: list[int] = field(default_factory=list)
    """The first rows that hold another one."""
    _found: int = 0
    _read: int = 0

    def __post_init__(self) -> None:
        columns = {name: values[:LOOK_AT] for name, values in self.head.columns.items()}
        every = {name: next(_filled(values), None) for name, values in columns.items()}
        self._quiet = {name: value for name, value in every.items() if all(v == value for v in _filled(columns[name]))}

    @property
    def _half(self) -> int:
        return min(self.head.rows, LOOK_AT) // 2

    @property
    def possible(self) -> bool:
        """Whether rows behind the first ones could show anything new."""
        return bool(self._quiet or not self.source.names)  # of json fields may be new

    def watched(self) -> Source:
        """The same rows, looked at by whoever reads them; each is to be read once."""
        return self._watching(self.source) if self.possible else self.source

    def _watching(self, source: Source) -> Source:
        picks = source.picks
        again = None if picks is None else lambda wanted: self._watching(picks(wanted | self._quiet.keys()))
        return replace(source, read=partial(self._reading, source), picks=again)

    def _reading(self, source: Source, told: Told, wanted: Wanted) -> Iterator[Table]:
        for table in source.read(told, wanted):
            new = [name for name in table.columns if name in self._quiet or name not in self.head.columns]
            rows = {i for name in new for i in _others(table.columns[name], self._quiet.get(name))}
            self._found += len(rows)
            self._read += table.rows
            self._numbers += [table.number(i) for i in sorted(rows)[: self._half - len(self._numbers)]]
            yield table

    def rows(self) -> Table | None:
        """Half as many of the first rows, and as many of those that say more; `None` where too few do."""
        if self._found < max(LEAST_SHARE * self._read, 1):
            return None
        wanted = {*range(1, self._half + 1), *self._numbers}
        found = first_rows(replace(self.source, read=partial(_only, self.source, wanted)), None)
        return replace(found, numbers=sorted(wanted))

    def tells(self, shape: Shape) -> bool:
        """Whether the first rows show what is learned, and that it varies."""
        learned = [name.partition(".")[0] for role, name in shape.columns.items() if role.partition(" ")[0] in LEARNED]
        return bool(learned) and self._quiet.keys().isdisjoint(learned)

    def displaces(self, shape: Shape, another: Shape) -> bool:
        """Whether the label that the first rows tell would give way to a column that says one thing in all of these: what parts a
        file was put together from (`split`, `source`) says so, unless it is called a label."""
        told, late = shape.columns.get("label"), another.columns.get("label")
        if told is None or late is None or told == late or told.partition(".")[0] in self._quiet:
            return False
        return late.rpartition(".")[2].lower() not in LABEL_NAMES

    def read(self, told: Told = nobody) -> Table | None:
        """`rows`, of a file that is read for nothing else."""
        for _ in self.watched().batches(told) if self.possible else ():
            pass
        return self.rows()


def _only(source: Source, wanted: set[int], told: Told, _: Wanted) -> Iterator[Table]:
    for table in source.read(told, wanted):  # some readers pass over the others, and some do not
        yield table.only(wanted)


def _filled(values: Iterable[Any]) -> Iterator[Any]:
    return (v for v in values if v not in _MISSING and v == v)  # noqa: PLR0124 - NaN is how data frames write what is missing


def _others(values: Iterable[Any], usual: Any) -> Iterator[int]:
    return (i for i, v in enumerate(values) if v != usual and v not in _MISSING and v == v)  # noqa: PLR0124
