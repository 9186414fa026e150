"""Starting a thread where the system may have none left. Nothing heavy is imported: the app's first paint needs it."""

import errno
import os
import threading

from recommender.errors import Refused

NO_PROCESS = "No process can be started here ({why}). Close other programs and try again."
"""Of threads too, which the system counts as such."""


def start(thread: threading.Thread) -> None:
    """Start that thread.

    Raises:
        Refused: the system has none left, as in a container that allows a few processes.
    """
    try:
        thread.start()
    except RuntimeError as error:  # how Python says so
        if isinstance(error.__context__, KeyboardInterrupt):  # it came between two instructions of `start`, which hid it (3.11)
            raise error.__context__ from None
        raise Refused(NO_PROCESS.format(why=os.strerror(errno.EAGAIN))) from None
