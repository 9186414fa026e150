"""Signals to this process, while it follows a run, as requests to the run's worker."""

import contextlib
import os
import signal
from collections.abc import Iterator
from time import monotonic
from types import FrameType

from engine.rundir import RunDirectory
from engine.runs import stop
from recommender.errors import InputError, Refused
from tui.endings import leaves_at_once
from tui.error_words import in_words
from tui.i18n import _

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""The last two come from clusters, shortly before a job's time is up; unheard they would end this process and the worker."""
SAME = 0.5
"""Seconds within which a second signal is the same request: `make` passes on a SIGTERM that its whole group was sent, so that
one `timeout` reaches this process twice, and the run would lose what it learned since its checkpoint."""


class Stopping:
    """Signals to this process as requests to a worker; those that come while it is being started are passed on once it is."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.too_late = False
        """Whether the worker had ended by then, so that it was not told."""
        self._run: RunDirectory | None = None
        self._last = -SAME

    def found(self, run: RunDirectory) -> None:
        """The worker of `run` is started."""
        self._run = run
        if self.asked:
            self._pass_on(run)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal came."""
        now = monotonic()
        if now - self._last < SAME:
            return
        self._last = now
        self.asked.append(number)
        if self._run is not None:
            self._pass_on(self._run)

    def _pass_on(self, run: RunDirectory) -> None:
        now = len(self.asked) > 1
        gently = _("Stopping after this step, with a checkpoint. Press it again to stop at once.")
        words = _("Stopping at once.") if now else leaves_at_once(run.state()) or gently
        try:
            stop(run, now=now)
        except InputError:  # it has ended in this moment
            self.too_late = True
            return
        except Refused as error:
            words = in_words(error.message)
        with contextlib.suppress(OSError):
            os.write(2, f"\n{words}\n".encode())


@contextlib.contextmanager
def stopping_by_signals() -> Iterator[Stopping]:
    """While inside, signals do not end this process. Under `nohup` a lost connection asks nothing."""
    stopping = Stopping()
    heard = (n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN)
    before = {n: signal.signal(n, stopping.hear) for n in heard}
    try:
        yield stopping
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
