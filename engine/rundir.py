"""The run directory: the only channel between a worker and whoever watches it.

runs/20261124-101500-imdb-full/
    plan.yaml  recommendation.json  facts.json  run.lock  worker.json  control/
    events.jsonl  worker.log  checkpoints/step-N/  scores/  model/  report.json
"""

import math
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import checkpoints
from engine.events import EventTail
from engine.files import beginning, folder_size, json_object, unpiped, write_atomically
from engine.processes import before_restart, lives
from engine.state import FINISHED, Death, RunState
from engine.text import one_line
from recommender.errors import InputError
from recommender.plan import Plan
from recommender.plan_file import MAX_BYTES, parse

Request = Literal["stop", "save", "stop-now"]
START_GRACE_SECONDS = 20.0
"""How long a run without a worker.json counts as starting."""
WAIT_SECONDS = 0.25
"""Between two looks at a run that is waited for."""
SILENCE_SECONDS = 30.0
"""For so long a worker on another host may say nothing: it beats every two seconds, and a network's disk may show that late."""
BEGUN_ANEW = "=== begun anew ===\n"
"""In a worker's log, where an earlier one has written into it."""
LEAST_DISK = 65_536
"""Bytes: the longest event, which is the least that a worker must be able to write."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run and what can be read from them."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, by which commands know the run; with that of its group, if it belongs to one."""
        return self.path.name if self.group is None else f"{self.group.name}/{self.path.name}"

    @property
    def shown(self) -> str:
        """The name as it may be shown: whoever copied the folder here chose it."""
        return one_line(self.name)

    @property
    def group(self) -> Path | None:
        """The folder of the group that this run belongs to."""
        return self.path.parent if is_group(self.path.parent) else None

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the worker and its libraries printed."""
        return self.path / "worker.log"

    @property
    def lock(self) -> Path:
        """What its worker holds locked as long as it lives."""
        return self.path / "run.lock"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-N` checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The saved result."""
        return self.path / "model"

    @property
    def scores(self) -> Path:
        """Predictions behind every score, a file each."""
        return self.path / "scores"

    def validation_scores(self, pause: int) -> Path:
        """What the model said about each validation row when it paused after that step."""
        return self.scores / f"validation-step-{pause}.json"

    @property
    def report_file(self) -> Path:
        """The before/after report."""
        return self.path / "report.json"

    @property
    def control(self) -> Path:
        """Folder in which requests to the worker are dropped."""
        return self.path / "control"

    def plan(self) -> Plan:
        """The plan this run repeats.

        Raises:
            InputError: missing, damaged, or written by a newer version.
        """
        file = self.path / "plan.yaml"
        try:
            text = beginning(file, MAX_BYTES)
        except (OSError, UnicodeDecodeError):
            raise InputError(f"{self.path} is not a run: its plan.yaml cannot be read.") from None
        return parse(text, str(file))

    def recommendation(self) -> dict[str, Any] | None:
        """The recommendation the plan came from, if there was one.

        Raises:
            InputError: written by a newer version.
        """
        return versioned(self.path / "recommendation.json")

    def report(self) -> dict[str, Any] | None:
        """The report, once the run is done.

        Raises:
            InputError: written by a newer version.
        """
        return versioned(self.report_file)

    def note(self) -> str:
        """What the person noted about it."""
        goal = (json_object((self.group or self.path) / "facts.json") or {}).get("goal")
        return one_line(goal.get("note") or "", 200) if isinstance(goal, dict) else ""

    def spare(self) -> int:
        """Bytes of its checkpoints, once the run is done and nothing needs them any more; 0 where somebody is removing them."""
        try:
            return folder_size(self.checkpoints) if self.report_file.exists() and any(checkpoints.listed(self.checkpoints)) else 0
        except OSError:
            return 0

    def worker(self) -> dict[str, Any]:
        """Who runs, or last ran, this: pid, start time, host, versions. Empty when nobody yet."""
        return json_object(self.path / "worker.json") or {}

    def alive(self) -> bool:
        """Whether the worker lives: the process that it wrote down exists on this host."""
        worker = self.worker()
        if not worker:
            try:
                return abs(time.time() - self.path.stat().st_mtime) < START_GRACE_SECONDS  # a clock may have been set back
            except OSError:
                return False
        if worker.get("host") != socket.gethostname():
            return self._heard_lately()
        return lives(worker)

    def _heard_lately(self) -> bool:
        """For a worker on another host: whether its log grew within a few heartbeats."""
        try:
            return time.time() - self.events.stat().st_mtime < SILENCE_SECONDS
        except OSError:
            return False

    def goes_on(self) -> bool:
        """`alive`, but a worker on another host must still be heard: waits for its next word, `SILENCE_SECONDS` at most.

        A cluster that has killed it starts the next one elsewhere at once, when its log is as young as that of a living one.
        """
        if self.worker().get("host") in (None, socket.gethostname()):
            return self.alive()
        before, until = self._said(), time.monotonic() + SILENCE_SECONDS
        while self._said() == before:
            if not self.alive() or time.monotonic() > until:  # by that host's clock its last word may lie ahead
                return False
            time.sleep(WAIT_SECONDS)
        return True

    def _said(self) -> int:
        """Bytes of its log."""
        try:
            return self.events.stat().st_size
        except OSError:
            return 0

    def state(self) -> RunState:
        """The state folded from all events so far."""
        return self.wait(0.0)

    def wait(self, seconds: float = math.inf) -> RunState:
        """The state once the run is done, stopped, failed, refused or dead; after so many seconds as it is by then."""
        tail, state, deadline = EventTail(self.events), RunState(), time.monotonic() + seconds

        def read() -> None:
            while events := tail.poll():
                for event in events:
                    state.apply(event)

        while True:
            read()
            if settle(self, state, read).status in (*FINISHED, "dead") or time.monotonic() >= deadline:
                return state
            time.sleep(WAIT_SECONDS)

    def ask(self, request: Request) -> None:
        """Drop a request for the worker, which looks at every step."""
        self.control.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.control / request, b"")

    def likely_death(self) -> Death:
        """What most likely ended a worker that said nothing of it."""
        worker = self.worker()
        if worker and worker.get("host") != socket.gethostname():
            return "elsewhere"
        if before_restart(worker):
            return "restarted"
        try:
            if os.statvfs(self.path).f_flag & os.ST_RDONLY:
                return "read_only"
            return "disk" if shutil.disk_usage(self.path).free < LEAST_DISK else "memory"
        except OSError:
            return "memory"

    def last_words(self, lines: int = 12) -> str:
        """The end of the worker's log: all there is when it died without a word. Of an earlier worker nothing."""
        try:
            with unpiped(self.log).open("rb") as file:
                file.seek(max(self.log.stat().st_size - 700 * lines, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.rpartition(BEGUN_ANEW)[2].splitlines()[-lines:])


def settle(run: RunDirectory, state: RunState, read: Callable[[], object]) -> RunState:
    """`state` with `dead` for a run that neither ended nor has a worker.

    `read` takes in what was written since the state was: a worker may say its last word and be gone before it is looked for.
    """
    if state.status not in FINISHED and not run.alive():
        read()
        if state.status in FINISHED:
            return state
        if state.status != "dead":
            state.death = run.likely_death()
        state.status = "dead"
    elif state.status == "dead" and run.alive():
        state.status = "running"
    return state


def versioned(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of ours; `None` where there is none.

    Raises:
        InputError: written by a newer version.
    """
    content = json_object(path)
    version = content.get("version", 1) if content else 1
    if isinstance(version, int) and version > 1:
        raise InputError(f"{path} was written by a newer Loracle: update Loracle.")
    return content


def inside(folder: Path) -> list[Path]:
    """What lies in a folder of runs, but for what is still being made.

    Raises:
        OSError: it is gone.
    """
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def is_group(path: Path) -> bool:
    """Whether that folder looks like a group of runs."""
    return (path / "group.json").is_file() and os.access(path, os.R_OK)


def is_run(path: Path) -> bool:
    """Whether that folder looks like a run."""
    return (path / "plan.yaml").is_file() and os.access(path, os.R_OK)
