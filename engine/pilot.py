"""What a pilot will do: its candidates, their plans, and after which steps they are compared (`pilot_course.py`).

The protocol follows E13 and E34 (docs/method-guide.md, Sources). Every candidate is an
ordinary run under its full-length schedule that is only paused: the winner is resumed and loses nothing. With fewer than
2,000 rows a slice says little and whole runs are cheap, so the candidates are cross-validated instead, and the winner is
trained once more on the usual split.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import compare, groups
from engine.inspect import DataInspection, ModelInspection
from engine.planning import in_batches, plan_for, steps_of
from engine.prediction.candidates import with_counted_steps
from engine.refusals import check_fits
from recommender.assignment import field_of
from recommender.counting import counted_rows
from recommender.errors import InputError, Refused
from recommender.facts import Facts
from recommender.figures import duration
from recommender.plan import Plan
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation

FEWEST_ROWS = 2_000
"""Below, candidates are cross-validated to their end."""
FOLDS = 3
"""Of that cross-validation where the recommendation names no number."""
FEWEST_STEPS = 100
FULL_IS_SAFE = 0.2
"""Share of its run before which full fine-tuning is not given up: it starts slower than adapters and overtakes (E10)."""
BUDGET_SHARE = 0.15
"""Of the time there is, that a pilot may take."""
RAISED = 3.0
"""The leader's learning rate is also tried times this: it decides more than the method does (E4)."""
FINAL = "final-"
"""Begin of the key of a candidate's run on the usual split, after a cross-validation."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a pilot will do."""

    mode: str
    """`slice`, or `folds` where there are too few rows."""
    plans: dict[str, Plan]
    labels: dict[str, str]
    """Name of each candidate, by the key of its run (in `folds` mode without the fold)."""
    stages: list[int]
    """Steps after which the candidates are compared."""
    raised: dict[str, str]
    """Candidates with a raised learning rate: key → key of the one it is raised from."""
    hours: float
    """Of the slices, or of the cross-validation; estimated."""
    left_out: list[str] = field(default_factory=list)
    """What was not taken in, and why."""


def create(root: Path, made: Planned, advice: Recommendation, facts: Facts) -> groups.Group:
    """A group of that pilot's runs below `root`; nothing is started.

    Raises:
        InputError: the folder cannot be written.
    """
    kept = {name: getattr(made, name) for name in ("mode", "labels", "stages", "raised", "left_out")}
    return groups.create(root, "pilot", made.plans, advice=advice, facts=facts, **kept)


def planned(
    advice: Recommendation,
    model: ModelInspection,
    data: DataInspection,
    facts: Facts,
    *,
    methods: Sequence[str] | None = None,
    share: float = 0.1,
    seed: int = 1,
    assignments: Sequence[str] = (),
    own: Mapping[str, Sequence[str]] | None = None,
    anyway: bool = False,
) -> Planned:
    """The candidates, their plans and where they are compared.

    Without `methods` those still in the running are taken. With two of them or one, the leader's learning rate times 3 is
    tried too, if there is time. `own` holds assignments of single methods, after those of all. `anyway` takes slices however
    few rows there are.

    Raises:
        Refused: a method cannot run, or the pilot takes more than its share of the time.
        InputError: an assignment is not allowed, or no validation rows are left to judge by.
    """
    chosen = _candidates(advice, methods)
    leader = chosen[0]
    batch = advice.candidate(leader).settings.effective_batch
    of_method = {m: [f"effective_batch={batch}", *assignments, *(own or {}).get(m, ())] for m in chosen}
    # The same rows in every step of every candidate: as the leader has it.
    batches = [a for a in of_method[leader] if field_of(a) == "effective_batch"][-1:]
    made: dict[str, Plan] = {}
    for method in chosen:
        made[method] = plan_for(
            advice, model, data, method=method, seed=seed, assignments=[*of_method[method], *batches], anyway=anyway
        )
    facts = with_counted_steps(facts, lambda _: made.values(), advised=False)
    for plan in made.values():
        check_fits(plan, facts, anyway=anyway)
    if made[leader].data.validation_rows == 0:
        raise InputError("A pilot judges by the validation rows, and there are none; give more rows or set data.validation_rows.")
    left_out = [f"{METHOD_NAMES[m]}: {_why_out(advice, m)}" for m in METHODS if m not in chosen]
    labels = {m: compare.label(made[m]) for m in chosen}
    few = in_batches(made[leader], facts.data, counted_rows(facts.data)) < FEWEST_ROWS
    if few and not anyway:
        if len(made) == 1:
            _raise(leader, made, labels)
        return _in_folds(advice, facts, made, labels, left_out)
    return _in_slices(advice, facts, made, labels, left_out, share=share)


def _candidates(advice: Recommendation, methods: Sequence[str] | None) -> list[str]:
    """Their methods, the leader first: what is advised, or comes nearest to it.

    Raises:
        InputError: there are too many of them, or the same twice.
    """
    running = [c.method for c in sorted(advice.candidates, key=lambda c: -c.points) if c.viable]
    chosen = list(methods or running or METHODS[:2])
    if len(set(chosen)) < len(chosen) or not 1 <= len(chosen) <= 3:
        raise InputError("A pilot takes one to three different methods.")
    leader = next((m for m in (advice.verdict, *running) if m in chosen), chosen[0])
    return sorted(chosen, key=lambda m: m != leader)


def _raise(leader: str, made: dict[str, Plan], labels: dict[str, str]) -> str:
    """Take in the leader with its learning rate raised; returns its key."""
    key = f"{leader}-raised"
    made[key] = made[leader].model_copy(update={"learning_rate": RAISED * made[leader].learning_rate})
    labels[key] = f"{labels[leader]}, learning rate x{RAISED:g}"
    return key


def _in_slices(
    advice: Recommendation, facts: Facts, made: dict[str, Plan], labels: dict[str, str], left_out: list[str], *, share: float
) -> Planned:
    """Every candidate to the first stage, the better ones on; the leader is tried with a raised rate too, if there is time.

    Raises:
        Refused: it takes more than its share of the time.
    """
    leader = next(iter(made))
    totals = {k: steps_of(p, facts.data) for k, p in made.items()}
    stages = stages_of(max(totals.values()), min(totals.values()), share)
    whole = {k: _hours(advice, p, facts) for k, p in made.items()}
    hours = _slice_hours(whole, totals, stages)
    budget = facts.goal.time_budget_hours
    raised = {}
    if len(made) < 3:
        with_raised = _slice_hours(whole | {"raised": whole[leader]}, totals | {"raised": totals[leader]}, stages)
        if len(made) == 1 or budget is None or with_raised <= BUDGET_SHARE * budget:
            raised = {_raise(leader, made, labels): leader}
            hours = with_raised
        else:
            left_out.append(f"{labels[leader]}, learning rate x{RAISED:g}: there is no time for it")
    if budget is not None and hours > BUDGET_SHARE * budget:
        raise Refused(
            f"The pilot would take about {duration(3600 * hours)}, more than {BUDGET_SHARE:.0%} of the "
            f"{duration(3600 * budget)} allowed. Name fewer candidates with --methods, give it more --hours, or start the "
            "recommended run."
        )
    return Planned("slice", made, labels, stages, raised, hours, left_out)


def _why_out(advice: Recommendation, method: str) -> str:
    code = advice.candidate(method).removed_by
    return next((r.text for r in advice.reasons if r.code == code), "not among the methods asked for")


def _hours(advice: Recommendation, plan: Plan, facts: Facts) -> float:
    return compare.hours([(plan, advice.candidate(plan.method))], facts)


def _slice_hours(whole: Mapping[str, float], totals: Mapping[str, int], stages: Sequence[int]) -> float:
    """Hours of all slices: every candidate to the first stage, and the two slowest to the last."""
    a_step = [hours / max(totals[key], 1) for key, hours in whole.items()]
    return sum(a_step) * stages[0] + sum(sorted(a_step)[-2:]) * (stages[-1] - stages[0])


def _in_folds(
    advice: Recommendation, facts: Facts, made: dict[str, Plan], labels: dict[str, str], left_out: list[str]
) -> Planned:
    folds = advice.settings.folds if advice.settings.folds > 1 else FOLDS
    in_folds = {
        f"{key}-fold-{fold + 1}": compare.in_fold(plan, folds, fold) for fold in range(folds) for key, plan in made.items()
    }
    hours = compare.hours(((p, advice.candidate(p.method)) for p in in_folds.values()), facts, folds)
    hours += max(_hours(advice, p, facts) for p in made.values())
    budget = facts.goal.time_budget_hours
    if budget is not None and hours > budget:
        raise Refused(
            f"With {counted_rows(facts.data)} rows the candidates are cross-validated to the end, in {folds} folds; that "
            f"would take about {duration(3600 * hours)}, more than the {duration(3600 * budget)} allowed. Name fewer "
            "candidates with --methods, give it more --hours, or start the recommended run."
        )
    finals = {f"{FINAL}{key}": plan for key, plan in made.items()}
    return Planned("folds", in_folds | finals, labels, [], {}, hours, left_out)


def stages_of(longest: int, shortest: int, share: float) -> list[int]:
    """Steps after which candidates are compared: after `share` of the longest run but 100 steps at least, and after 20%."""
    first = min(max(math.ceil(share * longest), FEWEST_STEPS), shortest)
    second = min(max(math.ceil(FULL_IS_SAFE * longest), first), shortest)
    return [first] if second == first else [first, second]
