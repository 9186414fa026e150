"""What a step takes in a model's layers, so that a model cut down to a few of them tells of all."""

import time
from typing import Any

from torch import nn


class LayerTime:
    """Seconds of this thread in all layers but a half's last one, which may be worked on for fewer tokens."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        """Look on from now on at stacks of so many layers."""
        self._halves: list[_Half] = []
        self.parameters = 0
        """That are trained in these layers."""
        seen: list[str] = []
        for name, module in model.named_modules():
            inside = any(name.startswith(f"{other}.") for other in seen)
            if isinstance(module, nn.ModuleList) and len(module) == layers > 1 and not inside:
                seen.append(name)
                self._halves.append(_Half(module))
                inner = list(module)[:-1]
                self.parameters += sum(p.numel() for layer in inner for p in layer.parameters() if p.requires_grad)

    def taken(self) -> float:
        """Seconds since the last time that this was asked, which is after a backward pass."""
        return sum(half.taken() for half in self._halves)


class _Half:
    """The layers of a model, or of one half of an encoder-decoder."""

    def __init__(self, layers: Any) -> None:
        self._taken = self._since = 0.0
        self._back: float | None = None
        layers[0].register_forward_pre_hook(self._enters, with_kwargs=True)
        layers[-1].register_forward_pre_hook(self._leaves, with_kwargs=True)

    def taken(self) -> float:
        self._ends()  # where nothing before the first layer is trained
        found, self._taken = self._taken, 0.0
        return found

    def _enters(self, _: Any, given: Any, named: Any) -> None:
        states = given[0] if given else named["hidden_states"]
        if states.requires_grad:
            states.register_hook(self._ends)
        self._since = time.thread_time()

    def _leaves(self, _: Any, given: Any, named: Any) -> None:
        self._taken += time.thread_time() - self._since
        states = given[0] if given else named["hidden_states"]
        if states.requires_grad:
            states.register_hook(self._begins)

    def _begins(self, _: Any) -> None:
        self._back = time.thread_time()

    def _ends(self, _: Any = None) -> None:
        if self._back is not None:
            self._taken += time.thread_time() - self._back
            self._back = None
