"""Finished or running runs beside one another: what differs in their plans, and how their results compare."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from engine.state import RunState
    from recommender.plan import Plan

LETTERS = "ABCD"
MOST = len(LETTERS)
NOT_TOLD = ("version", "overrides", "train_fingerprint", "eval_fingerprint", "fingerprint", "labels")


@dataclass(slots=True)
class Compared:
    """One of the runs."""

    letter: str
    run: "RunDirectory"
    state: "RunState"
    plan: "Plan | None"
    report: dict[str, Any]


@dataclass(slots=True)
class Comparison:
    """All of them."""

    runs: list[Compared]
    settings: list[tuple[str, list[str]]] = field(default_factory=list)
    """Name and values of the settings that differ."""
    intervals: dict[str, Any] = field(default_factory=dict)
    """By letter and metric: mean, low, high, and the difference to the best; empty where nothing can be paired."""
    best: str | None = None
    why_not: str = ""
    """Why there are no intervals."""


def compare(runs: "Sequence[RunDirectory]") -> Comparison:
    """Read the runs and put them side by side; blocks, so it is called in a thread."""
    found = [_read(letter, run) for letter, run in zip(LETTERS, runs, strict=False)]
    made = Comparison(found, differing([c.plan for c in found]))
    _pair(made)
    return made


def _read(letter: str, run: "RunDirectory") -> Compared:
    from recommender.errors import LoracleError

    try:
        plan = run.plan()
    except LoracleError:
        plan = None
    try:
        report = run.report() or {}
    except LoracleError:
        report = {}
    return Compared(letter, run, run.state(), plan, report)


def differing(plans: "Sequence[Plan | None]") -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all plans, in the order of the plan."""
    flat = [dict(_flat(plan.model_dump(mode="json"))) if plan is not None else {} for plan in plans]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, [_written(one.get(name)) for one in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _flat(content: dict[str, Any]) -> "list[tuple[str, Any]]":
    pairs: list[tuple[str, Any]] = []
    for name, value in content.items():
        if name in NOT_TOLD:
            continue
        if name in ("model", "data") and isinstance(value, dict):
            pairs += [(f"{name}.{inner}", v) for inner, v in _flat(value)]
        else:
            pairs.append((name, value))
    return pairs


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_written(inner)}" for name, inner in value.items())
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


def _pair(made: Comparison) -> None:
    """Intervals by the paired bootstrap, where all runs were scored on the same rows."""
    from engine.files import read_json
    from engine.metrics import bootstrap
    from engine.metrics.kept import paired
    from engine.metrics.kinds import Answers
    from engine.metrics.registry import kind_of

    scored = [c for c in made.runs if c.plan is not None and c.report]
    if len(scored) < 2:
        made.why_not = "not_scored"
        return
    first = scored[0].plan
    assert first is not None
    try:
        kept = {c.letter: read_json(c.run.scores / "after.json", None) for c in scored}
        kind = kind_of(first.task, scored[0].report.get("labels") or [])
        same_task = all(c.plan is not None and c.plan.task == first.task for c in scored)
        pairs = paired(kind, [[one] for one in kept.values()]) if same_task else None
        if pairs is None:
            made.why_not = "other_rows"
            return
        truth, said = pairs
        answers: dict[str, list[Answers]] = {letter: [one] for letter, one in zip(kept, said, strict=True)}
        metric = first.metric if first.metric in kind.measures else next(iter(kind.measures))
        found = bootstrap.side_by_side(kind, truth, answers, metric)
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError):  # files may be missing or damaged
        made.why_not = "not_scored"
        return
    made.best, made.intervals = found["best"], found["methods"]
