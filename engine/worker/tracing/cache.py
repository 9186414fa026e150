"""What of a step's memory traffic stays in the card's cache: what was touched a moment ago is read there, and what goes before
the cache needs its place is never written to memory."""

from collections.abc import Iterable

import torch


class Cache:
    """The last bytes that were touched, as many as it holds."""

    def __init__(self, size: int, near: list[int]) -> None:
        """`near` is told the bytes of each operation that stay here."""
        self.size, self._near = size, near
        self._clock = 0
        """Bytes touched so far."""
        self._touched: dict[int, int] = {}
        """By storage: the clock after it was."""
        self._written: dict[int, tuple[int, int, int]] = {}
        """By storage: by which operation, how many bytes, and the clock after that."""

    def note(
        self, position: int, read: Iterable[tuple[int | None, torch.Tensor]], written: Iterable[tuple[int | None, int]]
    ) -> None:
        """An operation reads tensors and writes storages."""
        near = 0
        for number, tensor in read:
            once = min(tensor.nbytes, tensor.untyped_storage().nbytes())
            near += tensor.nbytes - once  # the same bytes for every row that it is expanded to
            if number is None:
                continue
            if number in self._touched and self._clock - self._touched[number] + once <= self.size:
                near += once
            self._clock += once
            self._touched[number] = self._clock
        self._near[position] += near
        for number, size in written:
            if number is None:
                continue
            self.gone(number)  # what was written there before is overwritten
            self._clock += size
            self._touched[number] = self._clock
            self._written[number] = (position, size, self._clock)

    def gone(self, number: int) -> None:
        """A storage's contents are needed no longer."""
        position, size, clock = self._written.pop(number, (0, 0, 0))
        if size and self._clock - clock + size <= self.size:
            self._near[position] += size
