"""How long a traced step takes on this very CPU: its operations, each kind run here, as often as the step runs it.

Timed is the processor time of the thread that starts them: it has its share of every product and all of what runs on one core,
and a machine that others use adds little to it, where the clock says several times as much.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import torch
from torch.utils import _pytree as pytree

from engine.worker.tracing.work import STEP

MOST = 3 * 10**8
"""Bytes of the tensors that an operation is tried with; of more the time is told by the bytes."""
PART = MOST // 4
"""Of the tensors of an optimizer, so many are tried."""
BANDWIDTH = 5e9
"""Bytes a second that an operation too large to be tried is taken to work through."""
ENOUGH = 0.001
"""Seconds spent on a kind of operation after its first call, which warms up."""
PATIENCE = 20
"""Calls in a row that were no faster than the fastest one, after which there are no more: half of the kinds are done in
microseconds, and a step has a thousand."""
LARGE = 0.05
"""Seconds of a first call from which on warming up is little beside it, and it counts."""
TURN = 100
"""Times that something short is done while the clock is looked at once."""
STARTS = 0.3
"""Of the forward and backward pass of a tiny linear layer, what Python and autograd need for one operation of a step, beside the
operation itself. Fitted to 22 steps of MiniLM and SmolLM2 on an idle machine, of which half were within 7% by the clock
(benchmarks/prediction/times.py)."""

QUIET = 0.1
"""Of a core, what the processes of the same parent may compute while something is timed."""
LOOK = 0.2
"""Seconds that this is looked at for."""
WAIT = 5.0
"""Seconds that are waited for it at most: a worker's imports take about as long."""
YOUNG = 30.0
"""Seconds after which a process imports no more: what computes then is a run, for which waiting would be in vain."""


def wait_for_quiet(wait: float = WAIT) -> None:
    """Until no other child of this process's parent imports. A worker that did so beside what is timed made operations seem to
    take 1.75 times as long on two threads of one core."""
    until = time.monotonic() + wait
    before = computed_beside()
    while before is not None and time.monotonic() < until:
        time.sleep(LOOK)
        now = computed_beside()
        if now is None or now - before < QUIET * LOOK:
            return
        before = now


def computed_beside(parent: psutil.Process | None = None) -> float | None:
    """Seconds of processor time of all other children of this process's parent that have just begun; `None` where they cannot be
    seen."""
    total = 0.0
    try:
        parent = parent or psutil.Process().parent()
        siblings = parent.children() if parent is not None else []
    except psutil.Error:
        return None
    for process in siblings:
        if process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):  # it has ended
                times = process.cpu_times()
                total += times.user + times.system if time.time() - process.create_time() < YOUNG else 0.0
    return total


class Calls:
    """What a step called, by phase: kinds of calls are told apart by operation, shapes, strides and types."""

    def __init__(self) -> None:
        self.kinds: dict[Any, tuple[Any, Any, Any]] = {}
        self.counts: dict[str, Counter[Any]] = {}

    def note(self, phase: str, func: Any, args: Any, kwargs: Any) -> None:
        """One more call, of tensors without contents."""
        # A view computes nothing: any tells how long all of its operation take. Names take long: an operation goes by its id.
        key = id(func) if func.is_view else (id(func), _described(args), *((n, _described(x)) for n, x in kwargs.items()))
        if key not in self.kinds:
            leaves, spec = pytree.tree_flatten((args, kwargs))
            outlines = [Outline(x) if isinstance(x, torch.Tensor) else x for x in leaves]
            self.kinds[key] = (func, outlines, spec)
        self.counts.setdefault(phase, Counter())[key] += 1

    def starts(self) -> dict[str, float]:
        """How many operations the host starts, by phase of the second step and of the evaluation."""
        return {p: float(counts.total()) for p, counts in self.counts.items() if p in (*STEP, "evaluation")}

    def seconds(self, known: dict[Any, float] | None = None, *, within: float = float("inf")) -> dict[str, float] | None:
        """Seconds of the thread, by phase of the second step and of the evaluation.

        `known` keeps what was tried, for another depth of the same model. `None` where it takes more than `within`.
        """
        known = {} if known is None else known
        until = time.thread_time() + within
        phases = {phase: counts for phase, counts in self.counts.items() if phase in (*STEP, "evaluation")}
        new = list(dict.fromkeys(key for counts in phases.values() for key in counts if key not in known))
        for key in new:
            if time.thread_time() > until:
                return None
            known[key] = _tried(*self.kinds[key])
        for key in new:  # once more, some time later: another machine on the same cores disturbs for a second or so
            if time.thread_time() > until:
                break
            known[key] = min(known[key], _tried(*self.kinds[key]))
        return {phase: sum(n * known[key] for key, n in counts.items()) for phase, counts in phases.items()}


class Outline:
    """A tensor's shape, strides and type."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.size, self.stride, self.dtype = tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
        self.bytes = tensor.numel() * tensor.element_size()

    def made(self) -> torch.Tensor:
        """With contents that harm no operation: ones, and places that exist."""
        value: Any = True if self.dtype == torch.bool else 0.5 if self.dtype.is_floating_point else 0
        places = 1 + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True)) if 0 not in self.size else 0
        return torch.full((places,), value, dtype=self.dtype).as_strided(self.size, self.stride)


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return type(value), *map(_described, value)
    return value if isinstance(value, bool | int | str | torch.dtype) else type(value)


def _tried(func: Any, outlines: list[Any], spec: Any) -> float:
    """Seconds of one call; 0 where it cannot be called alone."""
    sizes = [o.bytes for o in outlines if isinstance(o, Outline)]
    if sum(sizes) > MOST:
        return _listed(func, outlines, spec, sum(sizes))
    leaves = [o.made() if isinstance(o, Outline) else _here(o) for o in outlines]
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    if func is torch.ops.aten._grouped_mm.default and len(args) > 2:  # groups of the same size: by zeros all would be empty
        rows = args[0].shape[-1] if args[0].dim() == args[1].dim() else args[0].shape[-2]
        args = (*args[:2], torch.linspace(0, rows, len(args[2]) + 1)[1:].int(), *args[3:])
    try:
        with torch.no_grad():
            return _least(partial(func, *args, **kwargs))
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return 0.0


def _listed(func: Any, outlines: list[Any], spec: Any, whole: int) -> float:
    """Of an operation on lists of tensors, an optimizer's: the time of the first few, and of all by their bytes."""
    args, kwargs = pytree.tree_unflatten(list(range(len(outlines))), spec)
    lists = [a for a in (*args, *kwargs.values()) if isinstance(a, list) and len(a) > 1]
    if not lists:
        return whole / BANDWIDTH
    chosen: list[int] = []
    taken = 0
    for i in range(len(lists[0])):
        size = sum(outlines[a[i]].bytes for a in lists if i < len(a) and isinstance(outlines[a[i]], Outline))
        if taken + size <= PART:
            chosen, taken = [*chosen, i], taken + size
    if not chosen:
        return whole / BANDWIDTH

    def cut(a: Any) -> Any:
        return [a[i] for i in chosen if i < len(a)] if isinstance(a, list) and len(a) > 1 else a

    args, kwargs = tuple(map(cut, args)), {name: cut(a) for name, a in kwargs.items()}
    leaves, smaller = pytree.tree_flatten((args, kwargs))
    fewer = [outlines[i] if isinstance(i, int) else i for i in leaves]
    part = sum(o.bytes for o in fewer if isinstance(o, Outline))
    return whole / max(part, 1) * _tried(func, fewer, smaller) if part <= MOST else whole / BANDWIDTH


def _here(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) else value


def starting() -> float:
    """Seconds that this host needs to start an operation: the faster it runs Python, the fewer."""
    layer, row = torch.nn.Linear(8, 8), torch.ones(2, 8)

    def passes() -> None:
        for _ in range(TURN):
            layer(row).sum().backward()

    with torch.enable_grad():
        return STARTS * _least(passes) / TURN


def _least(call: Callable[[], Any]) -> float:
    first, least, spent, slower = _taken(call), float("inf"), 0.0, 0
    if first > LARGE:
        return first
    while spent < ENOUGH and slower < PATIENCE:
        took = _taken(call)
        spent, slower = spent + took, slower + 1 if took >= least else 0
        least = min(least, took)
    return least


def _taken(call: Callable[[], Any]) -> float:
    begin = time.thread_time()
    call()
    return time.thread_time() - begin
