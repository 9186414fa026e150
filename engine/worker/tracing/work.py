"""How long a traced step takes: each operation by its arithmetic or its traffic, whichever is slower on the device."""

from dataclasses import dataclass
from typing import NamedTuple

from engine.worker.tracing.recorded import Recorded
from recommender.device_speed import LAUNCH

STEP = ("forward", "loss", "backward", "optimizer")
VIEW, BACKWARD, KEPT, TENSOR = 0.3, 0.65, 1.8, 0.45
"""What the host does, in operations of the forward pass that start a kernel: for one that only looks at a tensor in another way,
for one of autograd's own, which goes through no Python, for a tensor that checkpointing's hooks keep and give back, for a tensor
that an optimizer changes. On a CPU they took 8, 4, 4, 25 and 6 microseconds in models of next to nothing
(`benchmarks/prediction/host.py`), and a card's driver takes about 6 more to start a kernel."""


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
    cached: float = float("inf")
    """Bytes a second that never leave its cache."""
    flash: float = 1.0
    """Of `narrow`, what attention reaches that is one operation."""
    efficient: float = 1.0
    """And of that torch's memory-efficient kernel."""
    precise: float = 0.0
    """Operations of that kernel in fp32, where they are not those of others."""
    hooks: bool = True
    """Whether checkpointing is done by hooks; where it is reentrant they cost nothing."""

    def of(self, name: str, *, narrow: bool) -> float:
        """Operations a second, of an operation of that name."""
        if "attention" not in name and "attn" not in name:
            return self.narrow if narrow else self.wide
        efficient = "efficient" in name
        if not narrow:
            return self.precise if efficient and self.precise else self.wide
        return self.narrow * self.flash * (self.efficient if efficient else 1.0)


class Work(NamedTuple):
    """What a step is for a device and its host."""

    busy: float
    """Seconds of the device."""
    started: float
    """Operations' worth that the host does meanwhile."""
    busy_after: float = 0.0
    """The same of an update for which the host waits after each tensor, so that neither works while the other does."""
    started_after: float = 0.0

    def seconds(self, times: float, launch: float) -> float:
        """If the device takes so many times what was told, and the host so many seconds an operation."""
        return max(times * self.busy, launch * self.started) + times * self.busy_after + launch * self.started_after


def by_phase(recorded: Recorded, speed: Speed) -> dict[str, Work]:
    """Of each phase of the second step, and of the evaluation, once."""
    busy, count = dict.fromkeys((*STEP, "evaluation"), 0.0), dict.fromkeys((*STEP, "evaluation"), 0.0)
    count["optimizer"] = TENSOR * recorded.trained
    of = {(name, narrow): speed.of(name, narrow=narrow) for name in set(recorded.names) for narrow in (True, False)}
    told = (recorded.names, recorded.flops, recorded.narrow, recorded.traffic, recorded.near, recorded.again, recorded.hooked)
    for phase, name, flops, narrow, traffic, near, again, hooked in zip(recorded.phase_of(), *told, strict=True):
        if phase not in busy:
            continue
        started = 1.0 if traffic > 0 or flops > 0 else VIEW
        count[phase] += started * (BACKWARD if phase == "backward" and not again else 1.0)
        count[phase] += KEPT * hooked if speed.hooks else 0.0
        moving = (traffic - near) / speed.bandwidth + near / speed.cached
        busy[phase] += max(flops / of[name, narrow], moving)
    return {phase: Work(busy[phase], count[phase]) for phase in busy}


def work_of(recorded: Recorded, speed: Speed, *, repeated: float = 1.0, waits: bool = False) -> Work:
    """Of the second step.

    `repeated` is how many micro-batches the step has for each that was traced; `waits` whether the host does for the update.
    """
    done = by_phase(recorded, speed)
    update, pieces = done["optimizer"], [done[phase] for phase in STEP if phase != "optimizer"]
    busy, started = repeated * sum(one.busy for one in pieces), repeated * sum(one.started for one in pieces)
    if waits:
        return Work(busy, started, update.busy, update.started)
    return Work(busy + update.busy, started + update.started)


def at_depth(less: float, more: float, shallow: tuple[int, int], layers: int) -> float:
    """A sum over operations at another depth: every layer adds the same."""
    return more + (layers - shallow[1]) * (more - less) / (shallow[1] - shallow[0])
