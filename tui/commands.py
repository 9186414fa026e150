"""The commands about runs, each a few calls to the engine."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from engine import groups
from engine import runs as engine_runs
from engine.files import OF_ROWS, beginning
from engine.launch import Waiting
from engine.new_run import check_root
from engine.planning import completed
from engine.rundir import RunDirectory
from engine.text import clean, json_line
from recommender import plan_file
from recommender.errors import Exit, InputError
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation
from tui import plain, show
from tui.endings import leaves_at_once
from tui.headless import attach_to, begun, follow, leave
from tui.i18n import _
from tui.merge_words import MERGING, merged_words

PERHAPS_PLANS = frozenset({".json", ".txt"})
"""Endings of files of rows that a plan may have as well: JSON is YAML."""


def run(given: argparse.Namespace) -> int:
    """Run a plan file, pointed elsewhere where that was asked for."""
    if given.plan.suffix.lower() in OF_ROWS - PERHAPS_PLANS and given.plan.exists():
        raise InputError(f"{given.plan}: is a file of rows, not a plan; `loracle plan --data {given.plan}` makes one.")
    try:
        text = beginning(given.plan, plan_file.MAX_BYTES)
    except FileNotFoundError:
        raise InputError(f"{given.plan}: there is no such file.") from None
    except OSError as error:
        raise InputError(f"{given.plan}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{given.plan}: is not UTF-8 text.") from None
    content, lines = plan_file.parse_mapping(text, str(given.plan))
    made = plan_file.validate(plan_file.set_fields(_pointed(content, given), given.assignments), str(given.plan), lines)
    check_root(engine_runs.runs_root(given.runs))
    with Waiting(made) as worker:  # its imports take longer than looking at model and data does
        made, cautions, facts = completed(made, engine_runs.runs_root(given.runs), ours=worker.memory)
        for caution in cautions:
            print(_("Worth knowing: {words}").format(words=clean(caution.text)), file=sys.stderr)
        return start(made, None, facts, given, worker)


def runs(given: argparse.Namespace) -> int:
    """List runs, newest first."""
    found = list(engine_runs.all_runs(given.runs))
    if given.json:
        for one in found:
            print(json.dumps(show.run_facts(one)))
    elif found:
        show.run_table(found, show.Screen())
    else:
        print(_("No runs in {folder}.").format(folder=clean(engine_runs.runs_root(given.runs))))
    return Exit.DONE


def _or_of_a_group(command: Callable[[RunDirectory, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """With the run that was named; where it was a group, the command of that name for groups."""

    def call(given: argparse.Namespace) -> int:
        group = groups.find(given.run, given.runs)
        if group is None:
            return command(engine_runs.attach(given.run, given.runs), given)
        from tui import commands_group  # late: groups compare, and so import what computes intervals

        of_groups: Callable[[groups.Group, argparse.Namespace], int] = getattr(commands_group, command.__name__)
        return of_groups(group, given)

    return call


@_or_of_a_group
def attach(found: RunDirectory, given: argparse.Namespace) -> int:
    """Watch a run: in the app where it can be shown, as lines anywhere else, and for whoever asked for them."""
    if given.json or plain.wanted():
        return attach_to(found, as_json=given.json)
    from tui.start import run_app

    return run_app(runs=given.runs, attach=found)


@_or_of_a_group
def resume(found: RunDirectory, given: argparse.Namespace) -> int:
    """Go on with a run."""
    offset = found.events.stat().st_size if found.events.exists() else 0
    return _go(lambda: (engine_runs.resume(found), offset), given)


@_or_of_a_group
def stop(found: RunDirectory, given: argparse.Namespace) -> int:
    """Ask a run to stop."""
    before = found.state()
    engine_runs.stop(found, now=given.now)
    gently = _("{name} stops after its current step and saves a checkpoint. Resume it with: loracle resume {name}")
    at_once = _("{name} stops at once; steps since the last checkpoint are lost. Resume it with: loracle resume {name}")
    kept = _("{name} stops; its checkpoint of step {step} is kept. Resume it with: loracle resume {name}")
    nothing = _("{name} stops. No step was taken yet, so there is nothing to save; loracle resume {name} starts it again")
    without = (kept if before.checkpoint else nothing) if leaves_at_once(before) else ""
    words = at_once if given.now else without or gently
    print(words.format(name=found.shown, step=before.checkpoint))
    return Exit.DONE


@_or_of_a_group
def report(found: RunDirectory, given: argparse.Namespace) -> int:
    """Show what a run brought."""
    content = found.report()
    if content is None:
        state = found.state()
        raise InputError(f"{found.name} has no report: it is {state.status}. `loracle attach {found.name}` shows it.")
    if given.json:
        print(json_line(content))
    else:
        show.report(content, found, show.Screen())
    return Exit.DONE


def merge(given: argparse.Namespace) -> int:
    """Write a finished run's base with the adapter in its weights."""
    from engine.merging import merge

    found = engine_runs.attach(given.run, given.runs)

    def told(doing: str) -> None:
        if not given.json:
            print(MERGING.get(doing, doing), file=sys.stderr)

    try:
        facts = merge(found, given.to, told)
    except KeyboardInterrupt:
        print(_("Interrupted: what was written of the merged model was removed."), file=sys.stderr)
        return Exit.INTERRUPTED
    print(json.dumps(facts) if given.json else merged_words(facts))
    return Exit.DONE


def start(
    made: Plan, advice: Recommendation | None, facts: Facts | None, given: argparse.Namespace, worker: Waiting | None = None
) -> int:
    """Start a run with the reasons behind it, in `worker` if one waits, and follow it unless it is to be left alone."""
    return _go(lambda: (engine_runs.start(made, advice, given.runs, facts=facts, waiting=worker), 0), given)


def _go(begin: groups.Begin, given: argparse.Namespace) -> int:
    if given.detach:
        return leave(begin, partial(begun, as_json=given.json))
    return follow(begin, as_json=given.json)


def _pointed(content: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The plan's mapping with another model, other data or another seed; fingerprints of what was replaced go."""
    for part, named in (("model", "id"), ("data", "train")):
        if isinstance(content.get(part), str):  # as people write it by hand
            content[part] = {named: content[part]}
        elif not isinstance(content.get(part), dict):
            content[part] = {}
    model, data = content["model"], content["data"]
    if given.model is not None:
        content["model"] = {"id": given.model}
    elif "id" not in model:
        raise InputError(f"{given.plan}: names no model; give one with --model.")
    if given.data is not None:
        data |= {"train": given.data, "train_fingerprint": None}
    elif "train" not in data:
        raise InputError(f"{given.plan}: names no training rows; give them with --data.")
    if given.eval is not None:
        data |= {"eval": given.eval, "eval_fingerprint": None}
    if given.seed is not None:
        content["seed"] = given.seed
    return content
