"""Asking a child process: what may hang, crash, eat memory or use the network never does so in the program itself."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from typing import Any

import psutil

from engine.inspection.pipes import ANSWER, Exchange, Progress, Starting
from engine.processes import execute
from engine.text import clean, one_line
from engine.threads import start
from recommender.errors import Exit, InputError, LoracleError, Refused

KEPT = {"trace"}
"""Kinds whose child stays for the next question: its imports take as long as most answers."""
KEPT_SECONDS = 20.0
"""It stays no longer than that without one, for it holds some 500 MB."""

OF_A_THREAD = 128 * 1024**2
"""Address space that a thread reserves and hardly uses: its stack, glibc's heap for it, a buffer for products. Libraries start
one for each processor, and 256 of them would fill a limit that was made for two."""

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


class Cancel:
    """A handle with which another thread ends what `ask` is waiting for; the child goes, and all it has started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """End it now, or as soon as it starts."""
        with _lock:
            self.cancelled = True
            process = self._process
        if process is not None and process.poll() is None:
            _signal(process)

    def __enter__(self) -> "Cancel":
        return self

    def __exit__(self, *_how: object) -> None:
        """Whoever goes on to something else, or leaves, does not want it any more."""
        self.cancel()

    def _holds(self, process: subprocess.Popen[bytes] | None) -> None:
        with _lock:
            self._process = process
            cancelled = self.cancelled
        if cancelled and process is not None:
            _signal(process)


def ask(
    kind: str,
    request: dict[str, Any],
    *,
    about: str,
    timeout: float,
    memory: int | None = None,
    extra: dict[str, str] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """The answer of `python -P -m engine.inspection KIND PARENT`; blocks, may be called from any thread.

    `about` names the thing in messages; `timeout` is in seconds; `memory` is a limit on address space in bytes;
    `extra` adds to the environment. A child of a kind in `KEPT` may answer later questions too. `progress` is called in the
    calling thread, some ten times a second at most; what it raises ends the child.

    Raises:
        InputError: the child says so, crashed, ran out of memory, took too long or was cancelled.
        Refused: the child says so, or cannot be started.
    """
    message = json.dumps({**request, "memory_limit": _limit(memory), "progress": progress is not None}).encode()
    environment, kept = _environment() | (extra or {}), kind in KEPT
    held: list[Exchange] = []
    starting = Starting(lambda: _start(kind, environment))
    answered = False
    try:
        if kept:
            _idle.lend(kind, environment, held)
        if not held:
            held.append(Exchange(starting.process()))
        process = held[0].process
        if cancel is not None:
            cancel._holds(process)
        out = held[0].answer(message, timeout, progress, more=kept)
        answered = out.startswith(ANSWER[0])
    except TimeoutError:
        raise InputError(f"{_shown(about)}: reading it took longer than {timeout:.0f} seconds and was stopped.") from None
    finally:
        try:
            begun = starting.close()
            if cancel is not None:
                cancel._holds(None)  # what it would end answers somebody else by then
            exchange = held[0] if held else None
            if kept and answered and exchange is not None and not (cancel is not None and cancel.cancelled):
                _idle.keep(kind, environment, exchange)
            elif (ended := exchange.process if exchange is not None else begun) is not None:
                _leave(ended, exchange)
        except BaseException:  # a Ctrl-C that came only now
            exchange = held[0] if held else None
            ended = exchange.process if exchange is not None else starting.close()
            if ended is not None:
                _leave(ended, exchange)  # it may wait already, and must be seen to have ended when the next question comes
            raise
    if cancel is not None and cancel.cancelled:
        raise InputError(f"{_shown(about)}: reading it was cancelled.")
    return _answer(process.returncode or 0, out, bytes(held[0].log), about)


def prepare(kind: str, *, extra: dict[str, str] | None = None) -> None:
    """Have a child of a kind in `KEPT` import what it needs, for a question of that `extra` that is asked soon: nobody waits.

    Where none can be started, whoever asks is told.
    """
    environment = _environment() | (extra or {})
    if _idle.has(kind, environment):
        return
    starting, exchange = Starting(lambda: _start(kind, environment)), None
    try:
        with contextlib.suppress(Refused):
            exchange = Exchange(starting.process())
            _idle.keep(kind, environment, exchange)
    except BaseException:  # a Ctrl-C
        if (begun := starting.close()) is not None:
            _leave(begun, exchange)
        raise


class _Idle:
    """The child that waits for its next question, one at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[str, dict[str, str], Exchange] | None = None
        self._timer = threading.Timer(KEPT_SECONDS, self.leave)

    def lend(self, kind: str, environment: dict[str, str], held: list[Exchange]) -> None:
        """Put it into `held`, if it was started so; a Ctrl-C finds it there at the latest when it waits here no longer."""
        with self._lock:
            known = self._waiting
            if known is not None and known[:2] == (kind, environment) and known[2].process.poll() is None:
                held.append(known[2])
                self._waiting = None
                self._timer.cancel()

    def has(self, kind: str, environment: dict[str, str]) -> bool:
        """Whether one waits that was started so."""
        with self._lock:
            known = self._waiting
            return known is not None and known[:2] == (kind, environment) and known[2].process.poll() is None

    def computed(self) -> float:
        """Seconds of processor time that the one that waits has taken so far."""
        with self._lock:
            known = self._waiting
        try:
            times = psutil.Process(known[2].process.pid).cpu_times() if known is not None else None
        except psutil.Error:
            times = None
        return times.user + times.system if times is not None else 0.0

    def keep(self, kind: str, environment: dict[str, str], exchange: Exchange) -> None:
        """This one waits now, for `KEPT_SECONDS`."""
        with self._lock:
            before, self._waiting = self._waiting, (kind, environment, exchange)
            self._timer.cancel()
            self._timer = threading.Timer(KEPT_SECONDS, self.leave)
            self._timer.daemon = True
            start(self._timer)
        if before is not None:
            _leave(before[2].process, before[2])

    def leave(self) -> None:
        """End it: its memory is wanted."""
        with self._lock:
            before, self._waiting = self._waiting, None
            self._timer.cancel()
        if before is not None:
            _leave(before[2].process, before[2])


_idle = _Idle()
leave_idle, computed_by_idle = _idle.leave, _idle.computed


def _start(kind: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    # A Ctrl-C in the terminal reaches the parent only, which then ends the child: one hand, one message.
    process = execute(["engine.inspection", kind, str(os.getpid())], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    with _lock:
        _running.add(process)
    return process


def _leave(process: subprocess.Popen[bytes], exchange: Exchange | None) -> None:
    """Take leave of a child, which ends if it has not yet."""
    if process.poll() is None:
        _signal(process)
    if exchange is not None:
        exchange.close()
    with _lock:
        _running.discard(process)


def stop_all() -> None:
    """End every child that is being waited for; their callers get an InputError. For an app that quits."""
    with _lock:
        waiting = list(_running)
    for process in waiting:
        if process.poll() is None:
            _signal(process)


def _answer(code: int, out: bytes, log: bytes, about: str) -> dict[str, Any]:
    try:
        answer = json.loads(out)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise InputError(f"{_shown(about)}: {_death(code, log)}")
    if "error" in answer:
        message = _redacted(clean(answer["error"], 2_000))
        match answer.get("exit"):
            case Exit.USAGE:
                raise InputError(message)
            case Exit.REFUSED:
                raise Refused(message)
        raise LoracleError(message)
    return dict(answer["ok"])


def _death(code: int, log: bytes) -> str:
    if code == -signal.SIGKILL:
        return "reading it was stopped; most likely the machine ran out of memory. Use a smaller file or free some memory."
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"reading it crashed ({signal.Signals(-code).name}); the file is damaged or needs more memory than there is."
    last = log.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"could not be read ({_redacted(one_line(last)) or f'the reader ended with code {code}'})."


def _signal(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)  # its own session, so its group is its own too


def _limit(memory: int | None) -> int | None:
    return None if memory is None else memory + (os.cpu_count() or 1) * OF_A_THREAD


def _environment() -> dict[str, str]:
    env = dict(os.environ)
    env.pop("PYTHONPATH", None)
    return env | {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "USE_HUB_KERNELS": "0",
    }


def _redacted(text: str) -> str:
    """Without access tokens, which libraries put into their messages."""
    return re.sub(r"hf_[A-Za-z0-9]{6,}", "hf_…", text)


def _shown(about: str) -> str:
    return one_line(about, 300)
