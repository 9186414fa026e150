"""The questions of set-up as ordinary prompts, for screen readers, plain terminals and pipes; the answers become `--auto`.

Asked for with `--plain` or `ACCESSIBLE=1`, and taken by itself where the app cannot be shown: no terminal, `TERM=dumb`, or
one that is not UTF-8. The questions go to standard error, what comes out to standard output, as with `--auto`.
"""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.files import expanded
from engine.named import is_hub_data
from engine.tables.files import existing_file
from engine.text import clean, one_line
from recommender.errors import Exit, InputError, LoracleError
from recommender.kinds import METHODS
from tui import draft as drafts
from tui import flags, work_setup
from tui.draft import Draft
from tui.error_words import in_words
from tui.goal import TO_LEARN
from tui.i18n import _, plural
from tui.observations import TASKS, columns_of, model_words, of_data
from tui.words import number

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection

PILOT = "pilot"
Run = Callable[[list[str]], int]
"""Runs what would be typed after `loracle`; its exit code."""


class InputEnded(InputError):
    """Nobody is there to be asked."""


def wanted(asked_for: bool = False) -> bool:
    """Whether prompts take the place of the app: asked for, or the only thing this terminal can show."""
    if asked_for or os.environ.get("ACCESSIBLE", "") not in ("", "0"):
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "") in ("dumb", ""):
        return True
    return "utf" not in (sys.stdout.encoding or "").lower()


def ask(said: Draft | None, runs: Path | None, run: Run) -> int:
    """Ask for everything, beginning with what was `said` (else with what was left behind), show the plan, and start it.

    Returns the run's exit code.

    Raises:
        InputEnded: the input ended before everything was said.
    """
    _say(_("Loracle: choose and run a fine-tune. An empty answer takes what is in brackets; ctrl+c leaves."))
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if said is not None:
        drafts.begin(said)
    before = said or drafts.kept()  # where nothing can be kept, what was said holds all the same
    draft = _goal(before)
    found = _model(draft.model)
    draft = replace(draft, model=found[0])
    draft, rows = _data(draft, found[1])
    draft = _limits(draft, rows)
    if (draft.model, draft.data) != (before.model, before.data):
        draft = replace(draft, settings={}, method="")  # they were for something else
    drafts.keep(draft)
    own = _own(draft)
    code = run([*_typed(draft, draft.method, own), "--dry-run", *_runs(runs)])
    return _choose(draft, own, runs, run) if code in (Exit.DONE, Exit.REFUSED) else code


def _own(draft: Draft) -> list[str]:
    """Settings that were said already, as after `loracle`: those of the method that was chosen, else of more than one."""
    if draft.method:
        found = draft.assignments(draft.method)
    else:
        every = [setting for method in METHODS for setting in draft.assignments(method)]
        found = [setting for setting in dict.fromkeys(every) if every.count(setting) > 1]
    return [word for setting in found for word in ("--set", setting)]


def _typed(draft: Draft, method: str, own: list[str]) -> list[str]:
    """What to type after `loracle` for that: no settings but those that the person sees here."""
    return [*replace(draft, settings={}).arguments(method), *own]


def _goal(draft: Draft) -> Draft:
    _say(_("What is the model to learn?"))
    names = list(TO_LEARN)
    for number_, words in enumerate(TO_LEARN.values(), 1):
        _say(f"  {number_} {words}")
    usual = str(draft.goal.get("purpose", ""))
    while True:
        text = _answer(_("A number"), str(names.index(usual) + 1 if usual in names else 1))
        if text in names[1:] or (text.isdecimal() and 1 <= int(text) <= len(names)):
            purpose = text if text in names else names[int(text) - 1]
            others = {name: value for name, value in draft.goal.items() if name != "purpose"}
            return replace(draft, goal=others | ({"purpose": purpose} if purpose else {}))
        _say(_("{text} is not a valid number.").format(text=one_line(text, 40)))


def _model(usual: str) -> "tuple[str, ModelInspection]":
    names = [name for name, _where in work_setup.models_here()]
    _say(_("Models here: {names}.").format(names=", ".join(one_line(n, 60) for n in names[:8])))
    while True:
        name = _answer(_("Model: a folder, a hub id, or demo"), usual or "demo")
        try:
            found = work_setup.inspect_model(name)
        except LoracleError as error:
            _say(in_words(error.message))
            continue
        _say(_(", ").join(model_words(found.facts)))
        return name, found


def _data(draft: Draft, model: "ModelInspection") -> "tuple[Draft, DataInspection]":
    demo = work_setup.demo() if draft.model == "demo" else None
    while True:
        usual = draft.data or (demo.data if demo is not None else "")
        name = _answer(_("Training data: a file, a saved set or a hub id"), usual)
        if missing := _missing(name):
            _say(missing)
            continue
        used = demo.held_out if demo is not None and name == demo.data else draft.held_out if name == draft.data else ""
        question = (
            _("Held-out data to score before and after, or - for none")
            if used
            else _("Held-out data to score before and after, if there is any")
        )
        held_out = _answer(question, used)
        others = {} if name == draft.data else {"task": "", "columns": {}, "drop_conflicts": False}
        draft = replace(draft, data=name, held_out="" if held_out == "-" else held_out, **others)  # type: ignore[arg-type]
        try:
            while True:
                rows = work_setup.inspect_data(draft, model.path)
                _tell(rows)
                changed = _read_otherwise(draft, rows)
                if changed == draft:
                    return draft, rows
                draft = changed
        except LoracleError as error:
            if isinstance(error, InputEnded):
                raise
            _say(in_words(error.message))
            draft = replace(draft, task="", columns={}, drop_conflicts=False)


def _missing(name: str) -> str:
    """Why there can be no such rows; nothing where there may be."""
    if is_hub_data(name) or "*" in name or os.path.exists(expanded(name)):
        return ""
    try:
        existing_file(name)
    except InputError as error:
        return in_words(error.message)
    return ""


def _tell(rows: "DataInspection") -> None:
    """What was found in the rows."""
    task = rows.facts.task
    columns = ", ".join(f"{role}: {one_line(c, 30)}" for role, c in columns_of(rows.facts).items())
    of = plural("{n} row, read as {task}.", "{n} rows, read as {task}.", rows.facts.rows or 0)
    of = of.format(n=number(rows.facts.rows), task=TASKS[task] if task else "?")
    _say(f"{of} {columns}".strip())
    for odd in of_data(rows.facts):
        _say(f"! {odd}")


def _read_otherwise(draft: Draft, rows: "DataInspection") -> Draft:
    """Another task, other columns, or without the rows that contradict others; the same draft where all is well."""
    task = rows.facts.task or ""
    question = _("Another task? One of {tasks}").format(tasks=", ".join(TASKS))
    while (other := _answer(question, task)) not in (task, *TASKS):
        _say(_("{text} is not one of the tasks.").format(text=one_line(other, 40)))
    if other != task:
        return replace(draft, task=other, columns={})
    named = columns_of(rows.facts)
    told = _("Other columns? As in {example}; there are {columns}")
    example = ", ".join(f"{role}={one_line(name, 30)}" for role, name in named.items()) or "text=NAME, label=NAME"
    text = _answer(told.format(example=example, columns=", ".join(one_line(c, 30) for c in rows.columns[:20])), _("no"))
    pairs = (pair.partition("=") for pair in text.split(","))
    columns = {role.strip(): name.strip() for role, equals, name in pairs if equals and name.strip()}
    if columns and columns != named:
        return replace(draft, columns=named | columns)
    if rows.facts.conflict_share and not draft.drop_conflicts and _yes(_("Leave out rows that contradict others?")):
        return replace(draft, drop_conflicts=True)
    return draft


def _limits(draft: Draft, rows: "DataInspection") -> Draft:
    hours = draft.goal.get("time_budget_hours")
    limit = _number(_("Hours one run may take, or - for no limit"), f"{hours:g}" if hours else "-")
    take = _number(
        _("Rows to train on, or - for all {n}").format(n=number(rows.facts.rows)), str(draft.train_rows or "-"), least=2
    )
    of = _("Rows to hold out for scoring, or - for the usual share")
    if draft.held_out or rows.eval_path is not None:
        of = _("Held-out rows to score, or - for all {n}").format(n=number(rows.facts.eval_rows))
    score = _number(of, str(draft.eval_rows or "-"), least=1)
    goal = {name: value for name, value in draft.goal.items() if name != "time_budget_hours"}
    goal |= {"time_budget_hours": limit} if limit is not None else {}
    samples = {name: int(n) if n is not None else None for name, n in (("train_rows", take), ("eval_rows", score))}
    return replace(draft, goal=goal, **samples)  # type: ignore[arg-type]


def _choose(draft: Draft, own: list[str], runs: Path | None, run: Run) -> int:
    """The recommendation stands above: take it, another method, other settings or another goal, or nothing."""
    question = _(
        "Start it? enter for the advised method; full, lora or qlora for another; pilot to try the candidates on a slice "
        "and go on with the winner; NAME=VALUE for a setting, or a flag named above, to see it again; no to leave"
    )
    while True:
        chosen = _answer(question, draft.method)
        if chosen.lower() in ("no", "n", "q", _("no")):
            _say(_("Nothing was started. The same, without questions:"))
            print(clean(shlex.join(["loracle", *_typed(draft, draft.method, own)])), flush=True)
            return Exit.DONE
        if "=" in chosen or chosen.startswith("-"):
            try:
                wanted, settings = _changed(draft, own, chosen)
            except InputError as error:
                _say(in_words(error.message))
                continue
            code = run([*_typed(wanted, wanted.method, settings), "--dry-run", *_runs(runs)])
            if code not in (Exit.DONE, Exit.REFUSED):  # said already; what was said before it still holds
                continue
            draft, own = wanted, settings
            if own:
                _say(_("Your own settings for the run: {settings}.").format(settings=", ".join(own[1::2])))
            continue
        method = chosen.lower()
        if method not in ("", "yes", "y", _("yes"), PILOT, *METHODS):
            continue
        typed = [*_typed(draft, method if method in METHODS else draft.method, own), *_runs(runs)]
        if method == PILOT:
            typed = [PILOT, *_typed(draft, "", own)[1:], *_runs(runs)]  # without --auto, and of every method
            if (code := run([*typed, "--dry-run"])) == Exit.DONE and not _yes(_("Start the pilot?")):
                continue
        if method != PILOT or code == Exit.DONE:
            code = run(typed)
        if code == Exit.REFUSED and _yes(_("Start it anyway?")):
            code = run([*typed, "--anyway"])
        if code in (Exit.DONE, Exit.FAILED, Exit.STOPPED):  # else nothing was started, and the answers are kept
            drafts.used(draft)
        return code


def _changed(draft: Draft, own: list[str], text: str) -> tuple[Draft, list[str]]:
    """With a setting or a flag of the goal, as typed.

    Raises:
        InputError: it is neither.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    flags.goal(parser)
    try:
        given, left = parser.parse_known_args(shlex.split(text))
    except (argparse.ArgumentError, ValueError) as error:
        raise InputError(f"{error}.") from None
    settings = [word for word in left if "=" in word and not word.startswith("-")]
    if len(settings) < len([word for word in left if word != "--set"]):
        raise InputError(_("{text} is neither a setting nor a flag of the goal.").format(text=one_line(text, 60)))
    pairs = [word for setting in settings for word in ("--set", setting)]
    return replace(draft, goal=dict(draft.goal) | flags.said_goal(given)), [*own, *pairs]


def _runs(runs: Path | None) -> list[str]:
    return ["--runs", str(runs)] if runs is not None else []


def _yes(question: str) -> bool:
    return _answer(f"{question} {_('yes or no')}", _("no")).lower() in ("yes", "y", _("yes"))


def _number(question: str, usual: str, least: float = 0) -> float | None:
    while True:
        text = _answer(question, usual)
        if text == "-":
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if value > 0 and value >= least and value < 1e9:
            return value
        _say(_("{text} is not a valid number.").format(text=one_line(text, 40)))


def _answer(question: str, usual: str) -> str:
    """What is said; `usual` where nothing is.

    Raises:
        InputEnded: the input ended.
    """
    print(f"{question}{f' [{one_line(usual, 200)}]' if usual else ''}: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        print(file=sys.stderr)
        ended = _("the input ended before everything was answered; nothing was started.")
        raise InputEnded(f"{ended} {_('`loracle --auto --model ID --data FILE` asks nothing.')}")
    return line.strip() or usual


def _say(text: str) -> None:
    print(one_line(text, 1_500), file=sys.stderr, flush=True)
