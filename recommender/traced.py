"""Steps whose memory a trace has counted, `measured.memory_profile`: exact for the same step, a yardstick for its neighbours."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from recommender import fitted
from recommender.facts import Facts
from recommender.footprint import Step
from recommender.largest import GROWING, Largest, largest_micro_batch, least_filled, scored
from recommender.recommendation import METHODS

LOW, HIGH = 0.97, 1.08
"""Of the peak, where a profile tells no interval."""
RESERVE = 1.05
"""What CUDA's allocator keeps beyond the tensors changes with the sizes: at 27 edits the whole was -2.5% to +1.3% off a replay
(results/what_if.json)."""


NAMES = frozenset(f.name for f in fields(Step))
OF_RUNS = 0.5, 2.0
"""No further does what earlier runs have shown move a prediction."""
MOST_STARTS = 1e7
SLOWEST = 1e6
"""Seconds of a token or of an update that nobody has waited for."""


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
    most: int
    """The most that its tensors alone may take: what has to find room."""
    fit: dict[str, Any] | None = None
    """How that grows with rows, length and rank (`recommender.fitted`)."""
    trained: tuple[int, int] | None = None
    """Parameters that it trains, and how many each further rank of its adapters adds."""
    libraries: int | None = None
    """Bytes of main memory that the libraries held where it was counted, once they were imported."""
    packed: bool = False
    """Whether its sequences lay end to end, without padding."""
    accumulates: bool = False
    """Whether its micro-batch was one of several."""


class _Read(NamedTuple):
    """A profile that was read: deciding asks for hundreds of steps of one."""

    profile: dict[str, Any] | None
    steps: list[Counted]
    told: dict[tuple[Step, Largest, Largest], Counted | None]
    """By step and its largest micro-batch, packed and padded: what was said of it already."""


_read = _Read(None, [], {})


def _reading(facts: Facts) -> _Read:
    global _read
    known = _read
    if known.profile is not facts.measured.memory_profile:
        _read = known = _Read(facts.measured.memory_profile, _counted(facts), {})
    return known


def counted(facts: Facts) -> list[Counted]:
    """The traced steps of the facts. What is not understood is left out: a newer version may have written it."""
    return _reading(facts).steps


def _counted(facts: Facts) -> list[Counted]:
    found = []
    for entry in (facts.measured.memory_profile or {}).get("steps") or ():
        try:
            step = Step(**{k: v for k, v in entry["step"].items() if k in NAMES})
            peak, parts = int(entry["peak"]), {str(k): int(v) for k, v in entry["parts"].items()}
            low, high = (int(entry.get(end, factor * peak)) for end, factor in (("low", LOW), ("high", HIGH)))
            phases = {str(p): {str(k): int(v) for k, v in held.items()} for p, held in (entry.get("phases") or {}).items()}
            low, high = min(low, peak), max(high, peak)
            trained = (int(entry["trained"][0]), int(entry["trained"][1])) if entry.get("trained") else None
            libraries = int(entry["libraries"]) if entry.get("libraries") else None
            most = int(entry.get("most", high))
            ways = bool(entry.get("packed")), bool(entry.get("accumulates", step.accumulates))
            found.append(Counted(step, peak, parts, low, high, phases, most, entry.get("fit"), trained, libraries, *ways))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError):
            continue
    return found


def untraceable(facts: Facts) -> list[Step]:
    """Steps that no trace could count."""
    return _listed(facts, "untraceable")


def untimed(facts: Facts) -> list[Step]:
    """Counted steps whose operations were not tried on the CPU that would run them: they were not going to be shown."""
    return _listed(facts, "untimed")


def _listed(facts: Facts, name: str) -> list[Step]:
    found = []
    for entry in (facts.measured.memory_profile or {}).get(name) or ():
        with suppress(TypeError, AttributeError):
            found.append(Step(**{k: v for k, v in entry.items() if k in NAMES}))
    return found


def nearest(facts: Facts, step: Step) -> Counted | None:
    """The traced step most like this one: of the same method, precision and checkpointing, the closest in size."""
    alike = [c for c in counted(facts) if _kind(c.step) == _kind(step)]
    return min(alike, key=lambda c: (c.step != step, abs(c.step.micro_tokens - step.micro_tokens)), default=None)


def at_once(facts: Facts, step: Step) -> Counted | None:
    """What a trace has counted of this very step, or else what the fit of a neighbour says of it; `None` where neither can."""
    told = _reading(facts).told
    packed, padded = (largest_micro_batch(facts, step, packed=way) for way in (True, False))
    if (step, packed, padded) not in told:
        found = _at_once(facts, step, packed, padded)
        told[step, packed, padded] = found and _as_cut(facts, step, found, packed if found.packed else padded)
    return told[step, packed, padded]


def _as_cut(facts: Facts, step: Step, found: Counted, largest: Largest) -> Counted:
    """What was counted, where scoring may hold more than training does, and where the largest micro-batch need not be full."""
    if found.packed:
        grown = sum(size for name, size in found.parts.items() if name in GROWING)
        found = found._replace(low=found.low - int((1 - least_filled(facts, step, largest)) * grown))
    counted = found.phases.get("evaluation")
    if not counted:
        return found
    parts = scored(facts, step, counted, largest.rows * largest.length, packed=found.packed)
    more = sum(parts.values()) - max(sum(held.values()) for held in found.phases.values())
    found = found._replace(phases=found.phases | {"evaluation": parts})
    if more <= 0:
        return found
    parts = parts | {name: size for name, size in found.parts.items() if name == "reserve"}
    return found._replace(peak=found.peak + more, high=found.high + more, most=found.most + more, parts=parts)


def _at_once(facts: Facts, step: Step, packed: Largest, padded: Largest) -> Counted | None:
    alike = [c for c in counted(facts) if _way(c.step) == _way(step)]
    exact = next((c for c in alike if c.step == step), None)
    if exact is not None:
        return exact
    for known in sorted((c for c in alike if c.fit), key=lambda c: abs(c.step.micro_tokens - step.micro_tokens)):
        assert known.fit is not None
        rows, length, accumulates = packed if known.packed else padded
        if accumulates != known.accumulates:
            continue
        try:
            there, here = fitted.at(known.fit, *known.fit["at"]), fitted.at(known.fit, rows, length, step.rank)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            continue
        if here is None or there is None or not there.peak:
            continue
        factor = here.peak / there.peak
        peak, low, high, most = (int(factor * size) for size in (known.peak, known.low, known.high, known.most))
        parts = dict(here.parts)
        if "reserve" in known.parts:  # what the allocator keeps beyond the tensors follows them roughly
            parts["reserve"], high = max(peak - sum(parts.values()), 0), int(RESERVE * high)
        trained = known.trained and (known.trained[0] + (step.rank - known.step.rank) * known.trained[1], known.trained[1])
        ways = known.packed, known.accumulates
        return Counted(step, peak, parts, low, high, here.phases, most, None, trained, known.libraries, *ways)
    return None


def parameters(facts: Facts, step: Step) -> int | None:
    """How many parameters such a step trains, whatever its size, where one was counted."""
    for known in counted(facts):
        if known.trained is not None and _learning(known.step) == _learning(step):
            return known.trained[0] + (step.rank - known.step.rank) * known.trained[1]
    return None


NEAR = math.log(1.6)
"""How far a step's memory by the formula may be from what is free, so that a trace could decide otherwise."""
SHOWN = -1.0
"""In the place of how far it is, where its memory is told: nearer than near."""
_ASKED: ContextVar[dict[Step, float] | None] = ContextVar("asked", default=None)
_SHOWN_TO_NOBODY: ContextVar[bool] = ContextVar("shown_to_nobody", default=False)


@contextmanager
def asking() -> Iterator[dict[Step, float]]:
    """Within it is noted of which steps a formula decides whether they fit, though a trace may say otherwise; and how far from
    what is free their memory is, 0 where it is the same; and of which a sentence tells the memory (`SHOWN`)."""
    asked: dict[Step, float] = {}
    token = _ASKED.set(asked)
    try:
        yield asked
    finally:
        _ASKED.reset(token)


def note(step: Step, needed: float, free: int) -> bool:
    """A formula decided whether that step fits, by what it needs and what is free; whether a trace could decide otherwise."""
    asked, off = _ASKED.get(), abs(math.log(max(needed, 1) / max(free, 1)))
    if asked is not None and off <= NEAR:
        asked[step] = min(asked.get(step, off), off)
    return off <= NEAR


def note_shown(step: Step) -> None:
    """A number that a person is shown is that step's memory by a formula."""
    asked = _ASKED.get()
    if asked is not None and not _SHOWN_TO_NOBODY.get():
        asked[step] = SHOWN


@contextmanager
def shown_to_nobody() -> Iterator[None]:
    """Within it something is decided of which only the outcome is told, as on other facts: `note_shown` notes nothing."""
    token = _SHOWN_TO_NOBODY.set(True)
    try:
        yield
    finally:
        _SHOWN_TO_NOBODY.reset(token)


def one_of_each_way(facts: Facts, asked: dict[Step, float]) -> list[Step]:
    """Of the steps that differ in sizes alone the one nearest to what is free: the fit of its trace tells the others."""
    nearest: dict[tuple[Any, ...], Step] = {}
    for step in sorted(asked, key=lambda step: asked[step]):
        nearest.setdefault((*_way(step), largest_micro_batch(facts, step, packed=True).accumulates), step)
    return list(nearest.values())


class Tried(NamedTuple):
    """Seconds that the operations of a traced step took here, or take on a card by what is known of its speeds."""

    token: float
    """Of a token in training."""
    update: float
    """Of the optimizer, once a step, whatever its batch."""
    scored: float
    """Of a token that is only scored."""
    starts: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Operations that the host starts: for a micro-batch in training, for the optimizer, for a micro-batch that is scored."""
    starting: float = 1e-5
    """Of the host, for each of them."""
    tokens: float = math.inf
    """Of that micro-batch, an everyday one."""
    waited: float = 0.0
    """Of the optimizer, once a step, where host and card wait for each other in it; it is in nothing else then."""


def tried(facts: Facts, method: str, precision: str, checkpointing: bool) -> Tried | None:
    """Of the newest traced step of that kind that was tried."""
    return next((told for step, told in every_tried(facts) if _timed_kind(step) == (method, precision, checkpointing)), None)


def every_tried(facts: Facts) -> Iterator[tuple[Step, Tried]]:
    """The traced steps of all parameters that were tried, the newest first. What is not understood is left out."""
    for entry in reversed((facts.measured.memory_profile or {}).get("steps") or ()):
        try:
            step, told = Step(**{k: v for k, v in entry["step"].items() if k in NAMES}), entry["seconds"]
            train, update, scored = (float(told.get(f"{of}_starts", 0.0)) for of in ("train", "update", "evaluate"))
            starts, usual = (train, update, scored), Tried(0.0, 0.0, 0.0)
            of_host = float(told.get("starting", usual.starting)), float(told.get("tokens", usual.tokens))
            waited = float(told.get("waited", usual.waited))
            of_card = float(told["train"]), float(told.get("update", 0.0)), float(told["evaluate"])
            found = Tried(*of_card, starts, *of_host, waited)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        sound = 0 < found.token < SLOWEST and all(0 <= n < SLOWEST for n in (found.update, found.scored, found.waited))
        sound = sound and all(0 <= n < MOST_STARTS for n in found.starts) and 0 <= found.starting < SLOWEST and found.tokens >= 1
        if sound and step.trained == "all" and step.method in METHODS and isinstance(step.micro_tokens, int):
            yield step, found


def _timed_kind(step: Step) -> tuple[Any, ...]:
    return step.method, step.precision, step.gradient_checkpointing


def as_facts(step: Step, peak: int, parts: dict[str, int], **more: Any) -> dict[str, Any]:
    """An entry of `memory_profile.steps`; `more` are `low`, `high`, `phases`, `most` and `fit`."""
    return {"step": asdict(step), "peak": peak, "parts": parts} | more


def _learning(step: Step) -> tuple[Any, ...]:
    return step.method, step.trained, step.last_layers, step.target_modules, step.dora, bool(step.rank)


def _kind(step: Step) -> tuple[Any, ...]:
    return step.method, step.precision, step.gradient_checkpointing, step.optimizer, step.trained, step.last_layers


def _way(step: Step) -> tuple[Any, ...]:
    adapters = (bool(step.rank), bool(step.dropout), step.adapter_dtype, step.target_modules, step.dora)
    return (*_kind(step), *adapters)


def from_runs(facts: Facts, method: str) -> float:
    """By how much earlier runs of that method on this device differed from their prediction, where three agreed."""
    factor = ((facts.measured.memory_profile or {}).get("runs") or {}).get(method)
    return min(max(float(factor), OF_RUNS[0]), OF_RUNS[1]) if isinstance(factor, int | float) else 1.0
