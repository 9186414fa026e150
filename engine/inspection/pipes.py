"""A child and what is said to it: its start, which no Ctrl-C can come between, and lines asked and answered."""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable

from engine.threads import start
from recommender.errors import Refused

Progress = Callable[[int, int, str], None]
"""Is told what was done, of how much, and in which unit."""

KILL_SECONDS = 5.0
WAIT_SECONDS = 0.5
"""Of one wait for a line."""

LOG_BYTES = 65_536
"""Kept of what a child says on stderr: its last words tell why it died."""

ANSWER = (b'{"ok": ', b'{"error": ')
"""How a line begins that is the answer."""


class Starting:
    """A child on its way. Wherever a Ctrl-C comes, whoever closes this holds the child, or there never is one.

    Python raises a Ctrl-C in the main thread only, so another one starts the child; but it may be raised while that thread is
    being started, when nobody has the thread in hand yet. So the two agree by a lock.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._lock = threading.Lock()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()  # an Event's wait can make a RuntimeError of a Ctrl-C
        self._start = start
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None

    def process(self) -> subprocess.Popen[bytes]:
        """The running child.

        Raises:
            Refused: it cannot be started.
        """
        start(threading.Thread(target=self._begin, daemon=True))
        self._done.get()
        if self._error is not None:
            raise self._error
        assert self._process is not None
        return self._process

    def _begin(self) -> None:
        with self._lock:
            try:
                self._process = None if self._closed else self._start()
            except Exception as error:
                self._error = error
        self._done.put(None)

    def close(self) -> subprocess.Popen[bytes] | None:
        """The child, if there is one; from now on none is started."""
        with self._lock:
            self._closed = True
        return self._process


class Exchange:
    """Requests to a child, the lines it says on the way, and its answers; `Refused` where no thread is left for it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.log = bytearray()
        self.process = process
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        try:
            self._begin(self._listen)
            self._begin(self._keep_log)
        except Refused:
            process.kill()
            self.close()
            raise

    def answer(self, request: bytes, timeout: float, progress: Progress | None, *, more: bool) -> bytes:
        """The line that answers that one-line request; the last one of a child that has ended, unless there are `more` to come.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        last = b""
        self._begin(lambda: self._ask(request, more=more))
        try:
            while (line := self._next(deadline)) is not None:
                told = _progress_in(line)
                if told is None:
                    last = line
                    if more and line.startswith(ANSWER):
                        return line
                elif progress is not None:
                    progress(*told)
            self.process.wait(timeout=max(deadline - time.monotonic(), 0.001))
        except (queue.Empty, subprocess.TimeoutExpired):
            raise TimeoutError from None
        return last

    def _next(self, deadline: float) -> bytes | None:
        """The next line; `None` where there are no more. A Ctrl-C that comes just as the wait begins does not end it, so none is
        long."""
        while (left := deadline - time.monotonic()) > WAIT_SECONDS:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=WAIT_SECONDS)
        return self._lines.get(timeout=max(left, 0.001))

    def close(self) -> None:
        """Take leave of a child that has ended or was killed."""
        # A call that hangs inside a driver cannot even be killed; whoever asked is not to hang with it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=KILL_SECONDS)
        for thread in self._threads:
            thread.join(timeout=KILL_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not any(thread.is_alive() for thread in self._threads):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _begin(self, task: Callable[[], None]) -> None:
        thread = threading.Thread(target=task, daemon=True)
        start(thread)
        self._threads.append(thread)  # not before: a Ctrl-C may come between, and what was not started cannot be waited for

    def _ask(self, request: bytes, *, more: bool) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it may be gone already, its pipe closed; its last words say why
            self.process.stdin.write(request + b"\n")
            self.process.stdin.flush()
            if not more:
                self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _keep_log(self) -> None:
        assert self.process.stderr is not None
        while chunk := self.process.stderr.read1(LOG_BYTES):  # type: ignore[attr-defined]
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
