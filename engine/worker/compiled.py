"""The repeated layers of a model compiled with torch.compile, while they train.

Layer by layer, so that one compilation serves all of them, and with shapes left open, so that micro-batches of any length do not
compile anew. Attention over sequences laid end to end stays as it is: its work is cut by the lengths, which a compiled graph
would have to know.
"""

import importlib
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.text import first_line
from engine.userstate import state_folder
from engine.worker import attention

BACKEND = "inductor"
PACKED = ("lengths", "shared", "read", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What attention is told of sequences laid end to end (`attention.keywords`)."""
MISSING = {
    "InvalidCxxCompiler": "there is no C++ compiler",
    "TritonMissing": "Triton is not installed",
    "GPUTooOldForTriton": "Triton does not support this GPU",
}
"""What the names of torch's errors mean."""


class Compiled:
    """What was put into a model; `undo` takes it out."""

    words = "torch.compile"
    setting = "compile"

    def __init__(self, model: Any) -> None:
        """Put it in; nothing is compiled before the first pass.

        Raises:
            ValueError: the model has no layers that could be told apart.
        """
        layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
        # The one that `first_token` makes short is not worth a graph of its own.
        self.layers: list[Any] = [m for m in layers if "forward" not in vars(m)]
        if not self.layers:
            raise ValueError("its layers are not marked as such")
        torch.compiler.reset()  # what an earlier model has left would count against the limit of what is compiled anew
        if BACKEND == "inductor":
            _make_ready(next(model.parameters()).device)
        # Random numbers are then drawn as without it: dropout drops the same.
        options: dict[str, Any] = {"options": {"fallback_random": True}} if BACKEND == "inductor" else {}
        AttentionInterface.register(attention.NAME, _uncompiled)
        forwards = [torch.compile(layer.forward, backend=BACKEND, dynamic=True, **options) for layer in self.layers]
        for layer, forward in zip(self.layers, forwards, strict=True):
            layer.forward = _while_training(layer, forward)

    def undo(self) -> None:
        """Leave the layers as they were."""
        for layer in self.layers:
            layer.__dict__.pop("forward", None)
        self.layers = []
        attention.register()


class _Untold:
    """Keywords that a compiled graph hands on without looking into them: it would be compiled anew for each number of rows."""

    __slots__ = ("keywords",)

    def __init__(self, keywords: dict[str, Any]) -> None:
        self.keywords = keywords


@torch.compiler.disable  # type: ignore[untyped-decorator]  # mypy does not read torch here
def _uncompiled(*args: Any, lengths: _Untold | tuple[int, ...] | None = None, **rest: Any) -> Any:
    """`attention.attention`, called from compiled layers, and from those that are not."""
    told: dict[str, Any] = lengths.keywords if isinstance(lengths, _Untold) else {"lengths": lengths}
    return attention.attention(*args, **(rest | told))


def _while_training(layer: Any, compiled: Any) -> Any:
    """Compiled where it pays: scoring and writing, a few passes now and then, would need a compilation of their own, and so would
    the first layer above embeddings that are frozen, whose input has no gradient."""
    usual = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden: Any = args[0] if args else kwargs.get("hidden_states")
        if not (layer.training and torch.is_grad_enabled() and torch.is_tensor(hidden) and hidden.requires_grad):
            return usual(*args, **kwargs)
        if kwargs.get("lengths") is not None:
            untold = {name: kwargs.pop(name) for name in PACKED if name in kwargs}
            kwargs["lengths"] = _Untold(untold)
        return compiled(*args, **kwargs)

    return forward


def _make_ready(device: torch.device) -> None:
    """Compile in this process, where a CPU's memory is counted, and keep what was compiled in a folder of the person's own.

    torch would start a process a core, each with its libraries, and use a folder in /tmp that anybody can guess.
    """
    folder: Path = state_folder() / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    if device.type == "cpu":
        settings: Any = importlib.import_module("torch._inductor.config")
        settings.compile_threads = 1


def from_compiler(error: BaseException) -> bool:
    """Whether that error comes from compiling, or from what was compiled, and not from the model."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch._functorch"))


def reason(error: BaseException) -> str:
    """What went wrong, in a few words."""
    inner = getattr(error, "inner_exception", None) or error
    return MISSING.get(type(inner).__name__) or first_line(inner)
