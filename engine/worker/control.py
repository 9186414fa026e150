"""What the person asks of a running worker: files in `control/`, and signals that mean the same."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType


class StopNow(BaseException):
    """Leave at once. Not an `Exception`, so that no handler on the way takes it for an error."""


class Control:
    """Requests to stop, to pause or to save, looked at once a step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._terminated = 0
        self._stepping = False

    def listen(self) -> None:
        """SIGTERM means `stop`, a second one `stop-now`. SIGINT and SIGHUP belong to the viewer and are ignored."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated += 1

    @property
    def terminated(self) -> bool:
        """Whether SIGTERM asked for the stop."""
        return self._terminated > 0

    @property
    def stop(self) -> bool:
        """Whether to finish this step, save and leave."""
        return self.terminated or (self._folder / "stop").exists() or (self._folder / "stop-now").exists()

    def check_stop_now(self) -> None:
        """Leave at once if that was asked for.

        Raises:
            StopNow: it was.
        """
        if self._terminated > 1 or (self._folder / "stop-now").exists():
            raise StopNow

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
        if self.stop and not self._stepping:
            raise StopNow
        self.check_stop_now()

    @property
    def stop_at(self) -> int | None:
        """The step after which to pause (file `stop-at`), with a checkpoint and scores of the validation rows."""
        try:
            return max(int((self._folder / "stop-at").read_text(encoding="utf-8")), 1)
        except (OSError, ValueError):
            return None

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for; the request is used up."""
        request = self._folder / "save"
        if not request.exists():
            return False
        request.unlink(missing_ok=True)
        return True
