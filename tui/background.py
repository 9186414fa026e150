"""Blocking work away from the screen, in threads that never hold up quitting."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from textual.worker import Worker, WorkerState

from engine.text import one_line
from engine.threads import start
from tui.i18n import _

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *args: object, **kwargs: object) -> Result:
    """What `function` returns or raises, from a thread of its own.

    `asyncio.to_thread` would make the interpreter wait for its threads on exit, and a hub that does not answer must not
    keep the app from closing. Whoever is cancelled while waiting never sees the late answer.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(Result, result))

    def run() -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = function(*args, **kwargs)
        except BaseException as raised:
            error = RuntimeError("no answer") if isinstance(raised, StopIteration) else raised
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(deliver, result, error)
            except RuntimeError:  # closed in between: nobody waits any more
                return

    start(threading.Thread(target=run, daemon=True, name=f"loracle-{getattr(function, '__name__', 'work')}"))
    return await future


class TellsMistakes:
    """A net below the workers of a screen, of a part of one, or of the app: Textual tells nobody but them how theirs ended."""

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A mistake of ours is said, and ends nothing."""
        if event.state is WorkerState.ERROR:
            words = _("Something went wrong: {error}").format(error=event.worker.error)
            event.worker.node.app.notify(one_line(words, 400), severity="error", markup=False, timeout=8)
