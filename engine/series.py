"""The curve of a run, a point a step, in plain arrays: a hundred thousand steps take 3 MB and are summed in C."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

Point = tuple[int, float]


class Series(Sequence[Point]):
    """(step, loss) in the order of the steps, and beside each the tokens and the seconds of work up to it.

    All four only grow along the run; a step that is done again replaces its first pass and all behind it.
    """

    __slots__ = ("cuts", "elapsed", "losses", "steps", "tokens")
    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(self) -> None:
        self.steps = array("d")
        self.losses = array("d")
        self.tokens = array("d")
        self.elapsed = array("d")
        self.cuts = 0
        """How often points were taken back: whoever keeps something of them must then look again."""

    def add(self, step: int, loss: float, tokens: float, elapsed: float) -> None:
        """A step that was done; those from it on are forgotten."""
        if self.steps and self.steps[-1] >= step:
            self.cut(step - 1)
        self.steps.append(step)
        self.losses.append(loss)
        self.tokens.append(tokens)
        self.elapsed.append(elapsed)

    def cut(self, step: int) -> None:
        """Forget what lies behind `step`."""
        kept = bisect_right(self.steps, step)
        if kept == len(self.steps):
            return
        self.cuts += 1
        for values in (self.steps, self.losses, self.tokens, self.elapsed):
            del values[kept:]

    def along(self, axis: str) -> "array[float]":
        """Where the points lie on that axis: `step`, `tokens` or `time`."""
        return {"step": self.steps, "tokens": self.tokens, "time": self.elapsed}[axis]

    def place(self, step: float, axis: str) -> float:
        """Where on that axis a step lies that may have no point of its own."""
        if axis == "step":
            return step
        at = bisect_right(self.steps, step) - 1
        return self.along(axis)[at] if at >= 0 else 0.0

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        if isinstance(index, slice):
            return [(int(s), x) for s, x in zip(self.steps[index], self.losses[index], strict=True)]
        return int(self.steps[index]), self.losses[index]

    def __iter__(self) -> Iterator[Point]:
        return ((int(step), loss) for step, loss in zip(self.steps, self.losses, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
