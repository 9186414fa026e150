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


def on_each(
    parts: dict[str, int], held: dict[str, int], devices: int, sharding: str | None, layers: int, *, updates: bool = False
) -> int:
    """Bytes that one of several devices holds more than a single one would (less where negative), where that one holds `parts`.

    `held` is what lives from step to step, and the gradients. While it `updates`, an optimizer works on its own share alone.
    """
    if devices == 1:
        return 0
    trained = held.get("gradients", 0)
    if sharding in (None, "none", "ddp"):
        return trained  # buckets, in which gradients travel
    divided = DIVIDED[str(sharding)] + (("temporaries",) if updates else ())
    more = -sum(parts.get(part, 0) * (devices - 1) // devices for part in divided)
    if "weights" in divided:
        more += 2 * held.get("weights", 0) // max(layers, 1)  # two layers are whole while one computes and one is fetched
    return more + (0 if sharding == "fsdp" else min(trained, 500_000_000))
