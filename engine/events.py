"""The event log: one JSON object a line, append-only, the only thing a viewer needs.

One writer (the worker) appends with a single `write` a line; any number of readers follow. A reader holds back a torn
last line, skips garbage and unknown kinds, and never trusts the size of a line.
"""

import errno
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.files import unpiped

EVENT_VERSION = 1
MAX_LINE = 64 * 1024
CHUNK = 2 * 1024 * 1024
"""Bytes of a log that are read at a time: a long log never stands in memory as a whole."""
HEAD = 160
"""Bytes in which a line of `EventWriter` has named its kind."""
_DURABLE = frozenset({"run", "preflight", "checkpoint", "evaluation", "stopped_early", "recovery", "end"})
KINDS = _DURABLE | {"phase", "step", "sample", "warning", "heartbeat"}

Event = dict[str, Any]


class EventWriter:
    """Appends events to a log. Safe to call from several threads of one process."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending and go on counting where an earlier process stopped."""
        self._seq = _last_seq(path)
        self._lock = threading.Lock()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)  # of a pipe, fails
        self._broken = False
        self._torn = _torn(path)
        """Whether the last line was not written to its end: an earlier writer died inside it, or the disk filled up."""

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event and return it.

        A full disk must not end a training: a failed write is remembered and reported once on standard error.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event: {kind}")
        with self._lock:
            self._seq += 1
            now = {"time": time.time(), "monotonic": time.monotonic()}
            event: Event = {"v": EVENT_VERSION, "seq": self._seq, **now, "kind": kind}
            event["processor"] = round(time.process_time(), 4)  # seconds that all threads computed: a busy machine adds none
            head = dict(event)
            event.update(finite(fields))
            line = _line(event)
            if len(line) > MAX_LINE:
                event = head | {"cut": len(line)}
                line = _line(event)
            try:
                self._append(line)
                if kind in _DURABLE:
                    os.fsync(self._descriptor)
            except OSError as error:
                if not self._broken:
                    self._broken = True
                    print(f"events cannot be written: {error}", file=sys.stderr, flush=True)
            return event

    def _append(self, line: bytes) -> None:
        """Write a line, on a line of its own; of what follows a torn one nothing could be read."""
        if self._torn:
            line = b"\n" + line
        self._torn = True
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)


class EventTail:
    """Follows a log from the beginning, or from `offset`, across any number of polls.

    Of the kinds `without` nothing is parsed, which is nearly all the work: a log is mostly steps.
    """

    def __init__(self, path: Path, offset: int = 0, *, without: Iterable[str] = ()) -> None:
        self._path = path
        self._unwanted = re.compile(f'"kind": "(?:{"|".join(without)})"'.encode()) if without else None
        self._offset = offset
        self._rest = b""
        self._skipping = False

    def poll(self, max_bytes: int = CHUNK) -> list[Event]:
        """Events that were completed since the last call, oldest first. A missing file is an empty one."""
        while lines := self._lines(max_bytes):
            if self._unwanted is None:
                return _parse_all(lines)
            unwanted = self._unwanted.search
            if lines := [line for line in lines if not unwanted(line, 0, HEAD)]:
                return _parse_all(lines)
        return []

    def _lines(self, max_bytes: int) -> list[bytes]:
        """The lines that are completed by the next bytes; none at the end."""
        try:
            with unpiped(self._path).open("rb") as file:
                left = os.fstat(file.fileno()).st_size - self._offset  # for a size, Python asks for that much memory at once
                file.seek(self._offset)
                chunk = file.read(max(min(left, max_bytes), 0))
        except OSError:
            return []
        self._offset += len(chunk)
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        if len(self._rest) > MAX_LINE:  # a line no writer of ours makes: forget it, and what is still to come of it
            self._rest, self._skipping = b"", True
        return lines


def read_events(path: Path) -> Iterator[Event]:
    """All complete events of a log."""
    tail = EventTail(path)
    while events := tail.poll():
        yield from events


def _parse_all(lines: list[bytes]) -> list[Event]:
    """The events in these lines: at once where all are sound, which takes two thirds of the time, else line by line."""
    if len(lines) > 1 and len(max(lines, key=len)) <= MAX_LINE:
        try:
            found: list[Event] = json.loads(b"[" + b",".join(lines) + b"]", parse_constant=_no_constant)
        except (ValueError, RecursionError):
            found = []
        if len(found) == len(lines) and all(map(_is_event, found)):
            return found
    return [event for line in lines if (event := parse_line(line)) is not None]


def _is_event(content: Any) -> bool:
    return isinstance(content, dict) and content.get("kind") in KINDS and isinstance(content.get("seq"), int)


def parse_line(line: bytes) -> Event | None:
    """The event in one line, or `None` where there is none to be used."""
    if not line or len(line) > MAX_LINE:
        return None
    try:
        event: Event = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return event if _is_event(event) else None


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity as `None`: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def number_of(value: Any) -> float | None:
    """`value` as a finite number, `None` where it is none; a log may hold anything, `1e999` too."""
    return float(value) if (type(value) is float or type(value) is int) and -1e300 < value < 1e300 else None


def count_of(value: Any) -> int:
    """`value` as a count, 0 where it is none."""
    return int(max(number_of(value) or 0.0, 0.0))


def _line(event: Event) -> bytes:
    return json.dumps(event, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _no_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
"""Made once: `json.loads` would make one a line, and reading a long log would take half as long again."""


def _last_seq(path: Path) -> int:
    last = 0
    for event in read_events(path):
        last = max(last, event["seq"])
    return last


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"
