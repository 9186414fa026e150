"""How long a person waits for `loracle --help` and for the app's first paint, in turns with the least that could be.

    python -m benchmarks.start_up

Python alone, `loracle --help`, a bare Textual app and Loracle's app are started one after the other, again and again, in
pseudo-terminals of 80x24; the time runs to the first bytes that hold what is waited for. Targets: 0.25 s and 0.4 s.
"""

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine

ROUNDS = 15
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("BARE")
Bare().run()
"""
LORACLE = [sys.executable, "-P", "-m", "tui.cli"]
COMMANDS: dict[str, tuple[list[str], bytes]] = {
    "python": ([sys.executable, "-c", "print('READY')"], b"READY"),
    "help": ([*LORACLE, "--help"], b"exit codes"),
    "bare_textual": ([sys.executable, "-c", BARE], b"BARE"),
    "app": (LORACLE, b"Loracle"),
}


def seconds_to(command: list[str], words: bytes, state: str) -> float:
    """Seconds from the start of `command` until `words` appear on its terminal."""
    started = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", LORACLE_STATE=state, LORACLE_RUNS=state)
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""
    try:
        while words not in seen:
            if not select.select([terminal], [], [], 20)[0]:
                raise RuntimeError(f"{command} showed nothing of {words!r}")
            seen += os.read(terminal, 65_536)
        return time.perf_counter() - started
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def main() -> None:
    """Measure, print, and write the result beside the others."""
    given = command_line(__doc__).parse_args()
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as state:
        for turn in range(ROUNDS + 1):
            for name, (command, words) in COMMANDS.items():
                seconds = seconds_to(command, words, state)
                if turn:  # the first round fills the disk cache
                    taken[name].append(seconds)
    result = {
        "benchmark": "start_up",
        "rounds": ROUNDS,
        "median_seconds": {name: round(statistics.median(t), 3) for name, t in taken.items()},
        "best_seconds": {name: round(min(t), 3) for name, t in taken.items()},
        "machine": machine(),
    }
    keep(result, given.output, "start_up")


if __name__ == "__main__":
    main()
