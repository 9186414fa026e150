"""What the app asks of the engine and the recommender: blocking calls for threads, every import inside.

The heavy modules are imported on first use, after the first paint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.metrics.measures import MEASURES

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection
    from engine.inspection.child import Cancel, Progress
    from engine.rundir import RunDirectory
    from engine.state import RunState
    from recommender.facts import Facts, Goal, Machine
    from recommender.plan import Plan
    from recommender.questions import Question
    from recommender.recommendation import Recommendation


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list of runs."""

    run: "RunDirectory"
    status: str
    method: str
    metric: str
    score: float | None
    started: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything the recommendation screen shows and a start needs."""

    facts: "Facts"
    model: "ModelInspection"
    data: "DataInspection"
    recommendation: "Recommendation"
    questions: "tuple[Question, ...]"
    """All that can be said about the goal, and what each answer would lead to."""


def inspect_machine(runs: Path | None) -> "Machine":
    """What this machine has; never raises."""
    from engine.inspect import inspect_machine

    return inspect_machine(runs)


def inspect_model(name: str) -> "ModelInspection":
    """Facts about a model.

    Raises:
        InputError: it cannot be used.
    """
    from engine.inspect import inspect_model

    return inspect_model(name, weights=False)


def inspect_data(
    data: str,
    held_out: str | None,
    text_column: str | None,
    label_column: str | None,
    model_path: str | None,
    *,
    progress: "Progress",
    cancel: "Cancel",
) -> "DataInspection":
    """Facts about a file of rows, with tokens counted by the model's tokenizer where it is known.

    Raises:
        InputError: it cannot be used, or it was cancelled.
    """
    from engine.inspect import inspect_data

    return inspect_data(
        data,
        eval=held_out,
        text_column=text_column,
        label_column=label_column,
        model_path=model_path,
        progress=progress,
        cancel=cancel,
    )


def cancel_handle() -> "Cancel":
    """With it another thread ends `inspect_data`."""
    from engine.inspection.child import Cancel

    return Cancel()


def advise(machine: "Machine", model: "ModelInspection", data: "DataInspection", goal: "Goal | None" = None) -> Advice:
    """The recommendation for these facts; a CPU's speed is measured for it (0.3 s)."""
    from engine.inspect import together

    return _decided(together(machine, model, data, goal), model, data)


def reconsider(advice: Advice, goal: "Goal") -> Advice:
    """The recommendation for another goal, at once: machine, model and data are not looked at again."""
    return _decided(advice.facts.model_copy(update={"goal": goal}), advice.model, advice.data)


def _decided(facts: "Facts", model: "ModelInspection", data: "DataInspection") -> Advice:
    from recommender.decide import decide, recommend
    from recommender.questions import every_question

    return Advice(facts, model, data, recommend(facts), every_question(facts, decide))


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against starting a method."""

    text: str
    final: bool
    """Nobody can set it aside: it does not fit, or there is nothing to learn."""


def obstacle(advice: Advice, method: str) -> Obstacle | None:
    """What stands against starting that method; `None` when nothing does."""
    from engine.planning import check
    from recommender.errors import Refused

    candidate = advice.recommendation.candidate(method)
    try:
        check(advice.recommendation, candidate, anyway=False)
    except Refused as refused:
        try:
            check(advice.recommendation, candidate, anyway=True)
        except Refused as final:
            return Obstacle(final.message, True)
        return Obstacle(refused.message, False)
    return None


def start(advice: Advice, method: str, anyway: bool, runs: Path | None) -> "RunDirectory":
    """Write the plan for that method and start its worker.

    Raises:
        InputError: the runs folder cannot be written.
        Refused: it would not fit, or the advice is against it and `anyway` is not given.
    """
    from engine.inspect import inspect_model
    from engine.planning import plan_for
    from engine.runs import start

    model = advice.model
    if not model.weights_here:  # from the hub; as long as nobody wanted to train, its description was enough
        model = inspect_model(str(model.facts.id))
    chosen = None if method == advice.recommendation.verdict else method
    plan = plan_for(advice.recommendation, model, advice.data, method=chosen, anyway=anyway)
    return start(plan, advice.recommendation, runs, facts=advice.facts)


def list_runs(runs: Path | None) -> list[RunRow]:
    """All runs, newest first."""
    from engine.runs import all_runs

    return list(_rows(all_runs(runs)))


def _rows(runs: "Iterator[RunDirectory]") -> "Iterator[RunRow]":
    from recommender.errors import LoracleError

    for run in runs:
        state = run.state()
        try:
            plan: Plan | None = run.plan()
        except LoracleError:
            plan = None
        metric = plan.metric if plan is not None else "macro_f1"
        started = state.started
        if started is None:
            started = run.path.stat().st_mtime if run.path.exists() else None
        method = plan.method if plan is not None else "unreadable"
        yield RunRow(run, state.status, method, metric, best_score(state, metric), started)


def best_score(state: "RunState", metric: str) -> float | None:
    """The held-out score after training, else the best validation score so far."""
    after = state.scores("after")
    if after is not None and metric in after:
        return after[metric]
    scores = [e.metrics[metric] for e in state.evaluations if e.split == "validation" and metric in e.metrics]
    if not scores:
        return None
    measure = MEASURES.get(metric)
    return max(scores) if measure is None or measure.higher_is_better else min(scores)


def stop(run: "RunDirectory", now: bool) -> None:
    """Ask the worker to stop.

    Raises:
        InputError: it is not running.
    """
    from engine.runs import stop

    stop(run, now=now)


def resume(run: "RunDirectory") -> None:
    """Go on with a run from its newest sound checkpoint.

    Raises:
        InputError: it is done, or still running.
        Refused: there is not enough disk.
    """
    from engine.runs import resume

    resume(run)


def report(run: "RunDirectory") -> dict[str, Any] | None:
    """The run's report, if it is done.

    Raises:
        InputError: written by a newer version.
    """
    return run.report()
