"""The course of a pilot: who leads at each stage, who goes, what is to be done next, and what it showed.

Everything follows from the scores that the runs kept at their pauses, so it is found anew whenever it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine import compare
from engine.events import read_events
from engine.files import read_json
from engine.groups import Group, Task, done
from engine.metrics.bootstrap import mean_gap
from engine.metrics.kept import joined
from engine.metrics.kinds import Answers, mean_loss
from engine.pilot import FINAL
from engine.rundir import RunDirectory

CLEAR = 2.0
"""Standard errors by which a gap must be above zero to count."""
BEHIND = "clearly behind"
TRUST = (
    "How far to trust this: over 63 published runs of one 3B model on one data set, keeping the best of three by loss after "
    "10% of the steps found the eventual winner about 80% of the time and cost 0.4 points of accuracy on average (a random "
    "pick: 5.3). Short runs flatter high learning rates, and say nothing about rank or the number of epochs."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """The candidates at one stage."""

    order: list[str]
    """By loss, the lowest first."""
    loss: dict[str, float]
    gap: dict[str, tuple[float, float]]
    """Loss above the leader's, and its standard error."""
    left: list[str]
    """Who stays, the leader first."""
    dropped: dict[str, str]
    """Who goes, and why."""


def stand(losses: Mapping[str, Answers], raised: Mapping[str, str], keep: frozenset[str]) -> Standing:
    """Who leads and who goes, from each candidate's losses on the same validation rows; those in `keep` do not go.

    A raised learning rate must be clearly ahead of the usual one, for short runs flatter it (E1).
    """
    mean = {key: mean_loss(answers) for key, answers in losses.items()}
    order = sorted(losses, key=lambda key: mean[key])
    dropped: dict[str, str] = {}
    for key, base in raised.items():
        if key in losses and base in losses:
            ahead, error = mean_gap(losses[base], losses[key])
            if ahead <= CLEAR * error:
                dropped[key] = "the higher learning rate is not clearly ahead, and short runs flatter it"
    leader = next(key for key in order if key not in dropped)
    gap = {key: mean_gap(losses[key], losses[leader]) for key in order if key != leader}
    left = [leader]
    for key in order:
        if key == leader or key in dropped:
            continue
        behind, error = gap[key]
        if key in keep:
            left.append(key)
        elif behind > CLEAR * error:
            dropped[key] = BEHIND
        elif len(left) >= 2:
            dropped[key] = "only the first two go on"
        else:
            left.append(key)
    return Standing(order, mean, gap, left, dropped)


@dataclass(slots=True)
class Course:
    """How far a pilot has come; found anew from the files of its runs."""

    task: Task | None = None
    """What the next comparison still lacks."""
    history: list[tuple[int, Standing]] = field(default_factory=list)
    winner: str | None = None


def course(group: Group, failed: frozenset[str]) -> Course:
    """Go through the stages as far as there are scores."""
    content, plans = group.content(), group.plans()
    in_play = [key for key in plans if key not in failed]
    found = Course()
    longest = content["stages"][-1]
    for step in content["stages"]:
        if len(in_play) < 2:
            break
        lacking = next((key for key in in_play if not done(group.run(key), step)), None)
        if lacking is not None:
            found.task = Task(lacking, step)
            return found
        losses = {key: joined([read_json(group.run(key).validation_scores(step), None)]) for key in in_play}
        keep = frozenset(key for key in in_play if plans[key].method == "full" and step < longest)
        found.history.append((step, stand(losses, content["raised"], keep)))
        in_play = found.history[-1][1].left
    found.winner = in_play[0] if in_play else None
    return found


def next_task(group: Group, failed: frozenset[str]) -> Task | None:
    """The next slice, or the winner's way to the end."""
    content = group.content()
    if content["mode"] == "folds":
        return _next_fold(group, failed)
    found = course(group, failed)
    if found.task is not None:
        return found.task
    if found.winner is None or done(group.run(found.winner)):
        return None
    return Task(found.winner)


def _next_fold(group: Group, failed: frozenset[str]) -> Task | None:
    keys = list(group.plans())
    for key in keys:
        if not key.startswith(FINAL) and key not in failed and not done(group.run(key)):
            return Task(key)
    best = _cross_validated(group)["best"]
    final = f"{FINAL}{best}"
    return Task(final) if best is not None and final not in failed and not done(group.run(final)) else None


def _cross_validated(group: Group) -> dict[str, Any]:
    """The candidates side by side, every row held out once."""
    plans = group.plans()
    arms = {label: {"all": [k for k in plans if k.startswith(f"{label}-fold-")]} for label in group.content()["labels"]}
    return compare.judged(group, arms, next(iter(plans.values())).metric)


def report(group: Group, failed: frozenset[str]) -> dict[str, Any]:
    """What the pilot showed, how far it can be trusted, and the winner's result."""
    content = group.content()
    known: dict[str, Any] = {
        "version": 1,
        "kind": "pilot",
        "name": group.name,
        "mode": content["mode"],
        "left_out": content["left_out"],
        "failed": sorted(failed),
    }
    return known | (_folds_report(group) if content["mode"] == "folds" else _slice_report(group, failed))


def _slice_report(group: Group, failed: frozenset[str]) -> dict[str, Any]:
    labels, plans = group.content()["labels"], group.plans()
    found = course(group, failed)
    stages = [
        {
            "step": step,
            "scores": [
                {
                    "key": key,
                    "name": labels[key],
                    "learning_rate": plans[key].learning_rate,
                    "loss": standing.loss[key],
                    "metric": read_json(group.run(key).validation_scores(step), None)["score"].get(plans[key].metric),
                    "gap": standing.gap[key][0] if key in standing.gap else None,
                    "gap_error": standing.gap[key][1] if key in standing.gap else None,
                    "dropped": standing.dropped.get(key),
                }
                for key in standing.order
            ],
        }
        for step, standing in found.history
    ]
    winner = found.winner
    thrown = [r for r in group.begun() if r.path.name != winner]
    return {
        "metric": next(iter(plans.values())).metric,
        "stages": stages,
        "winner": winner,
        "winner_name": labels.get(winner),
        "run": group.run(winner).name if winner else None,
        "seconds_not_continued": sum(map(_seconds_of_steps, thrown)),
        "complete": winner is not None and done(group.run(winner)),
        "statements": _said(found, labels),
        "trust": TRUST,
    }


def _seconds_of_steps(run: RunDirectory) -> float:
    return sum(float(e["seconds"]) for e in read_events(run.events) if e["kind"] == "step")


def _said(found: Course, labels: Mapping[str, str]) -> list[str]:
    if found.winner is None:
        return ["Every candidate failed; see the runs."]
    if not found.history:
        return [f"Only {labels[found.winner]} is left: the other candidates failed."]
    said = []
    for step, standing in found.history:
        leader = standing.left[0]
        for key, (gap, error) in standing.gap.items():
            if gap >= 0:  # below zero: a raised rate that is not clearly ahead
                lead = f"{labels[leader]} leads {labels[key]} by {gap:.4f} loss (standard error {error:.4f}) after {step} steps"
                said.append(f"{lead}." if gap > CLEAR * error else f"{lead}, which may be chance.")
        said += [f"{labels[key]} was dropped: {why}." for key, why in standing.dropped.items() if why != BEHIND]
    last = found.history[-1][1]
    if len(last.left) > 1:
        said.append(f"The slices do not tell them apart; {labels[found.winner]} has the lower loss and goes on.")
    return said


def _folds_report(group: Group) -> dict[str, Any]:
    labels, plans = group.content()["labels"], group.plans()
    found = _cross_validated(group)
    metric = next(iter(plans.values())).metric
    rows = [
        {"key": key, "name": name, "method": plans[f"{FINAL}{key}"].method,
         "learning_rate": plans[f"{FINAL}{key}"].learning_rate, **found["methods"].get(key, {})}
        for key, name in labels.items()
    ]  # fmt: skip
    best = found["best"]
    folds = next(p.data.folds for p in plans.values() if p.data.folds)
    return {
        "folds": folds,
        "held_out": found["rows"],
        "metric": metric,
        "methods": rows,
        "winner": best,
        "winner_name": labels.get(best),
        "run": group.run(f"{FINAL}{best}").name if best else None,
        "complete": best is not None and done(group.run(f"{FINAL}{best}")),
        "statements": compare.statements([r | {"method": r["key"]} for r in rows], best, metric),
        "trust": f"Every row was held out once, in {folds} folds trained to the end. {compare.OF_ROWS_ALONE}",
    }
