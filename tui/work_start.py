"""From an advice to a run, or to a pilot: what stands against it, its plan, its start. Blocking calls, every import inside."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recommender.errors import InputError, Refused
from tui import draft as drafts
from tui import settings
from tui.error_words import in_words
from tui.i18n import _
from tui.work_plan import Advice

if TYPE_CHECKING:
    from engine.inspect import ModelInspection
    from engine.inspection.child import Cancel
    from engine.inspection.pipes import Progress
    from engine.pilot import Planned
    from engine.rundir import RunDirectory
    from recommender.plan import Plan
    from tui.ready import Ready


def plan_of(advice: Advice, method: str, *, anyway: bool, model: "ModelInspection | None" = None) -> "Plan":
    """The plan that would run.

    Raises:
        Refused: it would not fit, or would be wasted, and `anyway` was not said or does not help.
        InputError: model, task or a setting cannot be trained with.
    """
    from engine.planning import plan_for
    from engine.refusals import check_fits

    plan = plan_for(
        advice.recommendation,
        model or advice.model,
        advice.data,
        method=method,
        assignments=settings.assignments(advice.draft.assignments(method), has_plan=False),
        anyway=anyway,
    )
    check_fits(plan, advice.facts, anyway=anyway)
    return plan


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against starting a method."""

    text: str
    final: bool
    """Nobody can set it aside: it does not fit, or there is nothing to learn."""


def obstacle(advice: Advice, method: str) -> Obstacle | None:
    """What stands against starting that method; `None` when nothing does."""
    try:
        plan_of(advice, method, anyway=False)
    except InputError as error:
        return Obstacle(in_words(error.message), True)
    except Refused as refused:
        try:
            plan_of(advice, method, anyway=True)
        except Refused as final:
            return Obstacle(in_words(final.message), True)
        return Obstacle(in_words(refused.message), False)
    return None


def start(
    advice: Advice, runs: Path | None, cancel: "Cancel", progress: "Progress", ready: "Ready", *, method: str, anyway: bool
) -> "RunDirectory":
    """Write the plan for that method and start its worker, the one that is `ready` if it serves, unless that is given up while
    the model is downloaded.

    Raises:
        InputError: the runs folder cannot be written, or it was given up.
        Refused: it would not fit, or the advice is against it and `anyway` is not given.
    """
    from engine.runs import start

    plan = plan_of(advice, method, anyway=anyway, model=_with_weights(advice, cancel, progress))
    _check_wanted(cancel)
    worker, held = ready.take()
    with held:
        run = start(plan, advice.recommendation, runs, facts=advice.facts, waiting=worker)
    drafts.used(advice.draft)
    return run


def _check_wanted(cancel: "Cancel") -> None:
    """Whoever has left the plan must not find a run that goes on.

    Raises:
        InputError: it was given up.
    """
    if cancel.cancelled:
        raise InputError(_("The start was cancelled; nothing was started."))


def _with_weights(advice: Advice, cancel: "Cancel", progress: "Progress") -> "ModelInspection":
    """From the hub; as long as nobody wanted to train, its description was enough."""
    if advice.model.weights_here:
        return advice.model
    from engine.inspect import inspect_model

    return inspect_model(str(advice.model.facts.id), progress=progress, cancel=cancel)


def pilot_hours(advice: Advice) -> tuple[float, list[str], bool]:
    """What a pilot would take in hours, the names of its candidates, and whether it cross-validates them to their end.

    Raises:
        Refused: a pilot cannot run here, or takes more than its share of the time.
        InputError: no rows are left to judge by.
    """
    plan = _pilot(advice, advice.model)
    return plan.hours, list(plan.labels.values()), plan.mode == "folds"


def start_pilot(
    advice: Advice, runs: Path | None, cancel: "Cancel", progress: "Progress", ready: "Ready"
) -> "RunDirectory | None":
    """Start a pilot in a process of its own, unless that is given up before; its first run, once it has begun. Its runs have
    workers of their own, and more use for the memory of the one that is `ready`.

    Raises:
        Refused: a pilot cannot run here, or takes more than its share of the time.
        InputError: no rows are left to judge by, the runs folder cannot be written, or it was given up.
    """
    from engine.pilot import create
    from engine.runs import runs_root
    from tui import driver

    ready.leave()
    plan = _pilot(advice, _with_weights(advice, cancel, progress))
    _check_wanted(cancel)
    group = create(runs_root(runs), plan, advice.recommendation, advice.facts)
    driver.leave_running(group)
    drafts.used(advice.draft)
    deadline = time.monotonic() + driver.PATIENCE
    while (run := group.current()) is None and group.driven() and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


def _pilot(advice: Advice, model: "ModelInspection") -> "Planned":
    """The candidates with the person's own settings, each with those of its method."""
    from engine.pilot import planned

    return planned(
        advice.recommendation,
        model,
        advice.data,
        advice.facts,
        assignments=settings.assignments([], has_plan=False),
        own={method: advice.draft.assignments(method) for method in advice.draft.settings},
    )
