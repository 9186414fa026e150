"""Asking a child process: what may hang, crash, eat memory or use the network never does so in the program itself."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import Any

from engine.text import clean, one_line
from recommender.errors import Exit, InputError, LoracleError, Refused

KILL_SECONDS = 5.0

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def ask(
    kind: str,
    request: dict[str, Any],
    *,
    about: str,
    timeout: float,
    memory: int | None = None,
    extra: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The answer of `python -P -m engine.inspection KIND`; blocks, may be called from any thread.

    `about` names the thing in messages; `timeout` is in seconds; `memory` is a limit on address space in bytes;
    `extra` adds to the environment.

    Raises:
        InputError: the child says so, crashed, ran out of memory or took too long.
        Refused: the child says so.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.inspection", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A Ctrl-C in the terminal reaches the parent only, which then ends the child: one hand, one message.
        start_new_session=True,
        env=_environment() | (extra or {}),
    )
    with _lock:
        _running.add(process)
    try:
        out, log = process.communicate(json.dumps({**request, "memory_limit": memory}).encode(), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise InputError(f"{_shown(about)}: reading it took longer than {timeout:.0f} seconds and was stopped.") from None
    finally:  # also on Ctrl-C
        if process.poll() is None:
            _kill(process)
        with _lock:
            _running.discard(process)
    return _answer(process.returncode, out, log, about)


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


def _kill(process: subprocess.Popen[bytes]) -> None:
    _signal(process)
    # A call that hangs inside a driver cannot even be killed; whoever asked is not to hang with it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=KILL_SECONDS)


def _signal(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # its own session, so its group is its own too
        else:
            process.kill()


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
