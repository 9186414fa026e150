"""Libraries that other libraries import when they find them, and that a run has no use for.

Importing takes most of the seconds before a first step. transformers and peft look for optional packages and import what they
find: bitsandbytes (and torch's compiler with it), datasets and pandas, scikit-learn. Where a run uses none of them, they are
not to be found while the others are imported: 1.5 of 5 seconds of a processor.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import cast

from recommender.plan import Plan

NEVER = ("datasets", "pandas", "sklearn")
"""Of no use before the first step to any run; the linear probe imports scikit-learn once the training is over."""


def needless(plan: Plan) -> tuple[str, ...]:
    """Packages that this plan's run does without. Bases that are quantised already are trained with QLoRA only."""
    in_bits = plan.method == "qlora" or plan.optimizer.startswith("adamw_8bit")
    return NEVER if in_bits else (*NEVER, "bitsandbytes")


@contextlib.contextmanager
def without(packages: Sequence[str]) -> Iterator[None]:
    """While inside, those packages are not to be found, and nothing is looked through for garbage.

    Libraries note what they have found while they are imported, so what they found missing stays unused by them.
    """
    hidden = [name for name in packages if name not in sys.modules]
    # `None` there is Python's way of saying that a module cannot be imported; `find_spec` answers None too.
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules.update(dict.fromkeys(hidden))
    try:
        with uncollected():
            yield
    finally:
        for name in hidden:
            modules.pop(name, None)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """While inside, nothing is looked through for garbage: among half a million objects that stay, a search takes a fifth of the
    time of making them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
