"""What kind of device a tensor is on, for code that takes another way on each.

While a step is traced on the meta device, that device stands for another one; asked here, the step takes that one's way.
"""

import contextlib
from collections.abc import Iterator

import torch

_meta: list[str] = []


def kind_of(device: torch.device) -> str:
    """cpu, cuda, mps, ..."""
    return _meta[-1] if _meta and device.type == "meta" else str(device.type)


@contextlib.contextmanager
def meta_is(kind: str) -> Iterator[None]:
    """Within it the meta device stands for a device of that kind."""
    _meta.append(kind)
    try:
        yield
    finally:
        _meta.pop()
