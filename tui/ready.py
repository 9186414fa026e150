"""The worker that imports its libraries while a plan is read, so that the first step does not wait for them. Blocking calls."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from recommender.errors import LoracleError

if TYPE_CHECKING:
    from engine.launch import Waiting
    from tui.work_plan import Advice


class Ready:
    """At most one worker, for the method that is chosen. It has nothing that could be lost: leaving the plan ends it, and where
    the app dies it ends by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Waiting | None = None
        self._held = ExitStack()
        self._over = False

    def prepare(self, advice: "Advice", method: str, wanted: Callable[[], bool]) -> None:
        """Have one import what that method needs, where it may start, the model's weights are here (a download takes longer
        anyway) and there is room beside. Another one that waits is sent away. Until it begins it may be `wanted` no more."""
        from engine.launch import Waiting, is_room_beside
        from tui.work_start import plan_of

        if not advice.model.weights_here or not is_room_beside(advice.facts.machine):
            return
        with self._lock, suppress(LoracleError):  # what is wrong is said where the run is started
            plan = plan_of(advice, method, anyway=False)
            if self._over or not wanted() or (self._worker is not None and self._worker.serves(plan)):
                return
            self._held.close()
            self._worker = self._held.enter_context(Waiting(plan))

    def take(self) -> "tuple[Waiting | None, ExitStack]":
        """The worker, for a start, and what sends it away if that comes to nothing."""
        with self._lock:
            worker, held = self._worker, self._held.pop_all()
            self._worker = None
        return worker, held

    def leave(self, *, over: bool = False) -> None:
        """Send it away: its memory is looked at, or wanted. Once it is `over`, none is prepared any more."""
        with self._lock:
            self._over = self._over or over
            self._worker = None
            self._held.close()
