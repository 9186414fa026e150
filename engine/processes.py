"""Processes of our own: how they are begun, and which is meant, written down so that it is known again: pids are given to others,
and clocks are set."""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn, TextIO

import psutil

from engine.files import text_in
from engine.threads import NO_PROCESS
from recommender.errors import Exit, Refused

SLACK = 2.0
"""Seconds by which two readings of one start time may differ, where the system tells it by the clock only."""
WATCH_SECONDS = 0.5
"""Between two looks of a child at whether anybody waits for its answer."""
CLOCK_SLACK = 60.0
"""Seconds that the time of a machine's start may be off by, after its clock was set."""


def execute(
    words: Sequence[str],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """`python -P -m WORDS` in a session of its own, which no Ctrl-C of this one's reaches.

    `-P` keeps its folder off the import path, so that nothing beside a model or a data set is ever imported.

    Raises:
        Refused: the system has no process, or no memory, for it.
    """
    try:
        return subprocess.Popen(
            _command(words),
            stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Refused(NO_PROCESS.format(why=error.strerror)) from None


def become(words: Sequence[str]) -> NoReturn:
    """Go on as `python -P -m WORDS`: the same process to whoever watches it, with nothing of what it held in memory.

    Raises:
        OSError: the system has no memory for it.
    """
    os.execv(sys.executable, _command(words))


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", *words]


def answers() -> TextIO:
    """The standard output of this process, a child, for its answers; what libraries print there goes to standard error."""
    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return real


def leave_with(parent: int) -> None:
    """End this process, a child, once the process with that id is its parent no longer: it was killed, or sent SIGTERM, and a
    trace or a merge would compute on for minutes with nobody to answer. It may be gone before this one is far enough to look."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(int(Exit.TERMINATED))

    with contextlib.suppress(RuntimeError):  # where no thread can be started its end is noticed, if later, by the pipes
        threading.Thread(target=watch, daemon=True).start()


def this() -> dict[str, Any]:
    """This process, as a file may name it."""
    known = {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": socket.gethostname()}
    return known | {"boot": boot(), "ticks": ticks(os.getpid())}


def lives(process: dict[str, Any]) -> bool:
    """Whether that process exists on this host; of files that name no `ticks`, by its start time."""
    try:
        found = psutil.Process(int(process["pid"]))
        begun = ticks(found.pid) if process.get("ticks") else None
        if begun is not None and process.get("boot"):
            same = (boot(), begun) == (process["boot"], process["ticks"])
        else:  # counted from the machine's start, whose time moves when the clock is set
            same = abs(found.create_time() - float(process["started"])) < SLACK
        return same and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError, TypeError, OverflowError):
        return False


def before_restart(process: dict[str, Any]) -> bool:
    """Whether this machine was started anew since that process was."""
    if process.get("boot") and boot():
        return bool(process["boot"] != boot())
    started = process.get("started")
    return isinstance(started, int | float) and started < psutil.boot_time() - CLOCK_SLACK


@cache
def boot() -> str | None:
    """What tells this start of the machine from any other; `None` where the system, other than Linux, does not say."""
    return text_in(Path("/proc/sys/kernel/random/boot_id")) or None


def ticks(pid: int) -> int | None:
    """When that process began, in clock ticks since the machine did (field 22 of /proc/PID/stat); `None` where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])  # the name before it, in brackets, may hold anything
    except (OSError, ValueError, IndexError):
        return None


def trim_heap() -> None:
    """Return to the system the pages that glibc's heap keeps of freed memory; nothing where there is no such heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
