"""Long looks at data: how far they are is told, and they can be cancelled."""

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from engine.inspect import inspect_data
from engine.inspection.child import Cancel, ask
from recommender.errors import InputError


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"text number {i} of the file,{i % 2}\n" for i in range(60_000)))
    return path


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the interpreter; the test writes what it does."""
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
    for _ in range(100):
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
