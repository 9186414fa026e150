"""A run done in the test's own process, so that a test may reach into it; and what it told."""

from typing import Any

from engine.events import EventWriter, read_events
from engine.rundir import RunDirectory
from engine.worker import __main__ as worker
from engine.worker.control import Control


def work(run: RunDirectory, terminated: int = 0) -> dict[str, Any]:
    """All that the worker does between its lock and its last word, of which it is the report. It has heard SIGTERM so often."""
    writer = EventWriter(run.events)
    try:
        control = Control(run.control)
        control.terminated = terminated
        return worker._work(run, writer, control)
    finally:
        writer.close()


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """Those of one kind, in the order told."""
    return [e for e in read_events(run.events) if e["kind"] == kind]
