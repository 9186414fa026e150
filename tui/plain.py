"""The questions of set-up as ordinary prompts, for screen readers, plain terminals and pipes; the answers become `--auto`.

Asked for with `--plain` or `ACCESSIBLE=1`, and taken by itself where the app cannot be shown: no terminal, `TERM=dumb`, or
one that is not UTF-8. The questions go to standard error, what comes out to standard output, as with `--auto`.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.text import one_line
from recommender.errors import Exit, InputError, LoracleError
from tui import draft as drafts
from tui import work_setup
from tui.draft import Draft
from tui.i18n import _
from tui.observations import TASKS, columns_of, of_data
from tui.words import number

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection

METHODS = ("full", "lora", "qlora")
Run = Callable[[list[str]], int]
"""Runs what would be typed after `loracle`; its exit code."""


def wanted(asked_for: bool) -> bool:
    """Whether prompts take the place of the app: asked for, or the only thing this terminal can show."""
    if asked_for or os.environ.get("ACCESSIBLE", "") not in ("", "0"):
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "") in ("dumb", ""):
        return True
    return "utf" not in (sys.stdout.encoding or "").lower()


def ask(model: str, data: str, runs: Path | None, run: Run) -> int:
    """Ask for everything, show the plan, and start it; the run's exit code.

    Raises:
        InputError: the input ended before everything was said.
    """
    _say(_("Loracle: choose and run a fine-tune. Empty answers take what stands in brackets; ctrl+c leaves."))
    draft = Draft(model=model, data=data) if model or data else drafts.kept()
    found = _model(draft.model)
    draft = replace(draft, model=found[0])
    draft, rows = _data(draft, found[1])
    draft = _limits(draft, rows)
    drafts.keep(draft)
    code = run([*draft.arguments(), "--dry-run", *_runs(runs)])
    return _choose(draft, runs, run) if code in (Exit.DONE, Exit.REFUSED) else code


def _model(usual: str) -> "tuple[str, ModelInspection]":
    names = [name for name, _where in work_setup.models_here()]
    _say(_("Models here: {names}.").format(names=", ".join(one_line(n, 60) for n in names[:8])))
    while True:
        name = _answer(_("Model: a folder, a hub id, or demo"), usual or "demo")
        try:
            found = work_setup.inspect_model(name)
        except LoracleError as error:
            _say(error.message)
            continue
        facts = found.facts
        text = _("{family}, {n} parameters, reads {tokens} tokens.")
        family = _(facts.family) if facts.family else _("family not known")
        _say(text.format(family=family, n=number(facts.parameters), tokens=number(facts.max_positions)))
        return name, found


def _data(draft: Draft, model: "ModelInspection") -> "tuple[Draft, DataInspection]":
    demo = work_setup.demo() if draft.model == "demo" else None
    while True:
        usual = draft.data or (demo.data if demo is not None else "")
        name = _answer(_("Training data: a file, a saved set or a hub id"), usual)
        used = demo.held_out if demo is not None and name == demo.data else draft.held_out if name == draft.data else ""
        held_out = _answer(_("Held-out data to score before and after, if there is any"), used)
        draft = replace(draft, data=name, held_out="" if held_out == "-" else held_out)
        try:
            rows = work_setup.inspect_data(draft, model.path)
        except LoracleError as error:
            _say(error.message)
            continue
        task = rows.facts.task
        columns = ", ".join(f"{role}: {one_line(c, 30)}" for role, c in columns_of(rows.facts).items())
        of = _("{n} rows, taken for {task}.").format(n=number(rows.facts.rows), task=TASKS[task] if task else "?")
        _say(f"{of} {columns}".strip())
        for odd in of_data(rows.facts):
            _say(f"! {odd}")
        other = _answer(_("Another task? One of {tasks}").format(tasks=", ".join(TASKS)), task or "")
        if other == task or other not in TASKS:
            return draft, rows
        draft = replace(draft, task=other, columns={})


def _limits(draft: Draft, rows: "DataInspection") -> Draft:
    hours = draft.goal.get("time_budget_hours")
    limit = _number(_("Hours one run may take, or - for no limit"), f"{hours:g}" if hours else "-")
    take = _number(
        _("Rows to train on, or - for all {n}").format(n=number(rows.facts.rows)), str(draft.train_rows or "-"), least=2
    )
    goal = {name: value for name, value in draft.goal.items() if name != "time_budget_hours"}
    goal |= {"time_budget_hours": limit} if limit is not None else {}
    return replace(draft, goal=goal, train_rows=int(take) if take is not None else None)


def _choose(draft: Draft, runs: Path | None, run: Run) -> int:
    """The recommendation stands above: take it, another method, or nothing."""
    while True:
        chosen = _answer(_("Start it? enter for the advised way; full, lora or qlora for another; no to leave"), "")
        if chosen.lower() in ("no", "n", "q"):
            _say(_("Nothing was started. The same, without questions:"))
            print(draft.command(), flush=True)
            return Exit.DONE
        method = chosen.lower()
        if method not in ("", "yes", "y", *METHODS):
            continue
        typed = [*draft.arguments(method if method in METHODS else ""), *_runs(runs)]
        code = run(typed)
        if code == Exit.REFUSED and _answer(_("Start it all the same? yes or no"), _("no")).lower() in ("yes", "y", _("yes")):
            code = run([*typed, "--anyway"])
        if code != Exit.REFUSED:
            drafts.used(draft)
        return code


def _runs(runs: Path | None) -> list[str]:
    return ["--runs", str(runs)] if runs is not None else []


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
        _say(_("{text} is no such number.").format(text=one_line(text, 40)))


def _answer(question: str, usual: str) -> str:
    """What is said; `usual` where nothing is.

    Raises:
        InputError: the input ended.
    """
    print(f"{question}{f' [{one_line(usual, 200)}]' if usual else ''}: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        print(file=sys.stderr)
        ended = _("the input ended before everything was said; nothing was started.")
        raise InputError(f"{ended} {_('`loracle --auto --model ID --data FILE` asks nothing.')}")
    return line.strip() or usual


def _say(text: str) -> None:
    print(one_line(text, 1_500), file=sys.stderr, flush=True)
