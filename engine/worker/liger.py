"""Liger's norms, rotations and gated maps in a model; its loss never, because Loracle's own keeps no logits either.

Liger knows what a family needs, and puts its functions in for good: into the modules of the model, and into the module of
transformers that the model's code lies in, where every later model of the process would have them too. What it changed is noted
and taken back.
"""

import importlib
import sys
from typing import Any

from engine.worker.inner import inner_of

DEVICES = ("cuda",)
"""Where its kernels run, as far as Loracle knows; tests add the CPU."""
ABSENT = object()


class Liger:
    """What was put into a model; `undo` takes it out."""

    words = "Liger's kernels"
    setting = "kernels"

    def __init__(self, model: Any) -> None:
        """Put them in.

        Raises:
            ValueError: Liger is not installed, does not know the model, or cannot work on its device.
        """
        inner = inner_of(model)
        device = next(inner.parameters()).device
        if device.type not in DEVICES:
            raise ValueError(f"they need an NVIDIA GPU, and the model is on {device.type}")
        try:
            patches = importlib.import_module("liger_kernel.transformers.monkey_patch")
        except ImportError:
            raise ValueError("they are not installed; `pip install 'loracle[liger]'` adds them") from None
        kind = inner.config.model_type
        if kind not in patches.MODEL_TYPE_TO_APPLY_LIGER_FN:
            raise ValueError(f"they do not know models of type {kind}")
        home = sys.modules[type(inner).__module__]
        owners: list[dict[str, Any]] = [vars(home), *map(vars, inner.modules())]  # type: ignore[list-item]
        before = [(names, dict(names)) for names in owners]
        failure: Exception | None = None
        try:
            patches._apply_liger_kernel_to_instance(inner, cross_entropy=False, fused_linear_cross_entropy=False)
        except Exception as error:  # of another version, or a variant of the family that it does not expect
            failure = error
        self._changed = [
            (names, name, old.get(name, ABSENT))
            for names, old in before
            for name in names
            if names[name] is not old.get(name, ABSENT)
        ]
        if failure is not None:
            self.undo()
            raise ValueError(f"they cannot be put in ({type(failure).__name__})") from failure

    def undo(self) -> None:
        """Leave the model, and transformers, as they were."""
        for names, name, old in self._changed:
            if old is ABSENT:
                names.pop(name, None)
            else:
                names[name] = old
        self._changed = []
