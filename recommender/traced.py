"""Steps whose memory a trace has counted, `measured.memory_profile`: exact for the same step, a yardstick for its neighbours."""

from dataclasses import asdict, fields
from typing import Any, NamedTuple

from recommender.facts import Facts
from recommender.footprint import Step

LOW, HIGH = 0.97, 1.08
"""Of the peak, where a profile tells no interval."""


class Counted(NamedTuple):
    """What the trace says."""

    step: Step
    peak: int
    """Bytes of tensors; the runtime is not in it."""
    parts: dict[str, int]
    low: int
    high: int
    """What it may be instead: tensors alone at least, what the allocator holds at most."""
    phases: dict[str, dict[str, int]]
    """The parts at the peak of each phase."""


def counted(facts: Facts) -> list[Counted]:
    """The traced steps of the facts. What is not understood is left out: a newer version may have written it."""
    found = []
    names = {f.name for f in fields(Step)}
    for entry in (facts.measured.memory_profile or {}).get("steps") or ():
        try:
            step = Step(**{k: v for k, v in entry["step"].items() if k in names})
            peak, parts = int(entry["peak"]), {str(k): int(v) for k, v in entry["parts"].items()}
            low, high = (int(entry.get(end, factor * peak)) for end, factor in (("low", LOW), ("high", HIGH)))
            phases = {str(p): {str(k): int(v) for k, v in held.items()} for p, held in (entry.get("phases") or {}).items()}
            found.append(Counted(step, peak, parts, min(low, peak), max(high, peak), phases))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def nearest(facts: Facts, step: Step) -> Counted | None:
    """The traced step most like this one: of the same method, precision and checkpointing, the closest in size."""
    alike = [c for c in counted(facts) if _kind(c.step) == _kind(step)]
    return min(alike, key=lambda c: (c.step != step, abs(c.step.micro_tokens - step.micro_tokens)), default=None)


def as_facts(step: Step, peak: int, parts: dict[str, int], **more: Any) -> dict[str, Any]:
    """An entry of `memory_profile.steps`; `more` are `low`, `high` and `phases`."""
    return {"step": asdict(step), "peak": peak, "parts": parts} | more


def _kind(step: Step) -> tuple[Any, ...]:
    return step.method, step.precision, step.gradient_checkpointing, step.optimizer, step.trained, step.last_layers


def from_runs(facts: Facts, method: str) -> float:
    """By how much earlier runs of that method on this device differed from their prediction, where three agreed."""
    factor = ((facts.measured.memory_profile or {}).get("runs") or {}).get(method)
    return min(max(float(factor), 0.5), 2.0) if isinstance(factor, int | float) else 1.0
