"""What a Python program does with Loracle beyond looking and deciding: the plan of a run, and its start."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine import runs as engine_runs
from engine.inspect import all_facts, inspect_data, inspect_machine, inspect_model
from engine.planning import completed, plan_for
from engine.prediction.candidates import with_counted_steps
from engine.prediction.trial import with_trial
from engine.refusals import check_fits
from engine.rundir import RunDirectory
from recommender import plan_file
from recommender.decide import recommend
from recommender.errors import InputError, Refused
from recommender.facts import Goal
from recommender.plan import Plan
from recommender.recommendation import Method, Recommendation


def plan(
    model: str,
    data: str,
    *,
    method: Method | None = None,
    settings: Mapping[str, Any] | None = None,
    goal: Goal | None = None,
    seed: int = 1,
    anyway: bool = False,
    runs: Path | None = None,
    **data_options: Any,
) -> Plan:
    """The plan that `loracle plan` would write: of the recommended method, or of `method`, with `settings` (names of a plan's
    fields) in the place of the advised ones. `data_options` are those of `engine.inspect.inspect_data`: `eval`, `task`,
    `text_column`, `train_rows` and so on. Memory is counted by a trace (seconds, the first time).

    Raises:
        Refused: the run would not fit or would be wasted, and `anyway` was not said or does not help.
        InputError: model, rows or a setting cannot be used.
    """
    said = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
    try:
        plan_file.set_fields({}, said)  # a misspelt name is told before the long look
    except InputError as error:
        raise InputError(f"settings: {error.message.removeprefix('--set ')}") from None
    found = inspect_model(model, weights=False)
    rows = inspect_data(data, **{"model_path": found.path, **data_options})
    machine = inspect_machine(runs, try_nf4=method == "qlora")

    def made(advice: Recommendation) -> Plan:
        return plan_for(advice, found, rows, method=method, seed=seed, assignments=said, anyway=anyway)

    def own(advice: Recommendation) -> Iterator[Plan]:
        if said:
            with contextlib.suppress(Refused, InputError):  # said where the plan is made for good
                yield made(advice)

    facts = with_counted_steps(with_trial(all_facts(machine, found, rows, goal)), own)
    whole = made(recommend(facts))
    check_fits(whole, facts, anyway=anyway)
    return whole


def start(plan: Plan, runs: str | Path | None = None) -> RunDirectory:
    """Start a run of that plan, as `loracle run` does: what it leaves open is found out, the model is downloaded if it is not
    here, and the worker goes on without this program. `RunDirectory.wait` waits for its end.

    Raises:
        InputError: model or rows cannot be used, or have changed since the plan was made.
        Refused: it does not fit on this machine now, or there is not enough disk.
    """
    where = None if runs is None else Path(runs)
    whole = completed(plan, engine_runs.runs_root(where))
    return engine_runs.start(whole.plan, None, where, facts=whole.facts)
