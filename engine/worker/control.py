"""What the person asks of a running worker: files in `control/`, and signals that mean the same."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.files import number_in

LOOKS_EVERY = 0.2
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 2.0
"""Seconds that a worker which takes no steps has to leave by itself before it is made to."""


class StopNow(BaseException):
    """Leave at once. Not an `Exception`, so that no handler on the way takes it for an error."""


class Control:
    """Requests to stop, to pause or to save, looked at once a step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.terminated = 0
        """How often SIGTERM came."""
        self.warned = False
        """Whether a cluster said that the time is nearly up."""
        self._stepping = False

    def listen(self, leave: Callable[[], None]) -> None:
        """SIGTERM means `stop`, a second one `stop-now`. SIGINT and SIGHUP belong to the viewer and are ignored.

        SIGUSR1 and SIGUSR2, by which clusters tell a job that its time is nearly up, mean `stop` however often they come.

        From here on a thread calls `leave`, which does not return, as soon as leaving at once is asked for: on a slow machine
        the micro-batch in hand takes tens of seconds, and what is lost by not waiting for it is what a kill would lose.
        """
        # Python's own handlers run between two operations, and a whole backward pass is one. The pipe is written at once.
        heard, tells = os.pipe()
        os.set_blocking(tells, False)
        signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, *WARNINGS):
            signal.signal(number, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.Thread(target=self._listen, args=(heard, leave), name="control", daemon=True).start()

    def _listen(self, heard: int, leave: Callable[[], None]) -> None:
        idle_since: float | None = None
        while True:
            if select.select([heard], [], [], LOOKS_EVERY)[0]:
                came = os.read(heard, 64)
                self.terminated += came.count(signal.SIGTERM)
                self.warned |= any(number in came for number in WARNINGS)
            waits = self.stop and not self._stepping
            idle_since = (idle_since or time.monotonic()) if waits else None
            if self.now or (idle_since is not None and time.monotonic() - idle_since > PATIENCE):
                leave()
                return

    @property
    def stop(self) -> bool:
        """Whether to finish this step, save and leave."""
        return self.terminated > 0 or self.warned or (self._folder / "stop").exists() or self.now

    @property
    def now(self) -> bool:
        """Whether to leave at once."""
        return self.terminated > 1 or (self._folder / "stop-now").exists()

    @contextlib.contextmanager
    def steps(self) -> Iterator[None]:
        """While inside, optimizer steps are being taken: a stop waits for the step's end."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False

    def interrupt(self) -> None:
        """Between micro-batches: leave if that was asked for and nothing would be lost by it.

        Raises:
            StopNow: it was.
        """
        if self.now or (self.stop and not self._stepping):
            raise StopNow

    @property
    def stop_at(self) -> int | None:
        """The step after which to pause (file `stop-at`), with a checkpoint and scores of the validation rows."""
        step = number_in(self._folder / "stop-at")
        return None if step is None else max(step, 1)

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for; the request is used up."""
        request = self._folder / "save"
        if not request.exists():
            return False
        request.unlink(missing_ok=True)
        return True
