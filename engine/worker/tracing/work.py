"""How long a traced step takes: each operation by its arithmetic or its traffic, whichever is slower on the device."""

from dataclasses import dataclass

from engine.worker.tracing.recorded import Recorded

STEP = ("forward", "loss", "backward", "optimizer")
LAUNCH = 4e-5
"""Seconds that the host needs for an operation of eager torch through transformers; small models wait for it. Four steps of small
models on an H100's host took 33 to 49 microseconds for each."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a device does in a second, as a step reaches it."""

    narrow: float
    """Operations in 16 bit."""
    wide: float
    """Operations in fp32."""
    bandwidth: float
    """Bytes read and written."""
    launch: float = LAUNCH
    flash: float = 1.0
    """Of `narrow`, what attention reaches that is one operation."""
    efficient: float = 1.0
    """And of that torch's memory-efficient kernel."""
    precise: float = 0.0
    """Operations of that kernel in fp32, where they are not those of others."""
    hooks: float = 0.0
    """Operations that the host could start beside each of the forward pass, in the time it takes for checkpointing's hooks."""

    def of(self, name: str, *, narrow: bool) -> float:
        """Operations a second, of an operation of that name."""
        if "attention" not in name and "attn" not in name:
            return self.narrow if narrow else self.wide
        efficient = "efficient" in name
        if not narrow:
            return self.precise if efficient and self.precise else self.wide
        return self.narrow * self.flash * (self.efficient if efficient else 1.0)


def seconds(recorded: Recorded, speed: Speed, *, repeated: float = 1.0) -> tuple[float, float]:
    """Of the second step: the device's time, and how many operations the host starts.

    `repeated` is how many micro-batches the step has for each that was traced.
    """
    busy, count = 0.0, 0.0
    of = {(name, narrow): speed.of(name, narrow=narrow) for name in set(recorded.names) for narrow in (True, False)}
    ran = zip(recorded.phase_of(), recorded.names, recorded.flops, recorded.narrow, recorded.traffic, strict=True)
    for phase, name, flops, narrow, traffic in ran:
        if phase not in STEP:
            continue
        times = 1.0 if phase == "optimizer" else repeated
        count += times * (traffic > 0 or flops > 0) * (1 + speed.hooks * (phase == "forward"))
        busy += times * max(flops / of[name, narrow], traffic / speed.bandwidth)
    return busy, count


def at_depth(less: float, more: float, shallow: tuple[int, int], layers: int) -> float:
    """A sum over operations at another depth: every layer adds the same."""
    return more + (layers - shallow[1]) * (more - less) / (shallow[1] - shallow[0])
