"""Counting live storages while code runs on the meta device: every allocation, every release, and the work of every operation."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol
from unittest import mock

import torch
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from engine.worker.tracing.cache import Cache
from engine.worker.tracing.operations import once
from engine.worker.tracing.recorded import Recorded
from engine.worker.tracing.shapes import flops_of, result_of

aten = torch.ops.aten
_FILLED = {"copy_", "_foreach_copy_", "zero_", "_foreach_zero_", "fill_", "normal_", "uniform_", "bernoulli_"}
"""What only writes where it changes something. (Fused optimizers may change gradients, and do where they are scaled.)"""
Temporary = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], list[int]]
"""Bytes that a kernel asks for while it runs, by operation, arguments, keywords and result."""
_NOTHING = object()
_IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.index_put.default: aten.index_put_.default,
}
"""What autograd calls while somebody looks on, and what it calls where nobody does."""
_ASKING = {aten.allclose.default, aten.equal.default, aten._local_scalar_dense.default}
"""What looks into a tensor."""


class _Operation(NamedTuple):
    """What is known of an operation, whatever it is given."""

    name: str
    changes: bool
    """Something that it was given."""
    rewrites: tuple[int, ...]
    """Which of its arguments it reads and writes."""
    asks: bool
    in_place: Any
    """Of `_IN_PLACE`."""


@once
def _operation(func: Any) -> _Operation:
    name = getattr(func, "__name__", None) or str(func)
    taken = ((i, given) for i, given in enumerate(func._schema.arguments) if given.name != "grads")
    written = (i for i, given in taken if given.alias_info is not None and given.alias_info.is_write)
    rewrites = () if name.split(".")[0] in _FILLED else tuple(written)
    return _Operation(name, func._schema.is_mutable, rewrites, func in _ASKING, _IN_PLACE.get(func))


class Marks(Protocol):
    """Is told what a loop does next; a trace counts by it, a measurement on a real device measures by it."""

    def phase(self, name: str) -> None:
        """What follows belongs to that phase."""

    def empty_cache(self) -> None:
        """Here the program gives back what its allocator keeps without using it."""


class Live(TorchDispatchMode):  # type: ignore[misc]  # mypy does not read torch here
    """Records every operation on the meta device.

    Storages of other devices are not counted: an optimizer's step counter on the host is not memory of the device.
    """

    def __init__(self, temporary: Temporary, *, padded: bool = False, calls: Any = None, cache: int = 0) -> None:
        """`temporary` knows the kernels; `padded` is what masks tell of the rows when they are asked; `calls` is told of every
        operation (`timed.Calls`); the card's `cache` keeps so many bytes."""
        super().__init__()
        _alone()  # asked before anything is counted
        self.recorded = Recorded(phases=[("load", 0)])
        self._temporary = temporary
        self._padded, self.calls = padded, calls
        self._cache = Cache(cache, self.recorded.near)
        self._again, self._hooked = False, 0
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._number: dict[int, int] = {}
        self._of_numbers: set[int] = set()
        """Storages that tell how numbers are, as whether they are finite."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would wrap every call of `__torch_dispatch__` to keep its compiler out, a tenth of a trace; here is none."""
        return False

    def phase(self, name: str) -> None:
        """What follows belongs to that phase."""
        self.recorded.phases.append((name, len(self.recorded.names)))
        self.recorded.phase_events.append(len(self.recorded.events))

    def empty_cache(self) -> None:
        """Here the program gives back what its allocator keeps without using it."""
        self.recorded.events.append(0)
        self.recorded.event_positions.append(len(self.recorded.names))

    def mark(self, name: str) -> None:
        """Say so at this place of the stream."""
        self.recorded.marks[len(self.recorded.events)] = name
        self.empty_cache()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within it checkpointing tells what its hooks keep, and what it computes again (torch/utils/checkpoint.py)."""
        holder, again, live = checkpoint._Holder, checkpoint._run_fn_with_dynamo_disabled, self

        class Told(holder):  # type: ignore[misc, valid-type]  # mypy does not read torch here
            def __init__(self) -> None:
                super().__init__()
                live._hooked += 1

        def once_more(*given: Any, **more: Any) -> Any:
            self._again = True
            try:
                return again(*given, **more)
            finally:
                self._again = False

        with mock.patch.multiple(checkpoint, _Holder=Told, _run_fn_with_dynamo_disabled=once_more):
            yield

    def number_of(self, tensor: torch.Tensor) -> int | None:
        """The storage of a tensor, by its number; `None` when it is not counted."""
        return self._number.get(tensor.untyped_storage()._cdata)

    def stands_for(self, tensor: torch.Tensor, number: int) -> None:
        """The tensor's storage is that of the number: when it goes, that is written down."""
        storage = tensor.untyped_storage()
        key = storage._cdata

        def gone(_: Any) -> None:
            del self._alive[key], self._number[key]
            self._cache.gone(number)
            self.recorded.go(number)

        self._alive[key], self._number[key] = weakref.ref(storage, gone), number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # in a backward pass each look at a tensor would be a call of `pretend.Device`
            return self._counted(func, args, kwargs or {})

    def _counted(self, func: Any, args: Any, kwargs: Any) -> Any:
        operation = _operation(func)
        if operation.asks and (said := self._said(func, args)) is not _NOTHING:
            return said
        if operation.in_place is not None and self._sums_gradients(func, args):
            func = operation.in_place
            operation = _operation(func)
        out = result_of(func, args, kwargs)
        recorded = self.recorded
        position = len(recorded.names)
        given = _tensors(args)
        written, known = 0, len(recorded.sizes)
        for tensor in _tensors(out):
            if tensor.is_meta:
                written += self._made(tensor, position)
        made = range(known, len(recorded.sizes))
        for tensor in given:  # a factory for a tensor that was made outside: a buffer, a mask from the host
            if tensor.is_meta:
                self._made(tensor, position)
        if known < len(recorded.sizes):
            numbers = (self.number_of(tensor) for tensor in given)
            recorded.met.update(n for n in numbers if n is not None and n >= known)
        self._tells_of_numbers(given, out)
        if self.calls is not None:
            self.calls.note(recorded.phases[-1][0], func, args, kwargs)
        blocks = self._temporary(func, args, kwargs, out)
        if blocks:
            recorded.temporaries[position] = blocks
        recorded.names.append(operation.name)
        recorded.again.append(self._again)
        recorded.hooked.append(self._hooked)
        self._hooked = 0
        recorded.flops.append(flops_of(func, args, kwargs, out))
        recorded.narrow.append(bool(given) and given[0].element_size() <= 2 and _multiplies(given[0].dtype))
        recorded.near.append(0)
        if not written and not operation.changes:  # a view touches no memory: it made nothing, and changes nothing that is there
            recorded.traffic.append(0)
            return out
        again = _tensors([args[i] for i in operation.rewrites if i < len(args)]) if operation.changes else []
        recorded.traffic.append(written + sum(t.nbytes for t in (*given, *again)))
        if self._cache.size:
            changed = ((self.number_of(t), t.nbytes) for t in again)
            into = [*((number, recorded.sizes[number]) for number in made), *changed]
            self._cache.note(position, [(self.number_of(t), t) for t in given], into)
        return out

    def _said(self, func: Any, args: Any) -> Any:
        """What a tensor without content answers when it is asked for its value."""
        if not args[0].is_meta:
            return _NOTHING
        if func is not aten._local_scalar_dense.default:
            return True
        dtype = args[0].dtype
        if dtype == torch.bool:
            return self._answered(args[0])
        return 0.0 if dtype.is_floating_point else 1

    def _answered(self, question: torch.Tensor) -> bool:
        """All numbers are finite, and none is not; of a mask all is seen, unless rows are padded and some of it is hidden."""
        number = self._number.get(question.untyped_storage()._cdata)
        of_some = number is not None and self.recorded.names[self.recorded.begins[number]].startswith("any")
        odd = number not in self._of_numbers and self._padded
        return odd if of_some else not odd

    def _tells_of_numbers(self, given: list[torch.Tensor], out: Any) -> None:
        if not isinstance(out, torch.Tensor) or out.is_floating_point():
            return
        known, told = self._number, self._of_numbers
        if any(t.is_floating_point() or known.get(t.untyped_storage()._cdata) in told for t in given):
            number = known.get(out.untyped_storage()._cdata)
            if number is not None:
                told.add(number)

    def _sums_gradients(self, func: Any, args: Any) -> bool:
        """Whether autograd would add in place here: it never does while somebody looks on (input_buffer.cpp, `accumulate`; of
        what was gathered TensorAdvancedIndexing.cpp, `gather_backward`, and FunctionsManual.cpp, `index_backward`)."""
        before, other = args[:2]
        alike = func is not aten.add.Tensor or (
            isinstance(other, torch.Tensor) and before.shape == other.shape and before.dtype == other.dtype
        )
        return (
            alike
            and not torch.is_grad_enabled()
            and self.recorded.phases[-1][0].endswith("backward")
            and (before._use_count(), torch._C._storage_Use_Count(before.untyped_storage()._cdata)) == _alone()
        )

    def _made(self, tensor: torch.Tensor, position: int) -> int:
        """Count its storage if it is new; its bytes then."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return 0
        recorded, size = self.recorded, int(storage.nbytes())
        number = len(recorded.sizes)
        self.stands_for(tensor, number)
        recorded.begins.append(position)
        recorded.sizes.append(size)
        recorded.shapes.append(tuple(tensor.shape))
        recorded.events.append(number + 1)
        recorded.event_positions.append(position)
        return size


@cache
def _alone() -> tuple[int, int]:
    """What the counts of a gradient and of its storage are when autograd alone holds it."""
    found: list[tuple[int, int]] = []

    class Look(TorchDispatchMode):  # type: ignore[misc]  # mypy does not read torch here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten.add.Tensor and not torch.is_grad_enabled():
                found.append((args[0]._use_count(), torch._C._storage_Use_Count(args[0].untyped_storage()._cdata)))
            return func(*args, **(kwargs or {}))

    with _disable_current_modes(), torch.enable_grad():
        x = torch.ones(2, device="meta", requires_grad=True) * 2
        ends = x.exp().sum() * x.sin().sum()
        with Look():
            torch.autograd.backward([ends])
    return found[0] if found else (0, 0)


def _multiplies(dtype: torch.dtype) -> bool:
    return bool(dtype.is_floating_point or dtype == torch.int8)  # taken to be as fast as 16 bit: what narrows takes its time too


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, list | tuple):
        found: list[torch.Tensor] = []
        for value in values:
            if isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, list | tuple):
                found += _tensors(value)
        return found
    return []
