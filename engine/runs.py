"""Runs as a person handles them: start, find, attach, stop, resume."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from engine import launch
from engine.events import EventWriter
from engine.files import alone, expanded, json_object, name_beside, unpiped, write_atomically
from engine.new_run import create
from engine.processes import lives
from engine.rundir import RunDirectory, inside, is_group, is_run
from engine.state import FINISHED
from engine.userstate import state_folder
from recommender.errors import InputError, Refused
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Recommendation

SIGNALS_APART = 0.2
"""Seconds between two signals: of those that come together one is heard."""
LEAVING_SECONDS = 30.0
"""Within which a worker that has said its last word frees its memory and is gone; half a second is usual."""


def start(
    plan: Plan,
    recommendation: Recommendation | None = None,
    runs: Path | None = None,
    *,
    facts: Facts | None = None,
    name: str | None = None,
    stop_at: int | None = None,
    waiting: launch.Waiting | None = None,
) -> RunDirectory:
    """Write the run directory and start its worker, which goes on without this process.

    `facts` are those that the recommendation rests on; they are kept with the run. `name` is the folder's name where it
    matters, inside a group. With `stop_at` the run pauses after that step, to be resumed. `waiting` is a worker that has begun
    to import its libraries.

    Raises:
        InputError: the runs folder cannot be written.
        Refused: there is not enough disk.
    """
    root = runs_root(runs)
    launch.check_disk(plan, root)
    run = create(root, plan, recommendation, facts, name=name)
    with written(run.path):
        clear_requests(run, stop_at=stop_at)
        if run.group is None:
            remember(run.path)
        launch.launch(run, plan, waiting)
    return run


def attach(name: str | Path, runs: Path | None = None) -> RunDirectory:
    """The run that `name` means: a path, a name, what only its name begins with or holds, or `last`.

    Raises:
        InputError: none, or several.
    """
    path = Path(name)
    if not str(name):  # a variable of a shell that was empty: every name begins with that
        raise InputError("No run is called ''. `loracle runs` lists them.")
    if is_run(path):
        return RunDirectory(path.resolve())
    known = list(all_runs(runs))
    if str(name) == "last":
        if not known:
            raise InputError(f"There is no run yet in {runs_root(runs)}.")
        return known[0]
    found = meant(str(name), known, runs)
    if not found:
        raise InputError(f"No run is called {name}. `loracle runs` lists them.")
    if len(found) > 1 and found[0].name == str(name):
        raise InputError(f"{name} may be any of {', '.join(str(r.path) for r in found[:5])}: give its path.")
    if len(found) > 1:
        raise InputError(f"{name} may be any of {', '.join(r.name for r in found[:5])}: give more of the name.")
    return found[0]


def meant(name: str, known: list[RunDirectory], runs: Path | None = None) -> list[RunDirectory]:
    """Those called so, of a copied project's the ones in the folder at hand; else what begins so, else what holds it."""
    here = runs_root(runs).resolve()
    exact = [r for r in known if r.name == name]
    begin = [r for r in known if r.name.startswith(name)]
    return [r for r in exact if r.path.is_relative_to(here)] or exact or begin or [r for r in known if name in r.name]


def resume(run: RunDirectory, *, stop_at: int | None = None) -> RunDirectory:
    """Go on with a run that was stopped, paused, died or failed, from its newest sound checkpoint.

    With `stop_at` it pauses again after that step.

    Raises:
        InputError: it is done, is still running, or its folder cannot be written.
        Refused: there is not enough disk.
    """
    last = run.worker()
    state = run.state()
    if state.status == "done":
        raise InputError(f"{run.name} is done; `loracle report {run.name}` shows what came out.")
    if state.status in ("running", "starting") and run.goes_on():
        raise InputError(_running(run))
    deadline = time.monotonic() + LEAVING_SECONDS
    while state.status in FINISHED and lives(last) and time.monotonic() < deadline:
        time.sleep(0.05)
    plan = run.plan()
    launch.check_disk(plan, run)
    with written(run.path), alone(run.path):
        for file in (run.log, run.lock):
            if file.exists():
                unpiped(file)  # who opens one to write waits for a reader
        _take_over(run)
        events = EventWriter(run.events)
        events.write("phase", name="load", done=0, total=0, unit="")
        events.close()
        clear_requests(run, stop_at=stop_at)
        launch.launch(run, plan)
    return run


def _running(run: RunDirectory) -> str:
    return f"{run.name} is running; `loracle attach {run.name}` shows it."


def _take_over(run: RunDirectory) -> None:
    """Take away who ran it last: until the new worker speaks, viewers see a run that starts, not one that has ended.

    Of two who go on with a run at once, one finds nothing more to take, or the other's worker.

    Raises:
        InputError: somebody else was quicker.
    """
    last = run.path / "worker.json"
    taken = name_beside(last)
    try:
        last.rename(taken)
    except FileNotFoundError:
        if run.state().status not in FINISHED and run.alive():
            raise InputError(_running(run)) from None
        os.utime(run.path)  # its last worker came to nothing, and this one has as long to say who it is
        return
    if lives(json_object(taken) or {}):
        taken.rename(last)
        raise InputError(_running(run))
    taken.unlink()


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Inside, a run's folder is written to.

    Raises:
        InputError: it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}).") from None


def clear_requests(run: RunDirectory, *, stop_at: int | None = None) -> None:
    """Forget what was asked of an earlier worker; the next one is to pause after step `stop_at`, if that is given."""
    for request in run.control.glob("*"):
        request.unlink(missing_ok=True)
    if stop_at is not None:
        write_atomically(run.control / "stop-at", str(stop_at))


def stop(run: RunDirectory, *, now: bool = False) -> None:
    """Ask the worker to stop after the current step, with a checkpoint (or at once, without).

    Raises:
        InputError: it is not running.
        Refused: it cannot be asked: its disk takes nothing more, and it runs on another machine.
    """
    state = run.state()
    if state.status in FINISHED or not run.alive():
        raise InputError(f"{run.name} is not running (it is {state.status}).")
    try:
        run.ask("stop-now" if now else "stop")
    except OSError as error:
        if not _signal(run, now=now):
            raise Refused(f"{run.name} cannot be asked to stop ({error.strerror}) and goes on.") from None


def _signal(run: RunDirectory, *, now: bool) -> bool:
    """Ask by a signal, which needs no room on a disk; whether the worker is on this machine."""
    worker = run.worker()
    if worker.get("host") != socket.gethostname() or not lives(worker):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker["pid"], signal.SIGTERM)
        if now:
            time.sleep(SIGNALS_APART)
            os.kill(worker["pid"], signal.SIGTERM)
    return True


def runs_root(runs: Path | None = None) -> Path:
    """Where runs go: `--runs`, else `LORACLE_RUNS`, else `./runs`."""
    return expanded(runs or os.environ.get("LORACLE_RUNS") or "runs")


def all_runs(runs: Path | None = None) -> Iterator[RunDirectory]:
    """Runs in the runs folder and those started elsewhere, newest first; those of a group stand together."""
    for path in folders(runs):
        if is_group(path):
            members = []
            with contextlib.suppress(OSError):  # thrown away in this moment
                members = sorted(filter(is_run, inside(path)), key=begun, reverse=True)
            yield from map(RunDirectory, members)
        else:
            yield RunDirectory(path)


def under_way(runs: Path | None = None) -> list[RunDirectory]:
    """Runs, in whatever folder, that a worker on this machine is at now: not those whose worker has but to free its memory."""
    known = {run.path: run for folder in (runs, None) for run in all_runs(folder)}
    workers = ((run, run.worker()) for run in known.values())
    living = [run for run, worker in workers if worker.get("host") == socket.gethostname() and lives(worker)]
    return [run for run in living if run.state().status not in FINISHED]


def folders(runs: Path | None = None) -> list[Path]:
    """Folders of runs and of groups of runs, in the runs folder and elsewhere, newest first."""
    root = runs_root(runs)
    local = {p.resolve() for p in inside(root) if is_run(p) or is_group(p)} if root.is_dir() else set()
    # A folder that was named for this call is meant alone; the index serves whoever did not say where.
    alone = runs is not None or os.environ.get("LORACLE_RUNS")
    elsewhere = set() if alone else {p for p in _index() if is_run(p) or is_group(p)}
    return sorted(local | elsewhere, key=lambda p: (p.name, str(p)), reverse=True)


def begun(run: Path) -> float:
    """When the plan of the run in that folder was written.

    Raises:
        OSError: it is gone.
    """
    return (run / "plan.yaml").stat().st_mtime


def _index_file() -> Path:
    return state_folder() / "runs.jsonl"


def _index() -> set[Path]:
    try:
        lines = _index_file().read_text(encoding="utf-8").splitlines()[-10_000:]
    except (OSError, UnicodeDecodeError):
        return set()
    found = set()
    for line in lines:
        try:
            found.add(Path(json.loads(line)["path"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def remember(path: Path) -> None:
    """Add a run or a group of runs to the index; a read-only home only means that it is not found from elsewhere."""
    try:
        file = _index_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"path": str(path)}) + "\n")
    except OSError:
        return
