"""The passes of a second step do what those of the first one did: they are written down once more, not run once more.

That holds where all that a first pass made is gone when the second one begins, and nothing went that was there before it; what is
made once and kept, as workspaces are, is left out. Where it does not hold, the second step has to be run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import _disable_current_modes

from engine.worker.tracing.live import Live, Marks
from engine.worker.tracing.recorded import Place

FIRST = "first "
"""Begins the names of the first step's phases."""


class _Gradient(NamedTuple):
    """What a weight's gradient is after the passes."""

    weight: torch.nn.Parameter
    number: int
    """Of its storage."""
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype


class Again:
    """Of a loop that tells `live` what it does and trains these weights: its second step's passes, from those of the first."""

    def __init__(self, live: Marks, trained: list[torch.nn.Parameter]) -> None:
        self._live = live if isinstance(live, Live) and live.calls is None else None  # else each pass is run
        self._trained = trained
        self._gradients: list[_Gradient] | None = None
        self._once: list[tuple[Place, Place]] = []
        self._held: list[int] = []

    def kept(self, usual: Any) -> Callable[..., Any]:
        """A function that keeps what it has found: what it does to find that is done once."""

        def found(*given: Any) -> Any:
            begun, known = self._now(), usual.cache_info().misses
            out = usual(*given)
            if usual.cache_info().misses > known:
                self._once.append((begun, self._now()))
            return out

        return usual if self._live is None else found

    def passed(self) -> None:
        """Note what the first step's passes have left behind: its update comes next."""
        if self._live is None:
            return
        gradients = []
        for p in self._trained:
            if (g := p.grad) is None:
                continue
            if (number := self._live.number_of(g)) is None or g.is_sparse:
                return
            gradients.append(_Gradient(p, number, tuple(g.shape), tuple(g.stride()), g.storage_offset(), g.dtype))
        self._gradients = gradients

    def write(self) -> bool:
        """Write the second step's passes down, and leave gradients behind; whether they are as the first one's."""
        if self._live is None or self._gradients is None or any(p.grad is not None for p in self._trained):
            return False
        recorded = self._live.recorded
        phases = [name for name, _ in recorded.phases]
        begin, end = phases.index(f"{FIRST}forward"), phases.index(f"{FIRST}optimizer")
        once = [*self._once, *((self._begin(i), self._begin(i + 1)) for i in range(begin, end) if phases[i] == "workspace")]
        held = self._left((begin, end), once)
        if held is None:
            return False
        numbers: dict[int, int] = {}
        before = ""
        for i in range(begin, end):
            if phases[i] != "workspace":
                if before != "workspace":  # after which the phase before goes on
                    self._live.phase(phases[i].removeprefix(FIRST))
                numbers |= recorded.repeat(self._begin(i), self._begin(i + 1), once, numbers)
            before = phases[i]
        self._held = [numbers[n] for n in held]
        self._leave(numbers)
        return True

    def let_go(self) -> None:
        """What was held beside the gradients goes."""
        if self._live is not None:
            for number in self._held:
                self._live.recorded.go(number)
        self._held = []

    def _now(self) -> Place:
        assert self._live is not None
        return len(self._live.recorded.names), len(self._live.recorded.events)

    def _begin(self, phase: int) -> Place:
        assert self._live is not None
        return self._live.recorded.phases[phase][1], self._live.recorded.phase_events[phase]

    def _left(self, phases: tuple[int, int], once: list[tuple[Place, Place]]) -> list[int] | None:
        """The storages beside gradients that the passes left, in the order in which they went after these; `None` where one stays
        or goes before, or one of before the passes went in them."""
        assert self._live is not None
        assert self._gradients is not None
        recorded, made = self._live.recorded, set[int]()
        begin, end = (self._begin(i)[1] for i in phases)
        for place in range(begin, end):
            event = recorded.events[place]
            if event == 0 or recorded.stays(event - 1) or any(a[1] <= place < b[1] for a, b in once):
                continue
            if event > 0:
                made.add(event - 1)
            elif -event - 1 in made:
                made.remove(-event - 1)
            else:
                return None
        gradients = {g.number for g in self._gradients}
        gone = [-event - 1 for event in recorded.events[end:] if -event - 1 in made]
        first = len(gradients)
        if set(gone[:first]) != gradients or set(gone) != made:
            return None
        return gone[first:]

    def _leave(self, numbers: dict[int, int]) -> None:
        """Gradients like those of the first step."""
        assert self._live is not None
        storages: dict[int, torch.Tensor] = {}
        with _disable_current_modes():
            for g in self._gradients or ():
                if g.number not in storages:
                    size = self._live.recorded.sizes[g.number]
                    storages[g.number] = torch.empty(size, dtype=torch.uint8, device="meta")
                    self._live.stands_for(storages[g.number], numbers[g.number])
                empty = torch.empty(0, dtype=g.dtype, device="meta")
                g.weight.grad = empty.set_(storages[g.number].untyped_storage(), g.offset, g.size, g.stride)
