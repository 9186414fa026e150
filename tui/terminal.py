"""What the terminal is asked for beside the screen: the clipboard, its bell, its title, a notification of the desktop.

Escape sequences reach the terminal of the person, over ssh too; a local helper serves where the terminal ignores them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from engine.text import one_line

HELPER_SECONDS = 3.0
_HELPERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("WAYLAND_DISPLAY",), ("wl-copy",)),
    (("DISPLAY",), ("xclip", "-selection", "clipboard")),
    (("DISPLAY",), ("xsel", "--clipboard", "--input")),
    (("WSL_DISTRO_NAME",), ("clip.exe",)),
)
"""What must be set for a helper to have somebody to talk to, and its command."""


def copy_locally(text: str) -> bool:
    """Hand `text` to this machine's clipboard, if it has one and a person sits at it; blocks, so call it from a thread."""
    command = _helper()
    return command is not None and _ran(command, text.encode("utf-8", "replace"))


def _helper() -> tuple[str, ...] | None:
    if os.environ.get("SSH_CONNECTION"):  # the person's clipboard is elsewhere; OSC 52 reaches it
        return None
    if sys.platform == "darwin":
        return ("pbcopy",)
    for needed, command in _HELPERS:
        if all(os.environ.get(name) for name in needed) and shutil.which(command[0]):
            return command
    return None


KEEP_TITLE, TITLE_BACK = "\x1b[22;2t", "\x1b[23;2t"
"""The title as it is, kept by the terminal, and back (xterm's; what does not know them passes over them)."""


class News:
    """What a person who looks elsewhere is told; the window's title, which says it too, is given back afterwards."""

    def __init__(self) -> None:
        self._unread = False

    def tell(self, write: Callable[[str], None], title: str, words: str) -> None:
        """Bell (unless `LORACLE_BELL` is 0 or empty), title, and OSC 9 for the desktop."""
        if os.environ.get("LORACLE_BELL", "1") not in ("", "0"):
            write("\a")
        if not self._unread:
            write(KEEP_TITLE)
        self._unread = True
        write(title_sequence(title))
        write(f"\x1b]9;{one_line(words, 200)}\a")

    def were_read(self, write: Callable[[str], None]) -> None:
        """The person looks here again, or leaves."""
        if self._unread:
            self._unread = False
            write(title_sequence("Loracle") + TITLE_BACK)


def title_sequence(title: str) -> str:
    """The title of the terminal's window."""
    return f"\x1b]2;{one_line(title, 80)}\a"


def open_folder(folder: str) -> bool:
    """Show a folder in the desktop's own program, if a person sits at a desktop of this machine; blocks for a moment."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    here = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    command = "open" if sys.platform == "darwin" else "xdg-open" if here else None
    if command is None or shutil.which(command) is None:
        return False
    return _ran((command, folder))


def _ran(command: tuple[str, ...], given: bytes = b"") -> bool:
    """Whether a helper took what it was given, in good time."""
    try:
        done = subprocess.run(
            command,
            input=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=HELPER_SECONDS,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
