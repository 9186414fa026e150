"""Leaving on a signal: the terminal as it was, the right exit code, and never hanging on a terminal that is gone."""

import os
import signal
import sys
import threading
from collections.abc import Callable

HUNG_UP = 129
CODES: dict[int, int] = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: HUNG_UP}
PATIENCE = 3.0
"""Seconds for leaving in good order. Textual's writer dies with the terminal, and whoever then writes waits for ever
(seen after tmux was killed: the kernel sends a continue signal too, on which Textual begins to draw again)."""


def catch_signals(leave: Callable[[int], None]) -> None:
    """Call `leave` with the exit code when one of the signals comes; end the process if that does not."""

    def caught(number: int, frame: object) -> None:
        code = CODES[number]
        last_resort = threading.Timer(PATIENCE, _end_now, [code])
        last_resort.daemon = True
        last_resort.start()
        leave(code)

    for number in CODES:
        signal.signal(number, caught)


def end_children() -> None:
    """Inspections and merges that are going on have nobody left to answer to. Training is no child in this sense: it goes on."""
    for name in ("engine.inspection.child", "engine.merging"):
        module = sys.modules.get(name)
        if module is not None:
            module.stop_all()


def forget_terminal() -> None:
    """Let what is still buffered go nowhere: writing it to a terminal that is gone would change the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def _end_now(code: int) -> None:
    end_children()
    os._exit(code)
