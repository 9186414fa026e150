"""Several runs that answer one question: a folder with `group.json` and ordinary runs inside.

    runs/20261124-101500-imdb-compare/
        group.json  recommendation.json  facts.json  driver.json  full-1/  lora-1/  ...  report.json

Everything that was decided follows from the plans in `group.json` and the files of the runs, so a driver may die at any
moment and another goes on.
"""

import contextlib
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from engine import launch, runs
from engine.files import alone, json_object, write_json
from engine.new_run import new_folder, unwritable
from engine.processes import lives, this
from engine.rundir import RunDirectory, is_group, is_run, versioned
from engine.text import one_line
from recommender.errors import InputError, TrainingFailed
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation

Kind = Literal["compare", "pilot"]
_KEY = re.compile("[a-z0-9][a-z0-9_-]*")
"""A run's key is the name of its folder, which is emptied before the run begins: it must not lead out of the group's."""
REVIVALS = 1
"""How often a run whose worker died is taken up again before it counts as failed."""


class Task(NamedTuple):
    """What is to be done next: bring that run to its end, or to a pause after step `stop_at`."""

    key: str
    stop_at: int | None = None


Next = Callable[["Group", frozenset[str]], Task | None]
"""The next task of a group, given the runs that failed; `None` when nothing is left to do."""
Begin = Callable[[], tuple[RunDirectory, int]]
"""Starts a run, or goes on with it; its events before the offset are old."""
Watch = Callable[[Begin], object]
"""Begin a run and wait until its worker has ended. One call, so that a Ctrl-C never falls between the two."""
Report = Callable[["Group", frozenset[str]], dict[str, Any]]
"""What came out of a group, given the runs that failed."""


@dataclass(frozen=True, slots=True)
class Group:
    """Paths of one group and what can be read from them."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, by which commands know the group."""
        return self.path.name

    @property
    def shown(self) -> str:
        """The name as it may be shown: whoever copied the folder here chose it."""
        return one_line(self.name)

    @property
    def report_file(self) -> Path:
        """What came out of it."""
        return self.path / "report.json"

    def content(self) -> dict[str, Any]:
        """`group.json`.

        Raises:
            InputError: damaged, or written by a newer version.
        """
        found = versioned(self.path / "group.json") or {}
        plans = found.get("plans") if found.get("kind") in ("compare", "pilot") else None
        whole = isinstance(plans, dict) and plans and all(map(_KEY.fullmatch, plans))
        if not whole or (found["kind"] == "pilot" and not _is_pilot(found)):
            raise InputError(f"{self.path}: its group.json cannot be read.")
        return found

    def plans(self) -> dict[str, Plan]:
        """The plan of each run, also of those not begun yet, in their order.

        Raises:
            InputError: `group.json` is damaged.
        """
        try:
            return {key: Plan.model_validate(plan) for key, plan in self.content()["plans"].items()}
        except ValidationError as error:
            raise InputError(f"{self.path}: a plan in its group.json is damaged ({error.errors()[0]['msg']}).") from None

    def run(self, key: str) -> RunDirectory:
        """The run of that key, begun or not."""
        return RunDirectory(self.path / key)

    def begun(self) -> list[RunDirectory]:
        """The runs that were begun, in the order of their plans."""
        return [self.run(key) for key in self.content()["plans"] if is_run(self.path / key)]

    def current(self) -> RunDirectory | None:
        """The run that is going on now."""
        return next((r for r in self.begun() if r.state().status in ("running", "starting") and r.alive()), None)

    def report(self) -> dict[str, Any] | None:
        """The report, once there is one.

        Raises:
            InputError: written by a newer version.
        """
        return versioned(self.report_file)

    def driven(self) -> bool:
        """Whether a process is working the group off."""
        driver = json_object(self.path / "driver.json") or {}
        return driver.get("host") == socket.gethostname() and lives(driver)

    def status(self) -> str:
        """In the words of a run's status."""
        if self.driven() or self.current() is not None:
            return "running"
        report = self.report()
        if report is None:
            return "stopped"
        return "done" if report.get("complete") else "failed"


def _is_pilot(content: dict[str, Any]) -> bool:
    """Whether everything is there that the course of a pilot is told from."""
    named, stages = content.get("labels"), content.get("stages")
    if not isinstance(named, dict) or not isinstance(content.get("left_out"), list):
        return False
    if content.get("mode") == "folds":
        return True
    staged = isinstance(stages, list) and bool(stages) and all(isinstance(step, int) for step in stages)
    every = set(content["plans"]) <= set(named)
    return content.get("mode") == "slice" and staged and every and isinstance(content.get("raised"), dict)


def create(root: Path, kind: Kind, plans: Mapping[str, Plan], *, advice: Recommendation, facts: Facts, **more: Any) -> Group:
    """A new group below `root`; nothing is started.

    Raises:
        InputError: the folder cannot be written.
    """
    written = {key: plan.model_dump(mode="json", exclude_none=True) for key, plan in plans.items()}

    def fill(path: Path) -> None:
        write_json(path / "recommendation.json", advice.model_dump(mode="json"))
        write_json(path / "facts.json", facts.model_dump(mode="json"))
        write_json(path / "group.json", {"version": 1, "kind": kind, "created": time.time(), **more, "plans": written})

    try:
        group = Group(new_folder(root, next(iter(plans.values())), kind, fill).resolve())
    except OSError as error:
        raise unwritable(root, error) from None
    runs.remember(group.path)
    return group


def find(name: str | Path, where: Path | None = None) -> Group | None:
    """The group that `name` means: a path, a name, the start or a part of it that nothing else has, or `last`.

    `None` where it means a run, nothing, or several things.
    """
    if not str(name):
        return None
    if is_group(Path(name)):
        return Group(Path(name).resolve())
    known = list(map(RunDirectory, runs.folders(where)))
    found = known[:1] if str(name) == "last" else runs.meant(str(name), known, where)
    return Group(found[0].path) if len(found) == 1 and is_group(found[0].path) else None


def drive(group: Group, following: Next, watch: Watch, report: Report | None = None) -> tuple[bool, frozenset[str]]:
    """Work the group off, one run at a time, until nothing is left or somebody stops a run; then write its `report`.

    Returns whether it was stopped, and the keys of the runs that failed. A run whose worker died without a word is taken
    up once more from its newest checkpoint.

    Raises:
        InputError: another process is at it, or the group's folder cannot be written.
        Refused: there is not enough disk for the next run.
        TrainingFailed: all runs have ended, and the report cannot be written.
    """
    failed: set[str] = set()
    deaths: Counter[str] = Counter()
    with _as_driver(group):
        while (task := following(group, frozenset(failed))) is not None:
            watch(partial(_begin, group, task))
            run = group.run(task.key)
            if (run.control / "stop").exists() or (run.control / "stop-now").exists():
                return True, frozenset(failed)
            if done(run, task.stop_at):
                continue
            status = run.state().status
            if status == "stopped":  # by SIGTERM to its worker
                return True, frozenset(failed)
            deaths[task.key] += status == "dead"
            if status != "dead" or deaths[task.key] > REVIVALS:
                failed.add(task.key)
        if report is not None:
            content = report(group, frozenset(failed))
            try:
                write_json(group.report_file, content)
            except OSError as error:
                raise TrainingFailed(
                    f"{group.path}: its report could not be written ({error.strerror}); its runs are intact: free some disk "
                    f"space, then `loracle resume {group.name}`."
                ) from None
        return False, frozenset(failed)


def done(run: RunDirectory, stop_at: int | None = None) -> bool:
    """Whether the run has got to its end, or to its pause after `stop_at`."""
    if stop_at is not None:
        return json_object(run.validation_scores(stop_at), None) is not None
    return is_run(run.path) and run.report_file.is_file() and run.state().status == "done"


def _begin(group: Group, task: Task) -> tuple[RunDirectory, int]:
    """Start the task's run, go on with it, or find it still going on; where in its event log to begin watching."""
    run = group.run(task.key)
    if not is_run(run.path):
        content = json_object(group.path / "recommendation.json")
        advice = Recommendation.model_validate(content) if content else None
        plan = group.plans()[task.key]
        return runs.start(plan, advice, group.path, name=task.key, stop_at=task.stop_at), 0
    offset = run.events.stat().st_size if run.events.exists() else 0
    if not run.worker() and not offset:  # whoever made it died before the worker was started
        runs.clear_requests(run, stop_at=task.stop_at)
        launch.launch(run, run.plan())
        return run, 0
    status = run.state().status
    if status == "done" or (status in ("running", "starting") and run.goes_on()):  # its worker outlived its driver
        return run, 0
    runs.resume(run, stop_at=task.stop_at)
    return run, offset


@contextlib.contextmanager
def _as_driver(group: Group) -> Iterator[None]:
    """While inside, others see that this process works the group off.

    Raises:
        InputError: another process does, or it cannot be written down.
    """
    with runs.written(group.path), alone(group.path):  # of two that begin at once, the other is seen
        if group.driven():
            raise InputError(f"{group.name} is already being run; `loracle attach {group.name}` shows it.")
        write_json(group.path / "driver.json", this())
    try:
        yield
    finally:
        (group.path / "driver.json").unlink(missing_ok=True)
