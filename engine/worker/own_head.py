"""The head that a checkpoint comes with: whether its outputs mean what this run's labels mean, and in which order.

Libraries keep a head of the right size whatever its outputs are called: one that tells toxic from ok would go on as one that
tells neg from pos, and one for the same labels in another order would begin by being wrong everywhere.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.files import read_json
from engine.text import one_line
from engine.worker.tasks.base import Task

_NUMBERED = re.compile(r"label_(\d+)")
"""What transformers calls outputs that nobody named."""


def places_of(task: Task, folder: Path, labels: Sequence[str]) -> list[int] | None:
    """For each label the output of the checkpoint's head that stands for it; `None` where the head was made for other labels.

    Both that and a head that does not name its outputs are remarked.
    """
    stored = stored_names(folder, len(labels))
    places = in_order(stored, labels)
    if places is None:
        task.remark(
            "head_replaced", f"The model's own head has the labels {shown(stored)}, not {shown(labels)}: a new one is trained."
        )
    elif unnamed(stored) and sorted(labels) != sorted(map(_plain, stored)):
        kept = "The model's own head is trained further; its outputs have no names and are taken to be"
        task.remark("head_unnamed", f"{kept} {shown(labels)}.")
    return places


def stored_names(folder: Path, outputs: int) -> list[str]:
    """Names of so many outputs as the folder's config.json gives them; `LABEL_0` and so on where it gives none."""
    named = read_json(folder / "config.json").get("id2label")
    known = {str(place): str(name) for place, name in named.items()} if isinstance(named, dict) else {}
    return [known.get(str(i), f"LABEL_{i}") for i in range(outputs)]


def in_order(stored: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """For each label the place of its name, whatever its case, among the `stored`; `None` where those are other names.

    Outputs without names stand for numbers where the labels are numbers, else for the labels in their order.
    """
    for same in (str, _plain):
        places = {same(name): i for i, name in enumerate(stored)}
        if len(places) == len(stored) and sorted(places) == sorted(map(same, labels)):
            return [places[same(label)] for label in labels]
    return list(range(len(stored))) if unnamed(stored) else None


def unnamed(stored: Sequence[str]) -> bool:
    """Whether nobody has said what the outputs mean."""
    return all(_NUMBERED.fullmatch(name.casefold()) for name in stored)


def _plain(name: str) -> str:
    numbered = _NUMBERED.fullmatch(name.strip().casefold())
    return numbered.group(1) if numbered else name.strip().casefold()


def shown(labels: Sequence[str]) -> str:
    """The first few labels; they are foreign text."""
    return ", ".join(one_line(label, 30) for label in labels[:3]) + (", ..." if len(labels) > 3 else "")


def renew(model: Any, module: str) -> None:
    """Random weights for a module of the model, as it would have if the checkpoint had none for it."""
    for part in model.get_submodule(module).modules():
        for weights in part.parameters(recurse=False):
            weights._is_hf_initialized = False  # transformers leaves what was loaded
        model._init_weights(part)


def reorder(model: Any, module: str, places: Sequence[int]) -> None:
    """Put a head's outputs into another order: what was output `places[i]` becomes output i."""
    outputs = [part for part in model.get_submodule(module).modules() if getattr(part, "out_features", 0) == len(places)][-1]
    for weights in outputs.parameters(recurse=False):
        weights.data = weights.data[list(places)]
