"""`python -P -m engine.worker RUN`: the process that owns torch.

`--wait PACKAGE ...` in place of RUN imports all libraries but those packages, and reads the run's path from the input.
"""

import contextlib
import errno
import fcntl
import gc
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine import checkpoints
from engine.events import EventWriter
from engine.files import remove_unfinished, write_json
from engine.needless import needless, without
from engine.processes import become, lives, this
from engine.rundir import BEGUN_ANEW, RunDirectory
from engine.worker import endings
from engine.worker.control import Control, StopNow
from engine.worker.heartbeat import Heartbeat
from engine.worker.narrator import Narrator
from engine.worker.resuming import versions
from recommender.errors import Exit, TrainingFailed
from recommender.plan import Plan

LOCK_SECONDS = 3.0
"""A killed worker's lock is freed by the kernel within this time."""


class Libraries(threading.Thread):
    """Imports torch, transformers and the rest without `packages`, seconds of work, beside whatever else is done meanwhile."""

    def __init__(self, packages: Sequence[str]) -> None:
        super().__init__(name="imports", daemon=True)
        self._packages = packages
        self._error: BaseException | None = None

    def run(self) -> None:
        """Import."""
        try:
            with without(self._packages):
                import engine.worker.session  # noqa: F401

                gc.freeze()  # half a million objects: looking through them for garbage takes half a second each time
        except BaseException as error:  # told to whoever waits for them
            self._error = error

    def wait(self) -> None:
        """Until all are there. Raises what their import did."""
        self.join()
        if self._error is not None:
            raise self._error


def main() -> int:
    """Run the plan of the run directory named on the command line, or on the input; the exit code."""
    os.umask(0o077)
    libraries = None
    if sys.argv[1] == "--wait":
        libraries = Libraries(sys.argv[2:])
        libraries.start()
        where = sys.stdin.buffer.readline().removesuffix(b"\n")
        if not where:
            os._exit(Exit.DONE)  # sent away: the ordinary way out would wait for what is being imported
        run = RunDirectory(Path(os.fsdecode(where)))
    else:
        run = RunDirectory(Path(sys.argv[1]).resolve())
    try:
        if libraries is not None:
            os.chdir(run.path)
            _speak_into(run.log)
        lock = _lock(run)
        if lock is None:
            print(f"{run.name}: another worker has this run.", file=sys.stderr)
            return Exit.REFUSED
        for folder in (run.path, run.checkpoints, run.scores):
            remove_unfinished(folder)
        write_json(run.path / "worker.json", this() | {"versions": versions()})
        events = EventWriter(run.events)
    except OSError as error:
        print(f"{run.path} cannot be written ({error.strerror}).", file=sys.stderr)
        return Exit.FAILED
    control = Control(run.control)
    heartbeat = Heartbeat(events, run.path)
    last_word = threading.Lock()  # taken once, by whoever says it

    def leave() -> None:
        if last_word.acquire(blocking=False):
            code = int(Exit.TERMINATED)
            try:
                end = endings.stopped(run, control, endings.AT_ONCE)
                events.write("end", **end)
                code = int(end["code"])
            finally:
                os._exit(code)

    control.listen(leave)
    heartbeat.start()
    try:
        end = _work(run, events, control, libraries, partial(_begin_anew, run, heartbeat, last_word))
    finally:
        heartbeat.stop()
    last_word.acquire()
    events.write("end", **end)
    return int(end["code"])


def _begin_anew(run: RunDirectory, heartbeat: Heartbeat, last_word: threading.Lock) -> None:
    """Become another worker of that run, if the system lets this process and nobody is saying its last word."""
    with last_word, contextlib.suppress(OSError):
        heartbeat.stop()
        print(BEGUN_ANEW, end="", file=sys.stderr, flush=True)
        become(["engine.worker", str(run.path)])


def _speak_into(log: Path) -> None:
    """Turn both outputs, one file until now, to the run's log, with what they said already."""
    said = os.pread(2, 100_000, 0)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, said)
    for output in (1, 2):
        os.dup2(handle, output)
    os.close(handle)


def _work(
    run: RunDirectory,
    events: EventWriter,
    control: Control,
    libraries: Libraries | None = None,
    begin_anew: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Do the run; what its `end` event says.

    Where memory runs out after the training, another life of this process may have enough: what steps and scores held is freed
    in pieces, and libraries take files as wholes. `begin_anew` makes it one, and returns where it cannot. Each must have kept
    something that the next one need not do.
    """
    tell = Narrator(events)
    over = run.checkpoints / checkpoints.FINISHED

    def kept() -> int:
        return sum(path.exists() for path in (over, run.model, *run.scores.glob("*.json")))

    before = kept()

    def spare(error: BaseException | None) -> None:
        if error is None or control.stop or not (over.exists() and kept() > before and endings.is_memory(error)):
            return  # with a stop asked for, as by a signal, of which a new process would not know
        traceback.print_exception(error)
        text = f"Memory ran out while {endings.doing(tell.now)}; a new process goes on, which holds nothing of what came before."
        tell.recovered({"process": "old"}, {"process": "new"}, text)
        begin_anew()

    plan: Plan | None = None
    tell.phase("load")
    # On some CPUs it tells every run, of whatever method, to install an optional package.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        plan = run.plan()
        if libraries is None:
            libraries = Libraries(needless(plan))
            libraries.start()
        libraries.wait()
        from engine.worker.accelerator import take_hold
        from engine.worker.session import Session

        take_hold()
        stopped = Session(run, plan, tell, control).go()
    except StopNow:
        return endings.stopped(run, control, endings.AT_ONCE)
    except Exception as error:
        spare(error.__cause__ if isinstance(error, TrainingFailed) else error)
        return endings.of_error(run, plan, tell.now, error)
    if stopped:
        paused = control.stop_at is not None and not control.stop
        return endings.stopped(run, control, "paused as planned" if paused else "stopped on request")
    return {"status": "done", "code": int(Exit.DONE), "cause": None, "cure": None, "checkpoint": None}


def _lock(run: RunDirectory) -> Any:
    """The run's lock, held as long as this process lives; `None` when another process has it.

    POSIX record locks, not flock: children inherit the latter, and a run stayed locked seconds after its worker died. Where the
    file system has no locks (some network folders), what the other worker has written down must do.
    """
    file = run.lock.open("a")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN) and not lives(run.worker()):
                return file
            if time.monotonic() > deadline:
                file.close()
                return None
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
