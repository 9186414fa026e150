"""What bitsandbytes' optimizers keep, without their kernels, which need a device."""

from typing import Any

import torch

BLOCK = 256
"""Values of a state that share a scale (bitsandbytes, `optimizer_update_8bit_blockwise`)."""
LEAST = 4096
"""Values below which a tensor's states stay in 32 bit (`min_8bit_size`)."""


class EightBit:
    """AdamW8bit: two bytes a parameter, two scales a block, and two tables of 256 values for all."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self.states: list[torch.Tensor] = []

    def step(self) -> None:
        """Make the states where there are none; the update itself needs nothing."""
        if self.states:
            return
        for p in self._parameters:
            n = p.numel()
            if n < LEAST:
                self.states += [torch.empty(n, dtype=torch.float32, device="meta") for _ in range(2)]
                continue
            self.states += [torch.empty(n, dtype=torch.uint8, device="meta") for _ in range(2)]
            self.states += [torch.empty(-(-n // BLOCK), dtype=torch.float32, device="meta") for _ in range(2)]
        self.states += [torch.empty(256, dtype=torch.float32, device="meta") for _ in range(2)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for p in self._parameters:
            p.grad = None


class OtherStates:
    """AdamW whose moments have another type than the weights, as mixed-precision optimizers hold them: torch's own has none.

    Tensor by tensor: the gradient in the moments' type, and the update in it.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], dtype: torch.dtype) -> None:
        self._parameters, self._dtype = parameters, dtype
        self.states: list[torch.Tensor] = []

    def step(self) -> None:
        """Make the moments where there are none, and the temporaries of an update."""
        if not self.states:
            self.states += [torch.empty_like(p, dtype=self._dtype) for p in self._parameters for _ in range(2)]
        for p in self._parameters:
            gradient = None if p.grad is None else p.grad.to(self._dtype)
            update = torch.empty_like(p, dtype=self._dtype)
            del gradient, update

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for p in self._parameters:
            p.grad = None


class Several:
    """Optimizers of different parameters, one after the other."""

    def __init__(self, optimizers: list[Any]) -> None:
        self._optimizers = optimizers

    def step(self) -> None:
        """All of them."""
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)


class Paged(EightBit):
    """Paged states are the driver's: torch's counters do not see them."""

    def step(self) -> None:
        """Nothing that torch counts, but the tables and the scales of a block."""
        if not self.states:
            self.states += [torch.empty(256, dtype=torch.float32, device="meta") for _ in range(2)]
