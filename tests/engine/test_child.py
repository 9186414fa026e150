"""Children that look at files: how far they are is told, they can be cancelled, and none of them outlives its parent."""

import gc
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine.inspect import inspect_data, inspect_machine
from engine.inspection import __main__ as inspection
from engine.inspection import child, pipes
from engine.inspection.child import Cancel, ask
from recommender.errors import Exit, InputError, Refused
from recommender.facts import Machine

PYTHON = sys.executable
ANSWERING = """#!/bin/sh
while read line; do sleep 0.01; echo "{\\"ok\\": {\\"pid\\": $$}}"; done
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"text number {i} of the file,{i % 2}\n" for i in range(60_000)))
    return path


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the interpreter; the test writes what it does."""
    child.leave_idle()  # a real one, which an earlier test may have left
    script = tmp_path / "python"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


def test_progress_is_told_in_bytes_then_in_rows_and_then_what_else_is_done(rows: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = inspect_data(str(rows), progress=lambda *step: told.append(step))
    assert found.facts.rows == 60_000
    units = [unit for _, _, unit in told]
    assert units == sorted(units)  # bytes, then rows, then texts to compare
    assert units[-1] == "texts to compare"
    size = rows.stat().st_size
    assert {total for _, total, unit in told if unit == "bytes"} == {size}
    assert (60_000, 60_000, "rows") in told
    assert all(0 <= done <= total for done, total, _ in told)


def test_progress_stands_between_the_answer_and_nonsense(reader: Path) -> None:
    lines = ['{"progress": [1, 2, "rows"]}', '{"progress": "nonsense"}', '{"ok": {"x": 1}}']
    reader.write_text("#!/bin/sh\ncat >/dev/null\n" + "".join(f"echo '{line}'\n" for line in lines))
    told: list[tuple[int, int, str]] = []
    assert ask("data", {}, about="a.csv", timeout=20, progress=lambda *step: told.append(step)) == {"x": 1}
    assert told == [(1, 2, "rows")]


def test_cancelling_ends_the_child_and_leaves_nothing_behind(reader: Path, tmp_path: Path) -> None:
    reader.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    cancel = Cancel()
    caught: list[str] = []

    def wait() -> None:
        try:
            ask("data", {}, about="a.csv", timeout=60, cancel=cancel)
        except InputError as error:
            caught.append(error.message)

    thread = threading.Thread(target=wait)
    thread.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.01)
    cancel.cancel()
    thread.join(20)
    assert caught == ["a.csv: reading it was cancelled."]
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    for _ in range(600):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_cancelled_before_it_began(rows: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(InputError, match="was cancelled"):
        inspect_data(str(rows), cancel=cancel)
    assert not (Path(os.environ["LORACLE_STATE"]) / "data-facts").exists()


def test_what_the_listener_raises_ends_the_child(rows: Path) -> None:
    def quit_now(done: int, total: int, unit: str) -> None:
        raise KeyboardInterrupt

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        inspect_data(str(rows), progress=quit_now)
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("kill -9 $$", "a.csv: reading it was stopped; most likely the machine ran out of memory"),
        ("kill -SEGV $$", "a.csv: reading it crashed (SIGSEGV)"),
        ("echo 'ImportError: no such thing' >&2; exit 1", "a.csv: could not be read (ImportError: no such thing)"),
        ("exit 7", "a.csv: could not be read (the reader ended with code 7)"),
        ("""echo '{"error": "hub said hf_abcdefghijkl no", "exit": 2}'""", "hub said hf_… no"),
        ("echo 'denied for hf_abcdefghijkl' >&2; exit 1", "denied for hf_…"),
    ],
)
def test_a_dead_child_is_one_sentence(reader: Path, does: str, said: str) -> None:
    reader.write_text(f"#!/bin/sh\ncat >/dev/null\n{does}\n")
    with pytest.raises(InputError) as caught:
        ask("data", {}, about="a.csv", timeout=20)
    assert said in caught.value.message


def test_a_child_that_takes_too_long_is_ended_with_all_its_children(
    reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long is as soon as it has a child."""
    reader.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nwait\n")
    began = iter((0.0,))
    now = SimpleNamespace(monotonic=lambda: next(began, 30.0 if (tmp_path / "pid").exists() else 0.0))
    monkeypatch.setattr(pipes, "time", now)
    with pytest.raises(InputError, match="took longer than 30 seconds"):
        ask("data", {}, about="a.csv", timeout=30)
    assert gone(int((tmp_path / "pid").read_text()))


def test_an_app_that_quits_ends_what_it_waits_for(reader: Path) -> None:
    reader.write_text("#!/bin/sh\nsleep 60\n")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            ask("data", {}, about="a.csv", timeout=60)
        except InputError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not child._running:
        time.sleep(0.01)
    child.stop_all()
    thread.join(20)
    assert not thread.is_alive()
    assert caught


def test_ctrl_c_reaches_the_parent_which_ends_the_child(tmp_path: Path) -> None:
    script = tmp_path / "reader"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 60\n")
    script.chmod(0o755)
    code = (
        "import sys; sys.executable = sys.argv[1]; from engine.inspection.child import ask\n"
        "try: ask('data', {}, about='a', timeout=60)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(script)], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.02)
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=20)[0].strip() == "interrupted"
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(("kind", "does"), [("data", "#!/bin/sh\nsleep 60\n"), ("trace", ANSWERING)])
def test_a_ctrl_c_at_any_moment_leaves_no_child(tmp_path: Path, kind: str, does: str) -> None:
    """Forty of them between the first instruction and 20 ms later: while the child is being started above all, or taken again."""
    script = tmp_path / "reader"
    script.write_text(does)
    script.chmod(0o755)
    code = """
import signal, sys
sys.executable = sys.argv[1]
import psutil
from engine.inspection.child import ask, leave_idle
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
for n in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 * n or 0.00001)
        while True:
            ask(sys.argv[2], {}, about="a", timeout=60)
    except KeyboardInterrupt:
        pass
leave_idle()
left = psutil.wait_procs(psutil.Process().children(), timeout=30)[1]  # a process that was sent SIGKILL takes a moment
for process in left:
    process.kill()
print(len(left))
"""
    words = [sys.executable, "-c", code, str(script), kind]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_a_child_may_take_longer_than_one_wait_for_it(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short, because a Ctrl-C that comes just as one begins is noticed at its end only: it took all of `timeout`."""
    reader.write_text("#!/bin/sh\nread line\nsleep 0.1\necho '{\"ok\": {\"n\": 1}}'\n")
    waited: list[float] = []

    class Lines(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            waited.append(timeout or 0.0)
            return super().get(block, timeout)

    monkeypatch.setattr(pipes, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(queue, "SimpleQueue", Lines)
    assert ask("data", {}, about="a.csv", timeout=20) == {"n": 1}
    assert len(waited) > 3
    assert max(waited) <= 0.02


@pytest.fixture
def _none_idle() -> Iterator[None]:
    yield
    child.leave_idle()


@pytest.mark.usefixtures("_none_idle")
def test_a_child_that_traces_answers_again_until_its_memory_is_wanted(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.write_text(ANSWERING)
    cancel = Cancel()
    first = ask("trace", {}, about="a step", timeout=20, cancel=cancel)["pid"]
    cancel.cancel()  # too late: it is somebody else's by now
    assert ask("trace", {}, about="a step", timeout=20)["pid"] == first
    assert ask("data", {}, about="a.csv", timeout=20)["pid"] != first
    monkeypatch.setattr("engine.inspection.machine.machine", lambda _: Machine(backend="cpu"))
    inspect_machine()
    assert gone(first), "its memory is there for a run"
    second = ask("trace", {}, about="a step", timeout=20)["pid"]
    assert ask("trace", {}, about="a step", timeout=20, extra={"OMP_NUM_THREADS": "7"})["pid"] != second
    assert gone(second)
    monkeypatch.setattr(child, "KEPT_SECONDS", 0.05)
    assert gone(ask("trace", {}, about="a step", timeout=20)["pid"])


@pytest.mark.usefixtures("_none_idle")
def test_a_child_is_made_ready_once_and_takes_the_question_it_was_made_for(reader: Path, tmp_path: Path) -> None:
    """Its imports then lie beside what the parent does."""
    reader.write_text(ANSWERING.replace("while", f"echo $$ >> {tmp_path}/pids; while", 1))
    child.prepare("trace", extra={"OMP_NUM_THREADS": "7"})
    child.prepare("trace", extra={"OMP_NUM_THREADS": "7"})
    ready = ask("trace", {}, about="a step", timeout=20, extra={"OMP_NUM_THREADS": "7"})["pid"]
    assert (tmp_path / "pids").read_text() == f"{ready}\n"
    assert ask("trace", {}, about="a step", timeout=20)["pid"] != ready, "made for other threads"
    inspect_machine()
    assert gone(ready)


@pytest.mark.usefixtures("_none_idle")
def test_what_the_child_that_waits_has_computed_is_told(reader: Path) -> None:
    reader.write_text("#!/bin/sh\nread line; n=0; while [ $n -lt 60000 ]; do n=$((n+1)); done; echo '{\"ok\": {}}'; read line\n")
    assert child.computed_by_idle() == 0
    ask("trace", {}, about="a step", timeout=20)
    assert child.computed_by_idle() > 0


def test_where_no_child_can_be_started_nobody_is_told_before_he_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/interpreter")
    child.prepare("trace")
    with pytest.raises(Refused):
        ask("trace", {}, about="a step", timeout=20)


def test_a_ctrl_c_while_a_child_is_made_ready_ends_it(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    reader.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid; read line\n")
    monkeypatch.setattr(child._idle, "keep", interrupted)
    before = psutil.Process().children()
    with pytest.raises(KeyboardInterrupt):
        child.prepare("trace")
    assert set(psutil.Process().children()) <= set(before), "it was not waited for"


def test_a_child_that_traces_imports_before_it_is_asked_and_says_then_why_it_could_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def tracing() -> Any:
        order.append("imports")
        raise ImportError("no torch")

    def lines() -> Iterator[bytes]:
        order.append("asked")
        yield b"{}"

    frozen: list[None] = []
    monkeypatch.setattr(sys, "argv", ["x", "trace", str(os.getppid())])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=lines()))
    monkeypatch.setattr(inspection, "_tracing", tracing)
    monkeypatch.setattr(inspection, "answers", lambda: sys.stdout)
    monkeypatch.setattr(inspection, "leave_with", lambda _: None)
    monkeypatch.setattr(inspection, "_limit_memory", lambda _: None)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(None))
    assert inspection.main() == 0
    assert order == ["imports", "asked", "imports"]
    assert len(frozen) == 1, "half a million objects of libraries were looked through at every answer"
    assert "no torch" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.usefixtures("_none_idle")
def test_a_child_that_was_cancelled_as_it_answered_answers_no_more(reader: Path) -> None:
    class AsItAnswers(Cancel):
        def _holds(self, process: "subprocess.Popen[bytes] | None") -> None:
            if process is None:
                self.cancel()
            super()._holds(process)

    reader.write_text(ANSWERING)
    with pytest.raises(InputError, match="cancelled"):
        ask("trace", {}, about="a step", timeout=20, cancel=AsItAnswers())
    assert child._idle._waiting is None, "a process of half a gigabyte is not gone at once"


def test_a_ctrl_c_while_a_child_is_taken_leave_of_ends_it(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    reader.write_text(ANSWERING.replace("while", f"echo $$ > {tmp_path}/pid; while", 1))
    monkeypatch.setattr(child._idle, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("trace", {}, about="a step", timeout=20)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("_none_idle")
def test_a_child_ended_by_a_ctrl_c_as_it_began_to_wait_is_not_asked_again(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any) -> None:
        keep(*given)
        raise KeyboardInterrupt

    def late(group: int, number: int) -> None:
        kill(group, signal.SIGSTOP)
        threading.Timer(0.2, kill, (group, number)).start()

    reader.write_text(ANSWERING)
    keep, kill = child._idle.keep, os.killpg
    with monkeypatch.context() as inside:
        inside.setattr(child._idle, "keep", interrupted)
        inside.setattr(os, "killpg", late)  # on a busy machine a killed process answers no more, and is gone later
        with pytest.raises(KeyboardInterrupt):
            ask("trace", {}, about="a step", timeout=20)
    assert ask("trace", {}, about="a step", timeout=20)["pid"]


def test_a_ctrl_c_while_a_thread_is_started_is_not_taken_for_a_lack_of_threads(
    reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two instructions of `Thread.start` Python makes a RuntimeError of it."""

    def hidden(thread: threading.Thread) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()

    reader.write_text(ANSWERING)
    monkeypatch.setattr(threading.Thread, "start", hidden)
    with pytest.raises(KeyboardInterrupt):
        ask("data", {}, about="a file", timeout=20)


def test_a_child_that_failed_or_whose_parent_is_gone_answers_no_more(reader: Path, tmp_path: Path) -> None:
    reader.write_text(f"""#!/bin/sh\nread line; echo $$ > {tmp_path}/pid; echo '{{"error": "no", "exit": 2}}'\nread line\n""")
    with pytest.raises(InputError, match="no"):
        ask("trace", {}, about="a step", timeout=20)
    assert gone(int((tmp_path / "pid").read_text()))
    reader.write_text(ANSWERING)
    code = (
        "import sys; sys.executable = sys.argv[1]; from engine.inspection.child import ask\n"
        "print(ask('trace', {}, about='a', timeout=20)['pid'])"
    )
    done = subprocess.run([PYTHON, "-c", code, str(reader)], capture_output=True, text=True, timeout=60, check=True)
    assert gone(int(done.stdout))


def test_a_monstrous_file_ends_the_child_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "OF_A_THREAD", 0)
    (tmp_path / "a.csv").write_text("text,label\n" + "a text of some length,1\n" * 2_000_000)
    with pytest.raises(InputError, match=r"a\.csv"):
        ask("data", {"train": str(tmp_path / "a.csv")}, about=str(tmp_path / "a.csv"), timeout=20, memory=400_000_000)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_where_no_thread_can_be_started_that_is_said(reader: Path, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """As in a container that allows a few processes: `--auto` ended in a traceback."""
    reader.write_text(ANSWERING)
    start, started, before = threading.Thread.start, list[threading.Thread](), set(child._running)

    def none_left(thread: threading.Thread) -> None:
        if len(started) == left:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(Refused, match="No process can be started here"):
        ask("data", {}, about="a file", timeout=20)
    assert child._running <= before


def test_a_child_at_work_ends_with_its_parent() -> None:
    """`--auto` that got SIGTERM while it inspected left a trace computing for minutes."""
    at_work = "lambda *given: os.write(2, b'%d ' % os.getpid()) and time.sleep(60)"
    working = f"import os, time; from engine.inspection import __main__ as it; it._do = {at_work}"
    working += "; import sys; sys.argv = ['', 'data', str(os.getppid())]; it.main()"
    code = (
        f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {working!r}], stdin=subprocess.PIPE)\n"
        "child.stdin.write(b'{}\\n'); child.stdin.flush(); time.sleep(60)"
    )
    with subprocess.Popen([PYTHON, "-c", code], stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        pid = b""
        while not pid.endswith(b" "):
            pid += parent.stderr.read(1)
        parent.terminate()
        assert gone(int(pid))


def test_a_child_whose_parent_was_gone_before_it_looked_ends_at_once() -> None:
    """On a busy machine it takes seconds to look, and its request waits in the pipe already."""
    words = [PYTHON, "-P", "-m", "engine.inspection", "data", str(os.getppid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        try:
            assert orphan.wait(20) == Exit.TERMINATED
        finally:
            orphan.kill()
