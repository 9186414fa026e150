"""The commands, each a few calls to the engine and the recommender."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine import inspect as inspection
from engine import runs as engine_runs
from engine.files import write_atomically
from engine.planning import check_fits, completed, plan_for
from engine.rundir import RunDirectory
from recommender import plan_file
from recommender.decide import recommend
from recommender.errors import Exit, InputError, Refused
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation
from tui import show
from tui.headless import attach_to, follow


def auto(given: argparse.Namespace) -> int:
    """Recommend, train, report."""
    look = _look(given)
    advice = recommend(look.facts)
    _show_advice(given, look.facts, advice)
    try:
        plan = _plan(given, look, advice)
    except Refused as error:
        raise Refused(error.message if given.json else _short(advice)) from None
    check_fits(plan, look.facts, anyway=given.anyway)
    if given.dry_run:
        return Exit.DONE
    return _start(plan, advice, given)


def plan(given: argparse.Namespace) -> int:
    """Recommend, and write the plan file; exit 0 whatever the verdict."""
    if given.facts is not None:
        advice = recommend(_facts_from(given.facts))
        if given.json:
            print(json.dumps(advice.model_dump(mode="json"), ensure_ascii=False))
        else:
            show.recommendation(advice, show.Screen())
        return Exit.DONE
    if given.model is None or given.data is None:
        raise InputError("plan needs --model and --data, or --facts.")
    wanted = given.output or Path("plan.yaml")
    writes = str(wanted) != "-"
    if writes and wanted.is_dir():
        raise InputError(f"{wanted} is a folder; name a file with -o.")
    if writes and wanted.exists() and not given.force:
        raise InputError(f"{wanted} exists already; name another file with -o, or overwrite it with --force.")
    look = _look(given)
    advice = recommend(look.facts)
    _show_advice(given, look.facts, advice)
    try:
        made = _plan(given, look, advice)
    except Refused:
        print(f"No plan was written: {_short(advice)}", file=sys.stderr)
        return Exit.DONE
    if writes:
        try:
            write_atomically(wanted, plan_file.dump(made), 0o644)
        except OSError as error:
            raise InputError(f"{wanted} cannot be written ({error.strerror}).") from None
        print(f"Plan written to {wanted}. Run it: loracle run {wanted}", file=sys.stderr)
    return Exit.DONE


def run(given: argparse.Namespace) -> int:
    """Run a plan file, pointed elsewhere where that was asked for."""
    try:
        text = given.plan.read_bytes()[: plan_file.MAX_BYTES + 1].decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{given.plan}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{given.plan}: cannot be read as text ({type(error).__name__}).") from None
    content, lines = plan_file.parse_mapping(text, str(given.plan))
    made = plan_file.validate(plan_file.set_fields(_pointed(content, given), given.assignments), str(given.plan), lines)
    made, cautions = completed(made, engine_runs.runs_root(given.runs))
    for caution in cautions:
        print(f"Worth knowing: {caution.text}", file=sys.stderr)
    return _start(made, None, given)


def runs(given: argparse.Namespace) -> int:
    """List runs, newest first."""
    found = list(engine_runs.all_runs(given.runs))
    if given.json:
        for one in found:
            print(json.dumps(show.run_facts(one)))
    elif found:
        show.run_table(found, show.Screen())
    else:
        print(f"No runs in {engine_runs.runs_root(given.runs)}.")
    return Exit.DONE


def attach(given: argparse.Namespace) -> int:
    """Watch a run: in the app on a terminal, as lines anywhere else."""
    found = engine_runs.attach(given.run, given.runs)
    if given.json or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        return attach_to(found, as_json=given.json)
    from tui.app import run_app

    return run_app(runs=given.runs, attach=found)


def resume(given: argparse.Namespace) -> int:
    """Go on with a run."""
    found = engine_runs.attach(given.run, given.runs)
    offset = found.events.stat().st_size if found.events.exists() else 0
    engine_runs.resume(found)
    return _left_running(found, given) if given.detach else follow(found, as_json=given.json, offset=offset)


def stop(given: argparse.Namespace) -> int:
    """Ask a run to stop."""
    found = engine_runs.attach(given.run, given.runs)
    engine_runs.stop(found, now=given.now)
    how = "stops at once" if given.now else "stops after its current step and saves a checkpoint"
    print(f"{found.name} {how}. Go on later: loracle resume {found.name}")
    return Exit.DONE


def report(given: argparse.Namespace) -> int:
    """Show what a run brought."""
    found = engine_runs.attach(given.run, given.runs)
    content = found.report()
    if content is None:
        state = found.state()
        raise InputError(f"{found.name} has no report: it is {state.status}. `loracle attach {found.name}` shows it.")
    if given.json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        show.report(content, found, show.Screen())
    return Exit.DONE


class _Look:
    """What was found out about machine, model and data."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.model = inspection.inspect_model(given.model)
        self.data = inspection.inspect_data(
            given.data,
            eval=given.eval,
            text_column=given.text_column,
            label_column=given.label_column,
            train_rows=given.train_rows,
            eval_rows=given.eval_rows,
            model_path=self.model.path,
        )
        machine = inspection.inspect_machine(engine_runs.runs_root(given.runs), try_nf4=given.method == "qlora")
        self.facts = inspection.together(machine, self.model, self.data)


def _look(given: argparse.Namespace) -> _Look:
    if given.seed < 0:
        raise InputError(f"--seed {given.seed}: must not be negative.")
    plan_file.set_fields({}, given.assignments)  # a misspelt name is told before the long look
    if not given.json:
        print("Looking at machine, model and data …", file=sys.stderr)
    return _Look(given)


def _plan(given: argparse.Namespace, look: _Look, advice: Recommendation) -> Plan:
    return plan_for(
        advice,
        look.model,
        look.data,
        method=given.method,
        seed=given.seed,
        train_rows=given.train_rows,
        eval_rows=given.eval_rows,
        assignments=given.assignments,
        anyway=given.anyway,
    )


def _show_advice(given: argparse.Namespace, facts: Facts, advice: Recommendation) -> None:
    if given.json:
        print(json.dumps({"kind": "recommendation", **advice.model_dump(mode="json")}, ensure_ascii=False), flush=True)
        return
    console = show.Screen()
    show.facts(facts, console)
    show.recommendation(advice, console)


def _short(advice: Recommendation) -> str:
    """Why not, in one line; the screen above has the rest."""
    against = [r.text for r in advice.reasons if r.code.startswith("G")]
    if not against:
        against = [r.text for r in advice.reasons if r.code in ("does_not_fit", "over_time_budget", "no_disk", "no_nf4")]
    overridable = " --anyway runs it all the same." if advice.verdict == "not_yet" else ""
    return " ".join([*against, *advice.instead]) + overridable


def _start(made: Plan, advice: Recommendation | None, given: argparse.Namespace) -> int:
    started = engine_runs.start(made, advice, given.runs)
    return _left_running(started, given) if given.detach else follow(started, as_json=given.json)


def _left_running(started: RunDirectory, given: argparse.Namespace) -> int:
    if given.json:
        print(json.dumps({"kind": "started", "name": started.name, "path": str(started.path)}))
    else:
        print(f"{started.name} is running. Watch it: loracle attach {started.name}")
    return Exit.DONE


def _facts_from(file: Path) -> Facts:
    try:
        return Facts.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: {place + ': ' if place else ''}{first['msg']}.") from None


def _pointed(content: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The plan's mapping with another model, other data or another seed; fingerprints of what was replaced go."""
    for part in ("model", "data"):
        if not isinstance(content.get(part), dict):
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
