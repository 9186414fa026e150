"""The program in a pseudo terminal, read as a person reads it: what stands on the screen, not what was written."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from types import TracebackType

import pyte

_PRIVATE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b\]|\x1bP")
"""Questions and settings that `pyte` does not know and would print; strings (OSC, DCS) end with BEL or ST."""
_STRINGS = re.compile(rb"\x1b[\]P].*?(?:\x07|\x1b\\)", re.S)

ENTER, ESCAPE, CONTROL_C, CONTROL_Q, CONTROL_R = "\r", "\x1b", "\x03", "\x11", "\x12"


class RealTerminal:
    """`loracle ARGUMENTS` on a screen of that many columns and rows. Waits for what is seen, never for a time."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (80, 24)) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._rest = b""
        self._open = True
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
            os.execv(sys.executable, [sys.executable, "-P", "-m", "tui.cli", *arguments])
        self._tell_size(*size)

    def __enter__(self) -> "RealTerminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)

    def _tell_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the window; the program is told by the signal that the system sends."""
        self.screen.resize(rows, columns)
        self._tell_size(columns, rows)

    def press(self, *keys: str) -> None:
        """Type; a text is typed letter by letter."""
        for key in keys:
            os.write(self._master, key.encode())

    @property
    def text(self) -> str:
        """The rows of the screen."""
        return "\n".join(row.rstrip() for row in self.screen.display)

    def _read(self) -> bool:
        """Take in what was written; `False` at the end."""
        if select.select([self._master], [], [], 0.1)[0]:
            try:
                new = os.read(self._master, 65536)
            except OSError:
                new = b""
            if not new:
                return False
            data = _STRINGS.sub(b"", self._rest + new)
            cut = data.rfind(b"\x1b")
            whole = cut < 0 or re.match(rb"\x1b(?:\[[0-9;?<>=$]*[a-zA-Z]|[^\[\]P])", data[cut:]) is not None
            self._rest = b"" if whole else data[cut:]
            self._stream.feed(_PRIVATE.sub(b"", data if whole else data[:cut]))
        return True

    def wait(self, pattern: str, *, gone: str = "", seconds: float = 240.0) -> str:
        """Until the screen shows `pattern`, and `gone` no more; what it shows then."""
        deadline = time.monotonic() + seconds
        while not (re.search(pattern, self.text) and not (gone and re.search(gone, self.text))):
            assert time.monotonic() < deadline, f"never seen: {pattern}\n{self.text}"
            assert self._read(), f"ended before it showed {pattern}\n{self.text}"
        return self.text

    def then(self, keys: str, pattern: str, *, gone: str = "") -> str:
        """Type, and wait for what follows."""
        self.press(keys)
        return self.wait(pattern, gone=gone)

    def end(self, seconds: float = 60.0) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
        self._open = False
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
