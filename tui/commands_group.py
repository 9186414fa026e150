"""`compare` and `pilot`, and what `attach`, `resume`, `stop` and `report` do with a group of runs."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.text import Text

from engine import compare as comparing
from engine import groups, pilot_course, runs
from engine import pilot as piloting
from engine.groups import Group, Task
from engine.new_run import check_root
from engine.refusals import check_gates
from engine.rundir import RunDirectory
from engine.text import json_line
from recommender.decide import recommend
from recommender.errors import Exit, InputError, Refused
from recommender.facts import Facts
from recommender.recommendation import METHODS
from tui import driver, show_groups
from tui.endings import leaves_at_once
from tui.error_words import in_words
from tui.headless import begun, follow, goes_on, print_json, watch
from tui.i18n import _
from tui.show import Screen, listed, whole
from tui.words import duration, status_word

FOLLOWING: dict[str, groups.Next] = {"compare": comparing.next_task, "pilot": pilot_course.next_task}
REPORTS: dict[str, groups.Report] = {"compare": comparing.report, "pilot": pilot_course.report}


def compare(given: argparse.Namespace) -> int:
    """Train several methods on the same rows, one after another, and compare them."""
    from tui.looking import look_at

    _check_root(given)
    look = look_at(argparse.Namespace(**vars(given) | {"methods": given.methods or METHODS}), partial(_check_gates, given))
    look.trace()
    advice = recommend(look.facts)
    plans = comparing.plans(
        advice,
        look.model,
        look.data,
        look.facts,
        methods=given.methods or [m for m in METHODS if advice.candidate(m).fits],
        seeds=given.seeds,
        folds=given.folds,
        assignments=given.assignments,
        anyway=given.anyway,
    )
    hours = comparing.hours(((p, advice.candidate(p.method)) for p in plans.values()), look.facts, given.folds)
    what = _("{n} runs, one after another").format(n=len(plans))
    tell = partial(_tell, given, [comparing.budget(next(iter(plans.values())))], what, hours, runs=list(plans))
    if given.dry_run:
        return tell()
    group = groups.create(runs.runs_root(given.runs), "compare", plans, advice=advice, facts=look.facts)
    tell(name=group.name, path=str(group.path))
    return _go(group, given)


def pilot(given: argparse.Namespace) -> int:
    """Try candidates for a slice of their runs, and go on with the winner."""
    from tui.looking import look_at

    _check_root(given)
    look = look_at(given, partial(_check_gates, given))
    look.trace()
    advice = recommend(look.facts)
    wanted = piloting.planned(
        advice,
        look.model,
        look.data,
        look.facts,
        methods=given.methods,
        share=given.share,
        seed=given.seed,
        assignments=given.assignments,
        anyway=given.anyway,
    )
    named = _joined([*wanted.labels.values()])  # the last may be "LoRA, learning rate x3"
    if wanted.mode == "slice":
        words = _("Slices of {names}, compared after {steps} steps on the validation rows; the winner goes on to the end")
        what = words.format(names=named, steps=_joined([*map(str, wanted.stages)]))
    else:
        folds = next(p.data.folds for p in wanted.plans.values() if p.data.folds)
        words = _(
            "Fewer than {fewest} rows: slices would say little, so {names} are cross-validated to the end in {folds} folds, "
            "and the winner is trained once more on the usual split (--anyway uses slices)"
        )
        what = words.format(fewest=piloting.FEWEST_ROWS, names=named, folds=folds)
    left_out = [_("Left out: {words}").format(words=in_words(line)) for line in wanted.left_out]
    tell = partial(_tell, given, left_out, what, wanted.hours, runs=list(wanted.plans))
    if given.dry_run:
        return tell()
    group = piloting.create(runs.runs_root(given.runs), wanted, advice, look.facts)
    tell(name=group.name, path=str(group.path))
    return _go(group, given)


def _joined(names: Sequence[str]) -> str:
    """All of them as a sentence names them."""
    return _(" and ").join(filter(None, (_(", ").join(names[:-1]), names[-1])))


def _check_root(given: argparse.Namespace) -> None:
    if not given.dry_run:
        check_root(runs.runs_root(given.runs))


def _check_gates(given: argparse.Namespace, found: Facts) -> None:
    """What would be refused anyhow is, before bf16 is tried and steps are counted."""
    advice = recommend(found)
    if given.command == "compare":
        advice = comparing.challenged(advice, given.seeds, given.folds)
    check_gates(advice, anyway=given.anyway)


def attach(group: Group, given: argparse.Namespace) -> int:
    """Watch the run that is going on, and the next ones; leaving (Ctrl-C) does not stop them."""
    try:
        while True:
            run = group.current()
            if run is not None:
                _announce(run, None, as_json=given.json)
                watch(run, as_json=given.json, in_group=True)
            elif not group.driven():
                break
            else:
                time.sleep(0.5)
    except KeyboardInterrupt:
        return goes_on(group)
    content = group.report()
    if content is None:
        words = _("{name} is {state}. Resume it with: loracle resume {name}")
        print(words.format(name=group.shown, state=status_word(group.status())), file=sys.stderr)
        return Exit.STOPPED
    _show(group, content, given)
    return Exit.DONE if content.get("complete") else Exit.FAILED


def resume(group: Group, given: argparse.Namespace) -> int:
    """Go on with what is left to do."""
    if (group.report() or {}).get("complete"):
        raise InputError(f"{group.name} is done; `loracle report {group.name}` shows what came out.")
    return _go(group, given)


def stop(group: Group, given: argparse.Namespace) -> int:
    """Ask the run that is going on to stop; the group then ends with it."""
    run, deadline = group.current(), time.monotonic() + driver.PATIENCE
    while run is None and group.driven() and time.monotonic() < deadline:  # between two of its runs
        time.sleep(0.2)
        run = group.current()
    if run is None:
        raise InputError(f"{group.name} is not running (it is {group.status()}).")
    before = run.state()
    runs.stop(run, now=given.now)
    at_once = _("{name} stops at once, and {group} with it. Resume it with: loracle resume {group}")
    gently = _(
        "{name} stops after its current step, with a checkpoint, and {group} with it. Resume it with: loracle resume {group}"
    )
    kept = _("{name} stops, and {group} with it; what was saved is kept. Resume it with: loracle resume {group}")
    words = at_once if given.now else kept if leaves_at_once(before) else gently
    print(words.format(name=run.shown, group=group.shown))
    return Exit.DONE


def report(group: Group, given: argparse.Namespace) -> int:
    """Show what the group brought."""
    content = group.report()
    if content is None:
        raise InputError(f"{group.name} has no report: it is {group.status()}. `loracle resume {group.name}` continues it.")
    _show(group, content, given)
    return Exit.DONE


def _tell(given: argparse.Namespace, said: list[str], what: str, hours: float, **named: object) -> int:
    """Say what will be done and how long that takes, before anything is."""
    if given.json:
        print(json.dumps({"kind": "group", **named, "hours": hours}), flush=True)
        return Exit.DONE
    console = Screen(stderr=True)
    console.print(Text(_("{what}; about {time} (estimated).").format(what=what, time=duration(3600 * hours))))
    listed(console, "", said)
    console.print()
    return Exit.DONE


def _go(group: Group, given: argparse.Namespace) -> int:
    if given.detach:  # a process of its own session works the group off
        driver.leave_running(group)
        begun(group, as_json=given.json)
        return Exit.DONE
    kind = group.content()["kind"]
    group.report_file.unlink(missing_ok=True)  # of an earlier try with failures

    def following(group: Group, failed: frozenset[str]) -> Task | None:
        task = FOLLOWING[kind](group, failed)
        if task is not None:
            _announce(group.run(task.key), task.stop_at, as_json=given.json, driving=True)
        return task

    try:
        stopped = groups.drive(group, following, lambda begin: follow(begin, as_json=given.json, in_group=True), REPORTS[kind])[0]
    except KeyboardInterrupt:  # between two runs
        stopped = True
    except Refused as error:  # before its next run: what was done so far is kept
        raise Refused(f"{error.message} `loracle resume {group.name}` continues it.") from None
    if stopped:
        print(_("{name} is stopped; `loracle resume {name}` continues it.").format(name=group.shown), file=sys.stderr)
        return Exit.STOPPED
    content = group.report() or {}
    _show(group, content, given)
    return Exit.DONE if content.get("complete") else Exit.FAILED


def _announce(run: RunDirectory, stop_at: int | None, *, as_json: bool, driving: bool = False) -> None:
    if as_json:
        print_json(json.dumps({"kind": "task", "run": run.name, "path": str(run.path), "stop_at": stop_at}), driving=driving)
    else:
        until = _(" up to step {step}").format(step=stop_at) if stop_at is not None else ""
        Screen(stderr=True).print(Text(f"{run.shown}{until}", style="bold"))


def _show(group: Group, content: dict[str, Any], given: argparse.Namespace) -> None:
    if given.json:
        print(json_line(content), flush=True)
        return
    with whole(group.report_file):
        show_groups.report(content, Screen())
