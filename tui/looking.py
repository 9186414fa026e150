"""Finding out about machine, model and data for a command: what is waited for is said on standard error."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial

from engine import contradictions
from engine import inspect as inspection
from engine import runs as engine_runs
from engine.inspection.pipes import Progress
from engine.named import is_hub_data
from engine.planning import check_flags
from engine.prediction import trial
from engine.prediction.calibration import fastest_reading
from engine.prediction.candidates import Own, prepare, with_counted_steps
from engine.text import one_line
from recommender.decide import recommend
from recommender.facts import Facts, Goal, Machine
from recommender.figures import size
from recommender.recommendation import Method
from tui.commands_inspect import rows_of
from tui.flags import said_goal
from tui.i18n import _
from tui.progress import ProgressLine


class Look:
    """What was found out about machine, model and data."""

    def __init__(self, given: argparse.Namespace, known: Callable[[Facts], None] | None = None) -> None:
        """Look at them. `known` is told of what was found before anything is tried, which takes seconds.

        Raises:
            InputError: model or data cannot be used, or not with the settings that the person gave.
        """
        self.model = inspection.inspect_model(given.model, weights=False)
        machine, reading = _machine(given)
        downloads = is_hub_data(given.data)
        self.data = rows_of(given, given.data, self.model.path, begun=None if downloads else partial(prepare, machine))
        if downloads:  # there may be less disk now
            machine, reading = _machine(given)
        self._name, self._quiet = given.model, given.json
        goal = Goal.model_validate(said_goal(given))
        found = inspection.all_facts(machine, self.model, self.data, goal, reading=reading)
        own = contradictions.plan_of_settings(given.assignments, _certain_method(given, found), found.data.task)
        contradictions.check_here(own, found.model, found.machine)
        contradictions.check_rows(own, found.data)
        if known is not None:
            known(found)
        if trial.is_wanted(found) and not given.json:
            print(_("Trying bf16 on this processor, a minute at most, once for this model and such texts …"), file=sys.stderr)
        self.facts = trial.with_trial(found)

    def trace(self, own: Own = lambda _: (), *, explained: bool = False) -> None:
        """Count what the candidates' steps take, and those of the plans that `own` makes of the advice."""
        with counting(quiet=self._quiet) as told:
            self.facts = with_counted_steps(self.facts, own, explained=explained, told=told)

    def fetch(self) -> None:
        """Have the weights on this machine: they are downloaded once a run is certain to be wanted."""
        if not self.model.weights_here:
            name, much = one_line(self._name, 100), size(self.model.facts.weights_bytes or 0)
            print(_("Downloading {name} ({size}) …").format(name=name, size=much), file=sys.stderr)
            with ProgressLine(name) as progress:
                self.model = inspection.inspect_model(self._name, progress=progress)


def _machine(given: argparse.Namespace) -> tuple[Machine, dict[str, float]]:
    """What this machine has, and the speed of its processor where nothing else computes: while nothing of ours does."""
    tries = "qlora" in (getattr(given, "methods", None) or [given.method])
    found = inspection.inspect_machine(engine_runs.runs_root(given.runs), try_nf4=tries)
    return found, fastest_reading(found) if found.backend == "cpu" else {}


def _certain_method(given: argparse.Namespace, found: Facts) -> Method | None:
    """The method of the run, where it is named, or advised so clearly that nothing that is still counted will change it."""
    if hasattr(given, "methods") or given.method is not None or not given.assignments:
        return getattr(given, "method", None)
    advice = recommend(found)
    return advice.best.method if advice.confidence == "clear" else None


def look_at(given: argparse.Namespace, known: Callable[[Facts], None] | None = None) -> Look:
    """Find out about machine, model and data. `known` is told of them as soon as they are, before seconds of trying.

    Raises:
        InputError: a flag, the model or the data cannot be used.
    """
    # A misspelt name, what no plan can have, or what has a flag is told before the long look.
    contradictions.plan_of_settings(given.assignments, getattr(given, "method", None), given.task)
    check_flags(given.assignments)
    if not given.json:
        print(_("Inspecting machine, model and data …"), file=sys.stderr)
    return Look(given, known)


@contextlib.contextmanager
def counting(*, quiet: bool) -> Iterator[Progress | None]:
    """Says once that steps are counted, before the first wait; a terminal is told how many are."""
    with ProgressLine(_("Counted")) as line:
        rounds: list[int] = []

        def told(done: int, total: int, unit: str) -> None:
            if not rounds:
                said = _("Counting the memory of steps, two minutes at most, once for this model and such rows …")
                print(said, file=sys.stderr)
            if done == 0:  # what was counted asks for further ones
                rounds.append(total)
            before = sum(rounds[:-1])
            line(before + done, before + total, unit)

        yield None if quiet else told
