"""A step on several devices: what each of them holds, from what one alone would."""

DIVIDED: dict[str, tuple[str, ...]] = {
    "zero1": ("optimizer",),
    "zero2": ("optimizer", "gradients"),
    "zero3": ("optimizer", "gradients", "weights", "adapters"),
    "fsdp": ("optimizer", "gradients", "weights", "adapters"),
}
"""What is divided among the devices, by the way it is done; with plain copies nothing is."""
MARGINS = (0.9, 1.15)
"""More room for error: buckets and gathering are laid out differently by each version."""
BUCKET = 500_000_000
"""DeepSpeed's, in which gradients travel."""


def gathered(held: dict[str, int], sharding: str | None, layers: int, tables: int = 0) -> list[int]:
    """Bytes of each part of divided weights that is whole while a model computes: the layer that does, the one that is fetched
    meanwhile, and the `tables` (embeddings and head), which a root keeps from its forward to its backward pass (torch,
    distributed/fsdp/_runtime_utils.py, `_post_forward`)."""
    if "weights" not in DIVIDED.get(str(sharding), ()):
        return []
    each = (held.get("weights", 0) - tables) // max(layers, 1)
    return [size for size in (tables, each, each) if size]


def buckets(held: dict[str, int], sharding: str | None, layers: int) -> int:
    """Bytes in which gradients travel, beside them: those of plain copies are as large as they are; of a divided model the
    gradients of a layer are whole before each device has its share."""
    trained = held.get("gradients", 0)
    if sharding in (None, "none", "ddp"):
        return trained
    return trained // max(layers, 1) if sharding == "fsdp" else min(trained, BUCKET)


def on_each(
    parts: dict[str, int], held: dict[str, int], devices: int, sharding: str | None, layers: int, *, updates: bool = False
) -> int:
    """Bytes that one of several devices holds more than a single one would (less where negative), where that one holds `parts`.

    `held` is what lives from step to step, and the gradients. While it `updates`, an optimizer works on its own share alone, and
    no layer is whole.
    """
    if devices == 1:
        return 0
    divided = DIVIDED.get(str(sharding), ())
    if updates and divided:
        divided += ("temporaries",)
    less = sum(parts.get(part, 0) * (devices - 1) // devices for part in divided)
    whole = 0 if updates else sum(gathered(held, sharding, layers))
    travelling = 0 if updates and sharding == "fsdp" else buckets(held, sharding, layers)
    return whole + travelling - less
