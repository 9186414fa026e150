"""Asking a child process: what may hang, crash, eat memory or use the network never does so in the program itself."""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from engine.processes import execute
from engine.text import clean, one_line
from recommender.errors import Exit, InputError, LoracleError, Refused

KILL_SECONDS = 5.0

LOG_BYTES = 65_536
"""Kept of what a child says on stderr: its last words tell why it died."""

Progress = Callable[[int, int, str], None]
"""Is told what was done, of how much, and in which unit."""

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

    def _holds(self, process: subprocess.Popen[bytes]) -> None:
        with _lock:
            self._process = process
            cancelled = self.cancelled
        if cancelled:
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
    """The answer of `python -P -m engine.inspection KIND`; blocks, may be called from any thread.

    `about` names the thing in messages; `timeout` is in seconds; `memory` is a limit on address space in bytes;
    `extra` adds to the environment. `progress` is called in the calling thread, some ten times a second at most; what it
    raises ends the child.

    Raises:
        InputError: the child says so, crashed, ran out of memory, took too long or was cancelled.
        Refused: the child says so, or cannot be started.
    """
    message = {**request, "memory_limit": memory, "progress": progress is not None}
    starting = _Starting(kind, extra or {})
    conversation = None
    try:
        process = starting.process()
        conversation = _Conversation(process, json.dumps(message).encode())
        if cancel is not None:
            cancel._holds(process)
        out = conversation.answer(timeout, progress)
    except TimeoutError:
        raise InputError(f"{_shown(about)}: reading it took longer than {timeout:.0f} seconds and was stopped.") from None
    finally:
        begun = starting.close()
        if begun is not None:
            _leave(begun, conversation)
    if cancel is not None and cancel.cancelled:
        raise InputError(f"{_shown(about)}: reading it was cancelled.")
    return _answer(process.returncode, out, bytes(conversation.log), about)


class _Starting:
    """A child on its way. Wherever a Ctrl-C comes, whoever closes this holds the child, or there never is one.

    Python raises a Ctrl-C in the main thread only, so another one starts the child; but it may be raised while that thread is
    being started, when nobody has the thread in hand yet. So the two agree by a lock.
    """

    def __init__(self, kind: str, extra: dict[str, str]) -> None:
        self._lock, self._done = threading.Lock(), threading.Event()
        self._kind, self._extra = kind, extra
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None

    def process(self) -> subprocess.Popen[bytes]:
        """The running child.

        Raises:
            Refused: it cannot be started.
        """
        threading.Thread(target=self._begin, daemon=True).start()
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._process is not None
        return self._process

    def _begin(self) -> None:
        with self._lock:
            try:
                self._process = None if self._closed else _start(self._kind, self._extra)
            except Exception as error:
                self._error = error
        self._done.set()

    def close(self) -> subprocess.Popen[bytes] | None:
        """The child, if there is one; from now on none is started."""
        with self._lock:
            self._closed = True
        return self._process


def _start(kind: str, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    # A Ctrl-C in the terminal reaches the parent only, which then ends the child: one hand, one message.
    process = execute(["engine.inspection", kind], stdin=pipe, stdout=pipe, stderr=pipe, env=_environment() | extra)
    with _lock:
        _running.add(process)
    return process


def _leave(process: subprocess.Popen[bytes], conversation: "_Conversation | None") -> None:
    """Take leave of a child, which ends if it has not yet."""
    if process.poll() is None:
        _signal(process)
    if conversation is not None:
        conversation.close()
    with _lock:
        _running.discard(process)


class _Conversation:
    """A child's request, the lines it says on the way, and its last one: the answer."""

    def __init__(self, process: subprocess.Popen[bytes], request: bytes) -> None:
        self.log = bytearray()
        self._process = process
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        work: list[Callable[[], None]] = [lambda: self._ask(request), self._listen, self._keep_log]
        self._threads = [threading.Thread(target=task, daemon=True) for task in work]
        for thread in self._threads:
            thread.start()

    def answer(self, timeout: float, progress: Progress | None) -> bytes:
        """The last line, once the child has ended.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        last = b""
        try:
            while (line := self._lines.get(timeout=max(deadline - time.monotonic(), 0.001))) is not None:
                told = _progress_in(line)
                if told is None:
                    last = line
                elif progress is not None:
                    progress(*told)
            self._process.wait(timeout=max(deadline - time.monotonic(), 0.001))
        except (queue.Empty, subprocess.TimeoutExpired):
            raise TimeoutError from None
        return last

    def close(self) -> None:
        """Take leave of a child that has ended or was killed."""
        # A call that hangs inside a driver cannot even be killed; whoever asked is not to hang with it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=KILL_SECONDS)
        for thread in self._threads:
            thread.join(timeout=KILL_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not any(thread.is_alive() for thread in self._threads):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, request: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may be gone already; its last words say why
            self._process.stdin.write(request)
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _keep_log(self) -> None:
        assert self._process.stderr is not None
        while chunk := self._process.stderr.read1(LOG_BYTES):  # type: ignore[attr-defined]
            self.log += chunk
            del self.log[:-LOG_BYTES]


def _progress_in(line: bytes) -> tuple[int, int, str] | None:
    """What a line says about progress; `None` when it is no such line."""
    if not line.startswith(b'{"progress": '):
        return None
    try:
        done, total, unit = json.loads(line)["progress"]
        return int(done), int(total), str(unit)
    except (ValueError, TypeError, KeyError):
        return None


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
