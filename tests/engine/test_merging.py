"""The parent's side of a merge: what stands where meanwhile, what the child said, and what is left of one that was killed."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import merging
from engine.merging import merge
from engine.rundir import RunDirectory
from recommender.errors import InputError, LoracleError, Refused, TrainingFailed


def folder(path: Path, says: str) -> None:
    path.mkdir()
    (path / "loracle.json").write_text('{"merged": true}')
    (path / "weights").write_text(says)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (["merged", ".merged.old"], "merged"),
        ([".merged.new", ".merged.old"], ".merged.new"),
        ([".merged.old"], ".merged.old"),
        (["merged"], "merged"),
    ],
)
def test_what_a_killed_merge_left_is_put_in_order(tmp_path: Path, left: list[str], kept: str) -> None:
    for name in left:
        folder(tmp_path / name, name)
    with pytest.raises(InputError, match="is not done"):  # which is found out after
        merge(RunDirectory(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert (tmp_path / "merged" / "weights").read_text() == kept


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_of_somebody_elses_beside_the_place_is_left_alone(tmp_path: Path, there: bool) -> None:
    if there:
        folder(tmp_path / "merged", "an earlier merge")
    (tmp_path / ".merged.old").mkdir()
    (tmp_path / ".merged.old" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not done"):
        merge(RunDirectory(tmp_path))
    assert (tmp_path / ".merged.old" / "thesis.tex").exists()


@pytest.fixture
def mergeable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(merging, "check_adapter", lambda run: None)
    return RunDirectory(tmp_path)


def test_an_earlier_merge_stays_until_the_new_one_is_whole(mergeable: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    place = mergeable.path / "merged"

    def merged(run: RunDirectory, target: Path, told: Callable[[str], None]) -> dict[str, Any]:
        if place.exists():
            assert (place / "weights").read_text() == "first"
        folder(target, "second" if place.exists() else "first")
        return {"path": str(target), "difference": 0.0}

    monkeypatch.setattr(merging, "_merged", merged)
    assert merge(mergeable)["path"] == str(place)
    with pytest.raises(InputError, match="exists already"):
        merge(mergeable)
    folder(mergeable.path / ".merged.new", "a half one, of a merge that was killed")
    assert merge(mergeable, replace=True) == {"path": str(place), "difference": 0.0}
    assert (place / "weights").read_text() == "second"
    assert [path.name for path in mergeable.path.iterdir()] == ["merged"]
    (place / "loracle.json").unlink()
    with pytest.raises(InputError, match="exists already"):  # it is somebody else's
        merge(mergeable, replace=True)


def test_a_new_merge_that_cannot_take_the_place_leaves_the_earlier_one_there(
    mergeable: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(mergeable.path / "merged", "first")
    rename = Path.rename

    def merged(run: RunDirectory, target: Path, told: Callable[[str], None]) -> dict[str, Any]:
        folder(target, "second")
        return {}

    def renamed(path: Path, target: Path) -> Path:
        if path.name == ".merged.new":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(path, target)

    monkeypatch.setattr(merging, "_merged", merged)
    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(Refused, match=r"cannot be written \(Permission denied\)"):
        merge(mergeable, replace=True)
    assert (mergeable.path / "merged" / "weights").read_text() == "first"


KILLS = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("program", "kind", "said"),
    [
        ("print('{\"doing\": \"loading\"}'); print('{\"error\": \"No room.\", \"exit\": 3}')", Refused, "^No room.$"),
        ("print('{\"error\": \"No base.\", \"exit\": 2}')", InputError, "^No base.$"),
        ("print('{\"error\": \"Odd.\", \"exit\": 4}')", TrainingFailed, "^Odd.$"),
        (KILLS, TrainingFailed, "most often memory ran out"),
        ("raise SystemExit(1)", TrainingFailed, "worker.log tells more"),
    ],
)
def test_what_the_child_ends_with_is_what_is_told(
    mergeable: RunDirectory, monkeypatch: pytest.MonkeyPatch, program: str, kind: type[LoracleError], said: str
) -> None:
    monkeypatch.setattr(merging, "execute", lambda _, **how: subprocess.Popen([sys.executable, "-c", program], **how))
    heard: list[str] = []
    with pytest.raises(kind, match=said):
        merge(mergeable, told=heard.append)
    assert heard == (["loading"] if "doing" in program else [])


def test_nothing_is_left_of_a_merge_that_is_left_alone(mergeable: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def execute(_: list[str], **how: Any) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen(["sleep", "60"], **how))
        return begun[-1]

    monkeypatch.setattr(merging, "execute", execute)

    def left(end: Callable[[], None]) -> None:
        with merging._child(mergeable, mergeable.path / "merged") as process:
            part = merging.part_of(mergeable.path / "merged", process.pid)
            part.mkdir()
            end()
            assert not part.exists()

    def interrupted() -> None:
        raise KeyboardInterrupt

    left(merging.stop_all)
    with pytest.raises(KeyboardInterrupt):
        left(interrupted)
    assert [process.returncode for process in begun] == [-signal.SIGKILL] * 2
    assert [path.name for path in mergeable.path.iterdir()] == ["worker.log"]
    assert not merging._going_on


def test_a_base_in_fp32_finds_room_in_the_memory_that_is_asked_for() -> None:
    assert 4.5e9 < merging.memory_needed(10**9) < 5e9
