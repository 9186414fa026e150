"""`--auto` and `plan`: look, decide, say why."""

import argparse
import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine import runs as engine_runs
from engine.files import write_atomically
from engine.launch import Waiting
from engine.new_run import check_root
from engine.planning import plan_for
from engine.prediction.candidates import can_be_counted, hangs_on_formula, is_off, is_wanted, remembered, with_counted_steps
from engine.refusals import check_fits, check_rate, check_task
from engine.text import clean, json_line
from recommender import plan_file
from recommender.decide import decide, recommend
from recommender.edits import edited
from recommender.errors import Exit, InputError, Refused
from recommender.facts import Facts
from recommender.gates import PHYSICS, is_hopeless
from recommender.plan import Plan
from recommender.questions import questions_that_matter
from recommender.recommendation import IN_SENTENCES, Recommendation
from tui import settings, show_advice, show_explain
from tui.commands import start
from tui.error_words import in_words
from tui.facts_file import facts_from
from tui.flags import said_goal
from tui.goal import tell_me_more
from tui.i18n import _
from tui.looking import Look, counting, look_at
from tui.show import Screen

AGAINST = ("does_not_fit", "over_time_budget", "no_disk", "no_hub_disk", "no_nf4", "already_quantised")
"""Reasons why a method cannot run here."""


def auto(given: argparse.Namespace) -> int:
    """Recommend, train, report."""
    if not given.dry_run:
        check_root(engine_runs.runs_root(given.runs))
    look = look_at(given, partial(_show_facts, given))
    with contextlib.ExitStack() as sent_away:
        worker = None
        with contextlib.suppress(Refused, InputError):  # what is wrong is said once everything is known
            if look.model.weights_here and not given.dry_run:
                likely = _plan(given, look, recommend(look.facts))
                worker = sent_away.enter_context(Waiting(likely))  # its imports take about as long as the traces do
        look.trace(lambda advice: _own(given, look, advice), explained=given.explain)
        advice = recommend(look.facts)
        _show_advice(given, look.facts, advice)
        try:
            plan = _plan(given, look, advice)
        except Refused as error:
            raise Refused(error.message if given.json or given.anyway else _short(advice)) from None
        _show_own(given, look.facts, advice, plan)
        check_fits(plan, look.facts, anyway=given.anyway)
        if given.dry_run:
            return Exit.DONE
        if not look.model.weights_here:
            look.fetch()
            plan = _plan(given, look, advice)
        return start(plan, advice, look.facts, given, worker)


def plan(given: argparse.Namespace) -> int:
    """Recommend, and write the plan file; exit 0 whatever the verdict."""
    if given.facts is not None:
        if given.model is not None or given.data is not None:
            raise InputError("--facts takes the place of --model and --data; give one or the other.")
        meaningless = _of_runs(given)
        if meaningless:
            raise InputError(f"--facts decides from facts alone and writes no plan; leave out {', '.join(meaningless)}.")
        return _decide_on(facts_from(given.facts), given)
    if given.trace:
        raise InputError("--trace goes with --facts; when model and data are given, every step is counted anyway.")
    if given.model is None or given.data is None:
        raise InputError("plan needs --model and --data, or --facts.")
    target = _target(given)
    look = look_at(given, partial(_show_facts, given))
    look.trace(lambda advice: _own(given, look, advice), explained=given.explain)
    advice = recommend(look.facts)
    _show_advice(given, look.facts, advice)
    try:
        made = _to_write(given, look, advice)
    except Refused as error:
        print(_("No plan was written: {why}").format(why=error.message), file=sys.stderr)
        return Exit.DONE
    if target is not None:
        try:
            write_atomically(target, plan_file.dump(made), 0o644)
        except OSError as error:
            raise InputError(f"{target} cannot be written ({error.strerror}).") from None
        words = _("Plan written to {file}. Run it: loracle run {path}")
        print(words.format(file=clean(target), path=shlex.quote(clean(target))), file=sys.stderr)
    return Exit.DONE


def _target(given: argparse.Namespace) -> Path | None:
    """The file that the plan goes into; `None` where none is wanted (`-o -`).

    Raises:
        InputError: it cannot be written, or exists and is not to be overwritten.
    """
    target: Path = given.output or Path("plan.yaml")
    if str(target) == "-":
        return None
    folder = target.absolute().parent
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file with -o.")
    if not folder.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{target} cannot be written ({os.strerror(errno.EACCES)}).")
    if target.exists() and not given.force:
        raise InputError(f"{target} exists already; name another file with -o, or overwrite it with --force.")
    return target


def _to_write(given: argparse.Namespace, look: Look, advice: Recommendation) -> Plan:
    """The plan, its own settings shown.

    Raises:
        Refused: why none is written, in the reader's language.
        InputError: a setting cannot be used.
    """
    try:
        check_task(look.facts.data.task, look.facts.model.family)
    except Refused as error:
        raise Refused(in_words(clean(error.message))) from None
    try:
        made = _plan(given, look, advice)
    except Refused:
        raise Refused(_short(advice)) from None
    _show_own(given, look.facts, advice, made)
    try:
        check_rate(made, look.facts)
    except Refused as error:
        raise Refused(in_words(clean(error.message))) from None
    return made


def _of_runs(given: argparse.Namespace) -> list[str]:
    """The flags among those given that only mean something where rows are read and a plan is written."""
    of_rows = ("eval", "task", "text_column", "label_column", "drop_conflicts", "train_rows", "eval_rows")
    names = ("method", *of_rows, "anyway", "force")
    found = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name) not in (None, False)]
    found += ["--column"] if given.columns else []
    found += ["--seed"] if given.seed != 1 else []
    found += ["-o"] if given.output is not None and str(given.output) != "-" else []
    usual = settings.assignments([], has_plan=False)
    return [*found, "--set"] if any(pair not in usual for pair in given.assignments) else found


def _decide_on(facts: Facts, given: argparse.Namespace) -> int:
    """Decide on facts alone; nothing is looked at and nothing is written.

    What was counted once is used; with `--trace`, and where a formula would decide what a trace could decide otherwise, steps are
    counted, for seconds. Else no bytes are told, and why.
    """
    goal = facts.goal.model_copy(update=said_goal(given))  # flags outrank what the file says
    facts = remembered(facts.model_copy(update={"goal": goal}))
    counts = given.trace or hangs_on_formula(facts)
    if counts:
        with counting(quiet=given.json) as told:
            facts = with_counted_steps(facts, explained=given.explain, told=told)
    advice = recommend(facts)
    said = _why_no_bytes(facts, advice, counts=counts)
    if said and given.trace and (given.json or given.explain):
        print(said, file=sys.stderr)
    if given.explain:
        _show_chain(facts, advice, given)
    elif given.json:
        print(json_line(advice.model_dump(mode="json")))
    else:
        _show(facts, advice, Screen())
        show_advice.lines([said] if said else [], Screen())
    return Exit.DONE


def _why_no_bytes(facts: Facts, advice: Recommendation, *, counts: bool) -> str:
    """Why the memory of candidates that might run stands there as `?`; `counts` is whether it was to be counted."""
    unknown = [c for c in advice.candidates if not c.memory.counted and c.removed_by not in ("no_nf4", "already_quantised")]
    if not unknown or is_off() or is_hopeless(facts):
        return ""
    if not can_be_counted(facts):
        return _("Memory is given in bytes only where a step can be counted: that takes model.config, and CUDA or a CPU.")
    if not counts and is_wanted(facts, unknown):
        return _("How many bytes it takes was not counted, as it is far from what is free; --trace counts it.")
    names = _(", ").join(_(IN_SENTENCES[c.method]) for c in unknown)
    return _("The memory of {methods} could not be counted, or not in time.").format(methods=names)


def _plan(given: argparse.Namespace, look: Look, advice: Recommendation) -> Plan:
    return plan_for(
        advice, look.model, look.data, method=given.method, seed=given.seed, assignments=given.assignments, anyway=given.anyway
    )


def _own(given: argparse.Namespace, look: Look, advice: Recommendation) -> Iterator[Plan]:
    """The plan with the settings that were set, where there are any and it may run as far as is known."""
    if given.assignments:
        with contextlib.suppress(Refused, InputError):  # said where the plan is made for good
            yield _plan(given, look, advice)


def _show_facts(given: argparse.Namespace, facts: Facts) -> None:
    """What was found out, which can be read while steps are tried and counted."""
    if not given.explain and not given.json:
        show_advice.facts(facts, Screen())
        sys.stdout.flush()


def _show_advice(given: argparse.Namespace, facts: Facts, advice: Recommendation) -> None:
    if given.explain:
        _show_chain(facts, advice, given)
    elif given.json:
        print(json_line({"kind": "recommendation", **advice.model_dump(mode="json")}), flush=True)
    else:
        _show(facts, advice, Screen())
    said = _why_no_bytes(facts, advice, counts=True)
    if said:
        print(said, file=sys.stderr)


def _show(facts: Facts, advice: Recommendation, console: Screen) -> None:
    show_advice.recommendation(advice, console)
    show_advice.lines(tell_me_more(questions_that_matter(facts, decide), facts.goal), console)


def _show_chain(facts: Facts, advice: Recommendation, given: argparse.Namespace) -> None:
    if given.json:
        for step in show_explain.steps(facts, advice):
            print(json_line(step))
    else:
        show_explain.chain(facts, advice, Screen())


def _show_own(given: argparse.Namespace, facts: Facts, advice: Recommendation, plan: Plan) -> None:
    """What the run takes with the settings that were set, and what an expert would say about them."""
    if given.assignments and not given.json:
        own = edited(facts, advice.candidate(plan.method), plan)
        show_advice.own_settings(own.candidate, given.assignments, [c.text for c in own.cautions], Screen())


def _short(advice: Recommendation) -> str:
    """Why not, in one line; the screen above has the rest."""
    against = [r.text for r in advice.reasons if r.code.startswith("G")]
    if not against:
        against = [r.text for r in advice.reasons if r.code in AGAINST]
    hopeless = any(r.code in PHYSICS for r in advice.reasons)
    overridable = [_("--anyway runs it regardless.")] if advice.verdict == "not_yet" and not hopeless else []
    return clean(" ".join([*against, *overridable]))
