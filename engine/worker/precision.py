"""In which type a run computes."""

import contextlib
from typing import Any

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a model of that precision computes."""
    computed_in = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}.get(precision)
    context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    return torch.autocast(device.type, computed_in) if computed_in else context
