"""Files that are old or new, never half."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine import files
from engine.events import EventTail, EventWriter


def test_a_written_file_holds_the_content_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    files.write_atomically(path, "grüße\n")
    assert path.read_text(encoding="utf-8") == "grüße\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["plan.yaml"]


def test_nobody_waits_for_what_a_pipe_may_bring(tmp_path: Path) -> None:
    """The list of runs would stand still for one folder that somebody has copied."""
    pipe = tmp_path / "events.jsonl"
    os.mkfifo(pipe)
    for read in (files.read_json, lambda path: files.beginning(path, 9)):
        with pytest.raises(OSError, match="it is a named pipe"):
            read(pipe)
    assert EventTail(pipe).poll() == []
    with pytest.raises(OSError, match="No such device"):
        EventWriter(pipe)
    for given in ("/dev/fd", "/proc/self/fd"):  # as `<(...)` of a shell, and of zsh, gives one
        end, start = os.pipe()
        os.write(start, b"{}")
        os.close(start)
        assert files.beginning(Path(f"{given}/{end}"), 9) == "{}"
        os.close(end)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "report.json"
    files.write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left") as told:
        files.write_atomically(path, "new")
    assert told.value.filename == str(path), "the system names no file"
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_system_that_cannot_be_asked_to_flush_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint would fail on it."""

    def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    files.write_json(tmp_path / "a.json", {"a": 1})
    files.sync_files(tmp_path)
    assert files.read_json(tmp_path / "a.json") == {"a": 1}


def test_a_name_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    path = tmp_path / "plan.yaml"
    files.write_atomically(path, "new")
    assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]
    flushed.clear()
    files.sync_files(tmp_path)
    assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_who_changes_a_folders_files_waits_for_whoever_does_already(tmp_path: Path) -> None:
    came: list[str] = []

    def other() -> None:
        with files.alone(tmp_path):
            came.append("other")

    thread = threading.Thread(target=other)
    with files.alone(tmp_path):
        thread.start()
        thread.join(0.05)
        came.append("first")
    thread.join()
    assert came == ["first", "other"]


def test_what_a_killed_process_has_not_finished_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    killed = (
        "import os, sys; from pathlib import Path; from engine import files; os.replace = lambda *_: os.kill(os.getpid(), 9);"
        " files.write_atomically(Path(sys.argv[1]), 'new')"
    )
    subprocess.run([sys.executable, "-c", killed, tmp_path / "report.json"], check=False)
    assert len(os.listdir(tmp_path)) == 1
    mine = files.name_beside(tmp_path / "report.json")
    for kept in (mine, tmp_path / ".model.1", tmp_path / "step-1.4194305-1"):
        kept.write_text("")
    files.remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, ".model.1", "step-1.4194305-1"])


def test_threads_that_write_one_file_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync = tmp_path / "draft.json", os.fsync

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        other = threading.Thread(target=files.write_atomically, args=(path, "a longer text of another thread"))
        other.start()
        other.join()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    files.write_atomically(path, "mine")
    assert (path.read_text(), os.listdir(tmp_path)) == ("mine", ["draft.json"])


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "link").symlink_to(target)
    files.write_atomically(tmp_path / "link", "new")
    assert target.read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"


def test_json_keeps_words_readable_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    files.write_json(path, {"label": "zurückgeben"})
    assert "zurückgeben" in path.read_text(encoding="utf-8")
    assert files.read_json(path) == {"label": "zurückgeben"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert files.read_json(path) == {"label": "zurückgeben"}


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text(json.dumps("x" * 100))
    with pytest.raises(ValueError, match="larger than 50 bytes"):
        files.read_json(path, max_bytes=50)
    assert len(files.beginning(path, 50)) == 51, "so that one sees that there is more"


def test_sizes_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"abc")
    assert files.folder_size(tmp_path) == 3
    assert files.sha256_of(tmp_path / "inner" / "a").startswith("ba7816bf")
