"""What layers keep for the backward pass, moved to the host as TRL does (trl/models/activation_offloading.py)."""

from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

LEAST = 1024
"""Bytes of a tensor that is worth the way (`min_offload_size`)."""
ON_THEIR_WAY = 5
"""Tensors of a forward pass that stay until later ones are on their way too (`max_fwd_stash_size`)."""


class Offloaded(saved_tensors_hooks):  # type: ignore[misc]  # mypy does not read torch here
    """Within it tensors on the meta device that autograd keeps are given up, and made anew when the backward pass asks.

    Parameters stay, and what begins where something on its way or kept for that reason does. What came back lives until the next
    node of the graph has run, which is what two streams need.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(self._pack, self._unpack)
        self._model = model
        self._clear()

    def _clear(self) -> None:
        self._kept: dict[int, Any] = {}
        self._leaving: dict[int, torch.Tensor] = {}
        self._newest: dict[Any, int] = {}
        self._keys: dict[int, Any] = {}
        self._back: dict[int, torch.Tensor] = {}
        self._node: Any = None
        self._count = 0

    def __enter__(self) -> "Offloaded":
        self._clear()
        self._parameters = {p.untyped_storage()._cdata for p in self._model.parameters()}
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._clear()
        super().__exit__(*error)

    def _pack(self, tensor: torch.Tensor) -> int:
        self._count += 1
        number, storage = self._count, tensor.untyped_storage()
        key = (StorageWeakRef(storage), tensor.storage_offset(), tensor.dtype)  # while it is held no other gets that address
        if not self._kept:
            self._newest, self._keys = {}, {}
        if key in self._newest:
            self._newest[key], self._keys[number] = number, key
            self._kept[number] = tensor
            return number
        if not tensor.is_meta or tensor.nbytes < LEAST or storage._cdata in self._parameters:
            self._kept[number] = tensor
            return number
        repeats = 0 in tensor.stride()
        if not repeats and tensor.storage_offset():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        elif not repeats:
            tensor = tensor.contiguous()
        for other in [n for n in self._leaving if n <= number - ON_THEIR_WAY]:
            self._gone(other)
        numbers = tensor.untyped_storage().size() // tensor.element_size() if repeats else tensor.numel()
        self._kept[number] = (numbers, tensor.dtype, tensor.size(), tensor.stride(), tensor.storage_offset())
        self._leaving[number], self._newest[key], self._keys[number] = tensor, number, key
        return number

    def _gone(self, number: int) -> None:
        """It is on the host."""
        del self._leaving[number]
        self._forget(number)

    def _forget(self, number: int) -> None:
        """Its storage is no longer on its way, unless it was met again since."""
        key = self._keys.pop(number, None)
        if self._newest.get(key) == number:
            del self._newest[key]

    def _unpack(self, number: int) -> torch.Tensor:
        kept = self._kept.pop(number)
        if isinstance(kept, torch.Tensor):
            self._forget(number)
            return kept
        node = torch._C._current_autograd_node()
        before = list(self._back) if node != self._node else []
        self._node = node
        if number in self._leaving:
            found = self._leaving[number]
        else:
            numbers, dtype, size, stride, offset = kept
            found = torch.empty(numbers, dtype=dtype, device="meta").as_strided(size, stride, offset)
            self._back[number] = found
        self._forget(number)
        uses = torch._C._storage_Use_Count(found.untyped_storage()._cdata)

        def done(given: Any, _: Any) -> Any:
            back = self._back.get(number)
            if back is not None and torch._C._storage_Use_Count(back.untyped_storage()._cdata) > uses:
                del self._back[number]  # something else keeps it by now, and lets it go when it wants
            for other in list(self._leaving):
                self._gone(other)
            for other in before:
                self._back.pop(other, None)
            return given

        node.register_hook(done)
        return found


class _Stays(saved_tensors_hooks):  # type: ignore[misc]  # mypy does not read torch here
    """What is kept within stays where it is."""

    def __init__(self) -> None:
        super().__init__(lambda tensor: tensor, lambda tensor: tensor)


def offloaded(model: Any) -> Offloaded:
    """For a loop that trains this model, whose output layer is left out."""
    inner = model.base_model if hasattr(model, "peft_config") else model
    head = getattr(inner, "lm_head", None)
    if head is not None:
        stays = _Stays()
        head.register_forward_pre_hook(lambda *_: stays.__enter__())
        head.register_forward_hook(lambda *_: stays.__exit__(), always_call=True)
    return Offloaded(model)
