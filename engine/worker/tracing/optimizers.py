"""What optimizers keep that torch does not have, or whose kernels need a device: bitsandbytes', and moments of another type."""

from typing import Any

import torch
from torch import nn

from engine.worker.devices import kind_of

BLOCK = 256
"""Values of a state that share a scale (bitsandbytes, `optimizer_update_8bit_blockwise`)."""
LEAST = 4096
"""Values below which a tensor's states stay in 32 bit (`min_8bit_size`)."""
PAGED = 100_000
"""Values from which on a paged optimizer leaves a state to the driver (`get_state_buffer`)."""
BESIDE_WIDE, BESIDE_NARROW = 3, 5
"""Copies of a weight in fp32 that an update on a CPU makes beside 32-bit states (gradient, root, root and epsilon) and beside
8-bit ones (these, and both states): bitsandbytes has no kernel of its own there (backends/cpu/ops.py, 0.50)."""


def embeddings_of(model: nn.Module) -> list[nn.Parameter]:
    """Parameters whose 8-bit moments transformers' Trainer asks for in fp32 (trainer.py, `create_optimizer`)."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]


class _Stateful:
    """An optimizer whose states are made at its first step."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self.states: list[torch.Tensor] = []


class BitsAndBytes(_Stateful):
    """AdamW and Lion of bitsandbytes (optim/optimizer.py, `Optimizer2State.init_state`, `Optimizer1State.init_state`).

    For each of its `moments`, 2 of AdamW and 1 of Lion: in 8 bit a byte a parameter, a scale a block and a table of 256 values
    for all; in 32 bit four bytes a parameter, whatever its type. Paged states are the driver's: torch's counters do not see them.
    The update itself needs nothing on a card; on a CPU it makes copies of each weight in its turn.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        *,
        bits: int = 8,
        paged: bool = False,
        moments: int = 2,
        wide: list[nn.Parameter] | None = None,
    ) -> None:
        """`wide` are parameters whose states stay in 32 bit."""
        super().__init__(parameters)
        self._bits, self._paged, self._moments, self._wide = bits, paged, moments, {id(p) for p in wide or ()}

    def step(self) -> None:
        """Make the states where there are none, and what updates hold beside them."""
        if not self.states:
            self._begin()
        for p in self._parameters:
            if kind_of(p.device) == "cpu":
                copies = (BESIDE_NARROW if self._is_narrow(p) else BESIDE_WIDE) + (p.dtype != torch.float32)
                torch.empty(copies * p.numel(), dtype=torch.float32, device=p.device)
            elif p.grad is not None:
                p.data.add_(p.grad)  # what its kernel reads and writes
        if self.states and kind_of(self.states[0].device) != "cpu":
            torch._foreach_mul_(self.states, 1)

    def _is_narrow(self, p: nn.Parameter) -> bool:
        return self._bits == 8 and p.numel() >= LEAST and id(p) not in self._wide

    def _begin(self) -> None:
        moments = range(self._moments)
        for p in self._parameters:
            n, here, narrow = p.numel(), {"device": p.device}, self._is_narrow(p)
            if not self._paged or n < PAGED or kind_of(p.device) == "cpu":  # where it has none, and pages nothing
                self.states += [torch.empty(n, dtype=torch.uint8 if narrow else torch.float32, **here) for _ in moments]
            if narrow:
                self.states += [torch.empty(-(-n // BLOCK), dtype=torch.float32, **here) for _ in moments]
        if self._bits == 8:
            self.states += [torch.empty(256, dtype=torch.float32, device=self._parameters[0].device) for _ in moments]


class OtherStates(_Stateful):
    """AdamW whose moments have another type than the weights, as mixed-precision optimizers hold them: torch's own has none.

    Tensor by tensor: the gradient in the moments' type, and the update in it.
    """

    def __init__(self, parameters: list[nn.Parameter], dtype: torch.dtype) -> None:
        super().__init__(parameters)
        self._dtype = dtype

    def step(self) -> None:
        """Make the moments where there are none, and the temporaries of an update."""
        if not self.states:
            self.states += [torch.empty_like(p, dtype=self._dtype) for p in self._parameters for _ in range(2)]
        for p in self._parameters:
            gradient = None if p.grad is None else p.grad.to(self._dtype)
            update = torch.empty_like(p, dtype=self._dtype)
            del gradient, update


class Several:
    """Optimizers of different parameters, one after the other."""

    def __init__(self, optimizers: list[Any]) -> None:
        self._optimizers = optimizers

    def step(self) -> None:
        """All of them."""
        for optimizer in self._optimizers:
            optimizer.step()
