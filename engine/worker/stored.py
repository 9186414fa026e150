"""What a checkpoint holds of a model: which modules are new to it, and which heads are its own. Read from headers alone."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from recommender.errors import InputError

MOST_MISSING = 0.05
"""Share of the body's weights that may be absent from a checkpoint (a pooler is) before it is the wrong checkpoint."""


class Modules(NamedTuple):
    """Names of the modules above the body that a run has to look after."""

    new: list[str]
    """Those that the checkpoint has no weights for: the head, and a pooler where it lacks one."""
    own: list[str]
    """Heads of the checkpoint that have as many outputs as there are labels."""


def new_modules(config: Any, folder: str, auto: Any, outputs: int = 0) -> Modules:
    """The modules that are new to the checkpoint, and its own heads of so many `outputs`.

    A head with another number of outputs is new as a whole.

    Raises:
        InputError: so much of the body is missing that it is another model's checkpoint.
    """
    with torch.device("meta"):
        model = auto.from_config(config)
    prefix = model.base_model_prefix
    stored = _as_loaded(model, stored_shapes(Path(folder)))
    never_saved = set(model._keys_to_ignore_on_save or ())  # Marian's positions, which are computed
    shapes = {name: p.numel() for name, p in model.named_parameters() if name not in never_saved}
    found = {name: _stored_as(name, prefix, stored) for name in shapes}
    body = {n for n in shapes if n.startswith(f"{prefix}.")}
    # Of the body a packed or quantised weight has another shape too.
    above = {n: p.shape for n, p in model.named_parameters() if body and not n.startswith(f"{prefix}.")}
    resized = {n.partition(".")[0] for n, shape in above.items() if found[n] not in (None, shape)}
    missing = [n for n in shapes if found[n] is None or n.partition(".")[0] in resized]
    lost = [n for n in missing if n in body]
    if sum(shapes[n] for n in lost) > MOST_MISSING * max(sum(shapes[n] for n in body), 1):
        raise InputError(f"{folder}: the weights do not match config.json; missing are {', '.join(lost[:5])} and others.")
    # `classifier.dense` and `classifier.out_proj` are one head: take the outermost module that is new as a whole.
    new = sorted({_outermost(n, missing, shapes) for n in missing})
    fitting = {n.partition(".")[0] for n, shape in above.items() if outputs and len(shape) and shape[0] == outputs}
    return Modules(new, sorted(fitting - {n.partition(".")[0] for n in missing}))


def _as_loaded(model: Any, stored: dict[str, torch.Size]) -> dict[str, torch.Size]:
    """Beside the stored names those under which transformers loads them: experts stored one by one become one weight, queries,
    keys and values stored as one (Nomic's) become three. Of these only the names count."""
    rules = get_model_conversion_mapping(model)
    renamings = [r for r in rules if isinstance(r, WeightRenaming)]
    converters = [r for r in rules if isinstance(r, WeightConverter)]
    loaded: dict[str, torch.Size] = {}
    for name, shape in stored.items():
        key, source = rename_source_key(name, renamings, converters)
        targets = next((c.target_patterns for c in converters if source in c.source_patterns), [""])
        loaded |= {key.replace(targets[0], target, 1): shape for target in targets} if len(targets) > 1 else {key: shape}
    return loaded | stored


def _outermost(name: str, missing: list[str], shapes: dict[str, int]) -> str:
    parts = name.split(".")
    for depth in range(1, len(parts)):
        module = ".".join(parts[:depth]) + "."
        if all(n in missing for n in shapes if n.startswith(module)):
            return module[:-1]
    return ".".join(parts[:-1])


def _stored_as(name: str, prefix: str, stored: dict[str, torch.Size]) -> torch.Size | None:
    bare = name.removeprefix(f"{prefix}.")
    names = {name, bare, f"{prefix}.{bare}", f"model.{bare}"}
    # The first BERT checkpoints call the weights of a LayerNorm gamma and beta.
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta") for n in names}
    return next((stored[n] for n in sorted(names | old) if n in stored), None)


def stored_shapes(folder: Path) -> dict[str, torch.Size]:
    """Shapes of all tensors in the folder's safetensors files, by name."""
    shapes: dict[str, torch.Size] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            shapes |= {name: torch.Size(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    return shapes
