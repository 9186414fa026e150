"""Comparing methods on a person's own rows: the plans of a fair comparison, and what came out of it.

The same budget means: the same rows in the same order, the same validation and held-out rows, the same batch, and the
same most passes over the rows for every method. Each has its own learning rate, rank and dropout from the table (they
differ by a factor of ten and more; one rate for all would compare mistakes) and keeps its own best checkpoint by the
validation rows. The passes are those of the method that the table gives the most: adapters learn slower, and whoever is
done earlier is stopped early, or loses nothing but time.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from engine.files import read_json
from engine.groups import Group, Task, done
from engine.inspect import DataInspection, ModelInspection
from engine.metrics import bootstrap
from engine.metrics.kept import paired
from engine.metrics.kinds import Answers, Kind
from engine.metrics.measures import MEASURES
from engine.metrics.registry import kind_of
from engine.planning import plan_for, steps_of
from engine.prediction.candidates import with_counted_steps
from engine.refusals import check_fits
from recommender.assignment import as_typed, field_of
from recommender.errors import InputError
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import METHOD_NAMES, Candidate, Recommendation
from recommender.shape import shape_of
from recommender.timing import start_up

OF_ROWS_ALONE = "The intervals say how far other rows might move the scores; another seed may move them as far (E13)."
SEVERAL = 3
"""Seeds from which on their noise shows."""
SHARED = ("epochs", "effective_batch", "max_length", "evaluations", "patience", "early_stopping", "class_weights", "metric")
"""Settings in which the methods of a comparison are equal."""


def plans(
    advice: Recommendation,
    model: ModelInspection,
    data: DataInspection,
    facts: Facts,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    folds: int | None = None,
    assignments: Sequence[str] = (),
    anyway: bool = False,
) -> dict[str, Plan]:
    """The plans of a comparison, one a method, seed and fold; one of every method before the next seed.

    Raises:
        Refused: a method would not fit or would be wasted, and `anyway` was not said or does not help.
        InputError: an assignment is not allowed; folds beside a held-out file; one run alone.
    """
    alone = len(methods) < 2 and len(seeds) < 2 and folds is None
    if alone or len(set(methods)) < len(methods):
        raise InputError("A comparison needs two or three different methods, or several seeds of one (--seeds 1,2,3).")
    if folds is not None and data.facts.eval_rows is not None:
        flag = "--eval" if data.eval_path is not None else "--eval-rows"
        raise InputError(f"--folds and {flag} exclude each other: every row is held out in one of the folds.")
    if folds is not None and data.facts.groups is not None and data.facts.groups < folds:
        raise InputError(f"--folds is {folds}, and the rows are of {data.facts.groups} groups; take fewer folds.")
    assigned = {field_of(a) for a in assignments}
    for name, flag in (("seed", "--seeds"), ("folds", "--folds"), ("fold", "--folds")):
        if name in assigned:
            raise InputError(f"--set {name}: use {flag} instead.")
    advice = challenged(advice, seeds, folds)
    longest = max((advice.candidate(m) for m in methods), key=lambda c: c.settings.epochs).settings
    shared = [f"{name}={as_typed(getattr(longest, name))}" for name in SHARED]
    made: dict[str, Plan] = {}
    for method in methods:
        plan = plan_for(
            advice,
            model,
            data,
            method=method,
            assignments=[*shared, *assignments],
            anyway=anyway,
        )
        if folds is not None and "warmup_steps" not in assigned:  # another part is held out than the advice has it
            longer = steps_of(plan, facts.data, folds) / steps_of(plan, facts.data)
            plan = plan.model_copy(update={"warmup_steps": round(longer * plan.warmup_steps)})
        made[method] = plan
    facts = with_counted_steps(facts, lambda _: made.values(), advised=False)
    for plan in made.values():
        check_fits(plan, facts, anyway=anyway)
    return {
        f"{method}-{seed}" + (f"-fold-{fold + 1}" if folds else ""): in_fold(plan.model_copy(update={"seed": seed}), folds, fold)
        for seed in seeds
        for fold in range(folds or 1)
        for method, plan in made.items()
    }


def challenged(advice: Recommendation, seeds: Sequence[int], folds: int | None) -> Recommendation:
    """The advice to a comparison. What it is told to do first where rows are few, a comparison of several seeds does: every run
    scores the linear probe too."""
    closed = [r for r in advice.reasons if r.code.startswith("G")]
    if [r.code for r in closed] != ["G5_baseline_first"] or (len(seeds) < SEVERAL and folds is None):
        return advice
    others = tuple(r for r in advice.reasons if r not in closed)
    return advice.model_copy(update={"verdict": advice.best.method, "reasons": others})


def in_fold(plan: Plan, folds: int | None, fold: int) -> Plan:
    """The plan with that fold held out, counted from 0; the plan itself without folds."""
    if folds is None:
        return plan
    without = {"eval": None, "eval_fingerprint": None, "eval_rows": None, "held_out_rows": None}
    dealt = plan.data.model_copy(update=without | {"folds": folds, "fold": fold})
    return Plan.model_validate(plan.model_dump() | {"data": dealt.model_dump()})


def hours(made: Iterable[tuple[Plan, Candidate]], facts: Facts, folds: int | None = None) -> float:
    """About how long the runs take, from the table's run of each method."""
    begun = start_up(facts, shape_of(facts.model, facts.data.task)) / 3600
    return sum(
        begun + max(c.hours.predicted - begun, 0.0) * steps_of(plan, facts.data, folds) / max(c.settings.total_steps, 1)
        for plan, c in made
    )


def next_task(group: Group, failed: frozenset[str]) -> Task | None:
    """The first run that is not done; a failed one does not keep the others from theirs."""
    return next((Task(key) for key in group.plans() if key not in failed and not done(group.run(key))), None)


def report(group: Group, failed: frozenset[str]) -> dict[str, Any]:
    """What came out, by method: quality with intervals, time, memory, size, and how far it overfits."""
    plans_of = group.plans()
    arms: dict[str, dict[str, list[str]]] = {}  # method → seed → keys of its folds
    for key, plan in plans_of.items():
        arms.setdefault(plan.method, {}).setdefault(str(plan.seed), []).append(key)
    first = next(iter(plans_of.values()))
    baselines = _baselines(group, list(plans_of)) if first.data.folds is None else {}
    compared, metric = judged(group, arms, first.metric), first.metric
    rows = []
    for method, by_seed in arms.items():
        keys = [key for keys in by_seed.values() for key in keys]
        rows.append(
            {"method": method, "name": label(plans_of[keys[0]]), **_costs(group, [k for k in keys if done(group.run(k))])}
        )
        rows[-1] |= {"runs": keys, "failed": {k: _cause(group, k) for k in keys if k in failed}}
        rows[-1] |= {"learning_rate": plans_of[keys[0]].learning_rate, **compared["methods"].get(method, {})}
    return {
        "version": 1,
        "kind": "compare",
        "name": group.name,
        "metric": metric,
        "best": compared["best"],
        "held_out": compared["rows"],
        "seeds": sorted({plan.seed for plan in plans_of.values()}),
        "seeds_scored": sorted(map(int, compared["seeds"])),
        "folds": first.data.folds,
        "budget": budget(first),
        "methods": rows,
        "baselines": baselines,
        "failed": sorted(failed),
        "complete": all(done(group.run(key)) for key in plans_of),
        "statements": [
            *statements(rows, compared["best"], metric),
            *([OF_ROWS_ALONE] if len(compared["methods"]) > 1 and len(compared["seeds"]) == 1 else []),
            *unbeaten(rows, baselines, compared["best"], metric),
        ],
    }


def budget(plan: Plan) -> str:
    """What "the same budget" meant, in a sentence."""
    early = " and stopped early by the validation rows" if plan.early_stopping else ""
    passes = f"up to {plan.epochs:g} passes each{early}"
    if plan.epochs == 1:
        once = "at most one pass each"
        passes = "at most one pass each and stopped early by the validation rows" if plan.early_stopping else once
    return (
        f"Same rows, same order, batches of {plan.effective_batch}, {passes}; "
        "learning rate and rank that were not set are each method's own from the table, and each keeps its best checkpoint."
    )


def judged(group: Group, arms: dict[str, dict[str, list[str]]], metric: str) -> dict[str, Any]:
    """The arms side by side on their held-out rows, over the seeds of which every arm has all folds."""
    nothing: dict[str, Any] = {"best": None, "methods": {}, "rows": 0, "seeds": []}
    begun = {arm: by_seed for arm, by_seed in arms.items() if any(all(_scored(group, k) for k in ks) for ks in by_seed.values())}
    seeds = [s for s in next(iter(arms.values())) if all(all(_scored(group, k) for k in by[s]) for by in begun.values())]
    if not begun or not seeds:
        return nothing
    kind = kind_in(group, next(iter(begun.values()))[seeds[0]][0])
    files = {(arm, seed): [_kept(group, key) for key in by[seed]] for arm, by in begun.items() for seed in seeds}
    found = paired(kind, list(files.values()))
    if found is None:
        return nothing  # data changed under way
    truth, answers = found
    by_arm: dict[str, list[Answers]] = {arm: [] for arm in begun}
    for (arm, _), said in zip(files, answers, strict=True):
        by_arm[arm].append(said)
    return bootstrap.side_by_side(kind, truth, by_arm, metric) | {"rows": len(truth), "seeds": list(seeds)}


def kind_in(group: Group, key: str) -> Kind:
    """The metrics of a finished run of the group."""
    return kind_of(group.run(key).plan().task, read_json(group.run(key).report_file)["labels"])


def _kept(group: Group, key: str) -> dict[str, Any]:
    content: dict[str, Any] = read_json(group.run(key).scores / "after.json", None)
    return content


def _scored(group: Group, key: str) -> bool:
    return done(group.run(key)) and (group.run(key).scores / "after.json").is_file()


def _costs(group: Group, keys: Sequence[str]) -> dict[str, Any]:
    """Time, memory, size and fit of finished runs: means, and the highest peak."""
    reports = [group.run(key).report() or {} for key in keys]
    if not reports:
        return {"done": 0}
    fits = [r["fit"] for r in reports if r["fit"]["validation_loss"] is not None]
    mean_fit = {n: sum(f[n] for f in fits) / len(fits) for n in ("training_loss", "validation_loss")} if fits else None
    return {
        "done": len(reports),
        "seconds": fmean([r["seconds"]["total"] for r in reports]),
        "training_seconds": fmean([r["seconds"]["training"] for r in reports]),
        "memory_peak": max(r["memory"]["peak"] for r in reports),
        "trained_parameters": reports[0]["trained_parameters"],
        "model_bytes": reports[0]["model_bytes"],
        "best_step": fmean([r["best_step"] for r in reports]),
        "steps": fmean([r["steps"] for r in reports]),
        "total_steps": reports[0]["total_steps"],
        "fit": mean_fit | {"gap": mean_fit["validation_loss"] - mean_fit["training_loss"]} if mean_fit else None,
    }


def _baselines(group: Group, keys: Sequence[str]) -> dict[str, Any]:
    """What any fine-tune must beat, on the same held-out rows: as the first finished run found them."""
    scores = next((group.run(k).report() or {} for k in keys if _scored(group, k)), {}).get("scores", {})
    return {n: {m: v for m, v in scores[n].items() if m in MEASURES} for n in ("probe", "majority") if n in scores}


def _cause(group: Group, key: str) -> str:
    run = group.run(key)
    return str((run.state().end or {}).get("cause") or "its worker died unexpectedly")


def label(plan: Plan) -> str:
    """The method's name, and what part of the model it trains where that is not all it might."""
    part = {"all": "", "no_embeddings": ", embeddings frozen", "last_layers": f", last {plan.last_layers} layers"}[plan.trained]
    return METHOD_NAMES[plan.method] + part


def _spread(row: Mapping[str, Any], metric: str) -> str:
    """Mean and spread over the seeds, which say how much chance in the training moves the score."""
    found, scores = row[metric], row[metric]["by_seed"]
    return (
        f"{row['name']}: {MEASURES[metric].words} {found['mean']:.3f} on average over {len(scores)} seeds, from"
        f" {min(scores):.3f} to {max(scores):.3f} (standard deviation {found['sd']:.3f})."
    )


def statements(rows: Sequence[dict[str, Any]], best: str | None, metric: str) -> list[str]:
    """Who is ahead of whom, and whether that may be chance."""
    if best is None:
        return ["No two methods have scores on the same held-out rows, so nothing can be said."]
    leader = next(row["name"] for row in rows if row["method"] == best)
    said = []
    measure = MEASURES[metric]
    words = f"{'points of ' if measure.points else ''}{measure.words}"
    for row in rows:
        if row["method"] == best or metric not in row:
            continue
        d = row[metric]["difference"]
        size, low, high = (measure.difference(d[k]) for k in ("mean", "low", "high"))
        span = f"{row['name']} scored {size} {words} against {leader} (95% interval {low} to {high})"
        apart = d["low"] > 0 or d["high"] < 0
        verdict = ", which is worse" if apart else "; the interval contains zero, so they are not shown to differ"
        said.append(f"{span}{verdict}.")
    said += [_spread(row, metric) for row in rows if len((row.get(metric) or {}).get("by_seed") or ()) > 1]
    return said or [f"Only {leader} has scores; nothing can be compared."]


def unbeaten(
    rows: Sequence[dict[str, Any]], baselines: Mapping[str, Mapping[str, float]], best: str | None, metric: str
) -> list[str]:
    """What costs nothing and that no method did better than on the same held-out rows: the figure that decides whether to
    train at all."""
    leader = next((row[metric]["mean"] for row in rows if row["method"] == best and metric in row), None)
    if leader is None:
        return []
    measure = MEASURES[metric]
    said = {
        "probe": "No method did better than a linear probe on the untouched model",
        "majority": "No method did better than a constant answer",
    }
    return [
        f"{said[name]}: {measure.words} {scores[metric]:.3f} against {leader:.3f} at best."
        for name, scores in baselines.items()
        if metric in scores and (scores[metric] >= leader if measure.higher_is_better else scores[metric] <= leader)
    ]
