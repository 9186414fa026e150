"""Rows of tokens and labels in flat arrays: 4 bytes a number, where Python's lists of its integers take 36."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, overload

PART = 256
"""Rows that share an array. One for all would be copied whenever it outgrows its place."""


class TokenRows(Sequence[list[int]]):
    """Rows of integers, each a list when it is asked for; rows can be added, and none changed."""

    def __init__(self, rows: Iterable[Iterable[int]] = ()) -> None:
        self._parts: list[tuple[array[int], array[int]]] = []
        """The numbers of `PART` rows, and where each row ends."""
        self._last: list[list[int]] = []
        """Rows that do not fill a part yet."""
        self.extend(rows)

    def append(self, row: Iterable[int]) -> None:
        """Add a row."""
        self._last.append(list(row))
        if len(self._last) == PART:
            numbers = [number for row in self._last for number in row]
            try:
                held = array("i", numbers)
            except OverflowError:  # ids that carry a type (`batches.TYPE`)
                held = array("q", numbers)
            self._parts.append((held, array("q", accumulate(map(len, self._last)))))
            self._last = []

    def extend(self, rows: Iterable[Iterable[int]]) -> None:
        """Add rows."""
        for row in rows:
            self.append(row)

    def take(self, indices: Iterable[int]) -> "TokenRows":
        """The rows at `indices`, in that order."""
        return TokenRows(self[i] for i in indices)

    def lengths(self) -> list[int]:
        """Of all rows."""
        found = [end - begin for _, ends in self._parts for begin, end in pairwise([0, *ends])]
        return [*found, *map(len, self._last)]

    def digest(self) -> str:
        """See `digest_of`."""
        found = hashlib.blake2b(digest_size=16)
        for part in self._parts:
            for numbers in part:
                found.update(numbers)
        for row in self._last:
            found.update(array("q", [len(row), *row]))
        return found.hexdigest()

    def __len__(self) -> int:
        return PART * len(self._parts) + len(self._last)

    @overload
    def __getitem__(self, at: int) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[int]]: ...
    def __getitem__(self, at: int | slice) -> list[int] | list[list[int]]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        part, place = divmod(range(len(self))[at], PART)
        if part == len(self._parts):
            return list(self._last[place])
        numbers, ends = self._parts[part]
        return numbers[ends[place - 1] if place else 0 : ends[place]].tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(list.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]


class Records(Sequence[dict[str, Any]]):
    """Rows of several fields, each a sequence over the rows; a row is a mapping when it is asked for."""

    def __init__(self, **fields: Sequence[Any]) -> None:
        self.fields = fields

    def take(self, indices: Sequence[int]) -> "Records":
        """The rows at `indices`, in that order."""
        return Records(**{name: taken(values, indices) for name, values in self.fields.items()})

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return {name: values[at] for name, values in self.fields.items()}


def taken(values: Sequence[Any], indices: Sequence[int]) -> Sequence[Any]:
    """The values at `indices`, held as `values` are."""
    return values.take(indices) if isinstance(values, TokenRows | Records) else [values[i] for i in indices]


def lengths_of(rows: Sequence[Sequence[Any]]) -> list[int]:
    """Of all rows, without making lists of those that are none."""
    return rows.lengths() if isinstance(rows, TokenRows) else list(map(len, rows))


def digest_of(rows: Sequence[Sequence[int]]) -> str:
    """The same for equal rows only, in hexadecimal digits."""
    return (rows if isinstance(rows, TokenRows) else TokenRows(rows)).digest()
