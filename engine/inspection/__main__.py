"""The child: `python -P -m engine.inspection KIND PARENT`, JSON requests on stdin, a line each, and a JSON answer to each on
stdout. It ends once the process with the id PARENT is its parent no longer.

Kinds: `model` (a folder's facts), `hub` (find or download a model), `hub_facts` (describe one), `hub_search` (models by
name), `data` (facts of a file of rows), `learned` (rows as a model reads them), `dataset` (find or download a data set),
`trace` (a training step without weights: its memory and time), `calibrate` (measure the device), `nf4` (try the 4-bit
kernels), `nvidia` (ask its driver), `torch_devices` (Intel's and Apple's). The answer is `{"ok": ...}` or `{"error": message,
"exit": code}`. A request with `progress` gets lines `{"progress": [done, total, unit]}` before it.
"""

import contextlib
import gc
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from engine.processes import answers, leave_with, trim_heap
from recommender.errors import Exit, LoracleError

PROGRESS_SECONDS = 0.1


def main() -> int:
    """Answer each request, until there are no more."""
    out = answers()
    leave_with(int(sys.argv[2]))
    kind = sys.argv[1]
    if kind == "trace":
        with contextlib.suppress(Exception):  # told to whoever asks, who may not have asked yet
            _tracing()
        gc.freeze()  # half a million objects: looking through them for garbage takes half a second each time
    for line in sys.stdin.buffer:
        out.write(_answered(kind, line, out) + "\n")
        out.flush()
        gc.collect()
        trim_heap()
    return 0


def _answered(kind: str, line: bytes, out: TextIO) -> str:
    request: dict[str, Any] = {}
    try:
        request = json.loads(line)
        _limit_memory(request.get("memory_limit"))
        return json.dumps({"ok": _do(kind, request, out)}, allow_nan=False)
    except LoracleError as error:
        return json.dumps({"error": error.message, "exit": int(error.exit)})
    except MemoryError:
        return json.dumps({"error": f"{_name(request)}: does not fit in memory.", "exit": int(Exit.USAGE)})
    except Exception as error:  # a library met something strange in somebody's file: say which file, never a traceback
        message = f"{_name(request)}: could not be read ({type(error).__name__}: {error})."
        return json.dumps({"error": message, "exit": int(Exit.USAGE)})


def _do(kind: str, request: dict[str, Any], answers: TextIO) -> dict[str, Any]:
    tell = _Telling(answers) if request.get("progress") else None
    match kind:
        case "model":
            from engine.inspection.model import inspect_folder

            return inspect_folder(request["path"], request.get("id"), whole=bool(request.get("whole")))
        case "hub":
            from engine.inspection.hub import locate

            return locate(request["id"], request.get("revision"), tell)
        case "hub_facts":
            from engine.inspection.hub import facts_of

            return facts_of(request["id"], request.get("revision"))
        case "hub_search":
            from engine.inspection.hub_list import search

            return search(request["text"])
        case "data":
            from engine.inspection.data import inspect_data

            gc.disable()  # millions of small objects without a cycle: looking for cycles takes a fifth of the time
            return inspect_data(request) if tell is None else inspect_data(request, tell)
        case "learned":
            from engine.inspection.learned import learned_rows

            return learned_rows(request)
        case "dataset":
            from engine.inspection.hub_data import locate_data

            return locate_data(request["id"], tell)
        case "trace":
            return _tracing()(request, tell)
        case "calibrate":
            from engine.worker.tracing.calibration import calibrate

            return calibrate(request["backend"], request["uuid"])
        case "nf4" | "adamw_8bit":
            from engine.inspection.kernels import trial

            return {"works": trial(kind, request["backend"])}
        case "nvidia":
            from engine.inspection.nvidia import report

            return report(request["pid"])
        case "torch_devices":
            from engine.inspection.accelerators import torch_devices

            return {"devices": torch_devices(request["backend"])}
    raise LoracleError(f"engine.inspection: unknown kind {kind!r}.")


def _tracing() -> Callable[..., dict[str, Any]]:
    """What answers a trace's questions; the first time its imports take seconds."""
    from engine.needless import NEVER, without

    with without(NEVER):  # as a run's worker is: a second less, and its size tells what that will take
        from engine.worker.tracing.answer import answer

    return answer


class _Telling:
    """Says how far the work is, not too often."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._last = -PROGRESS_SECONDS
        self._lock = threading.Lock()  # several files are downloaded at once

    def __call__(self, done: int, total: int, unit: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last >= PROGRESS_SECONDS or done >= total:
                self._last = now
                print(json.dumps({"progress": [done, total, unit]}), file=self._answers, flush=True)


def _name(request: dict[str, Any]) -> str:
    return str(request.get("path") or request.get("train") or request.get("id") or "the input")


def _limit_memory(limit: int | None) -> None:
    """Cap the address space, so that a monstrous file ends this process and not the machine."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = hard if limit is None else limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a thread that still waits for a dead name server must not hold the answer back
