"""Whether a resumed run repeats the uninterrupted one to the bit, or only nearly."""

import platform
from typing import TYPE_CHECKING, Any

from engine.installed import version
from engine.worker.token_rows import digest_of

if TYPE_CHECKING:  # a worker looks at versions before it imports its libraries, without those that it has no use for
    from engine.worker.tasks.base import Encoded

PACKAGES = ("loracle", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")


def environment_note(train: "Encoded") -> dict[str, Any]:
    """What exact repetition depends on beside the plan: what orders the sums (threads, library), device, versions, and the rows
    as they are read."""
    import torch

    from engine.worker import products
    from engine.worker.modeling import device_label

    return {
        "threads": torch.get_num_threads(),
        "products": products.in_use(),
        "device": device_label(),
        "tokens": digest_of(train.input_ids),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and of what computes; torch is not imported for it."""
    # Loracle's own has none where its folder is merely on the path.
    return {"python": platform.python_version()} | {name: version(name) or "not installed" for name in PACKAGES}


def compare(note: dict[str, Any], train: "Encoded") -> str:
    """`exact`, or `approximate: ` and what is different from when the checkpoint was written, or from one step to the next."""
    from engine.worker.modeling import device_name

    now = environment_note(train)
    then = {"products": "mkl"} | note
    compared = ("threads", "products", "device")
    changed = [f"{name} was {then.get(name)}, is {now[name]}" for name in compared if then.get(name) != now[name]]
    if then.get("tokens", now["tokens"]) != now["tokens"]:  # older notes have none
        changed.append("texts are other tokens (the tokenizer has changed, or its chat template tells the date)")
    old, new = note.get("versions") or {}, now["versions"]
    changed += [f"{name} was {old.get(name, 'not noted')}, is {new[name]}" for name in new if old.get(name) != new[name]]
    if device_name() != "cpu":
        changed.append("a GPU adds up in no fixed order")  # flash attention on the way back
    return f"approximate: {'; '.join(changed)}" if changed else "exact"
