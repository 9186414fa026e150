"""What is told of torch's operations by what they are, found out once for each: a trace meets some 10,000 a second."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def once(find: Callable[[Any], T]) -> Callable[[Any], T]:
    """`find` of an operation, asked once for each. They are known by their ids, as torch computes their hashes in Python; and
    kept, so that no other one ever gets the id of one that is gone."""
    known: dict[int, tuple[Any, T]] = {}

    @wraps(find)
    def found(func: Any) -> T:
        pair = known.get(id(func))
        if pair is None:
            pair = known[id(func)] = (func, find(func))
        return pair[1]

    return found
