"""A checkpoint is whole or it does not count."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from engine import checkpoints
from recommender.errors import TrainingFailed

FILES = {
    "model.safetensors": 5000,
    "optimizer.pt": 9000,
    "scheduler.pt": 300,
    "trainer_state.json": 400,
    "loracle.json": 120,
    "nested/part.bin": 64,
}


def save(root: Path, step: int, seal: bool = True) -> Path:
    folder = checkpoints.folder_of(root, step)
    for n, (name, length) in enumerate(FILES.items()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes((i * 7 + step + n) % 256 for i in range(length)))
    if seal:
        checkpoints.seal(folder)
    return folder


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "torn": cut,
    "flipped": flip,
    "grown": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [*FILES, checkpoints.MANIFEST])
def test_any_fault_in_any_file_of_the_newest_falls_back_to_the_one_before(tmp_path: Path, name: str, fault: str) -> None:
    older, newest = save(tmp_path, 9), save(tmp_path, 10)
    FAULTS[fault](newest / name)
    if (name, fault) == (checkpoints.MANIFEST, "flipped") and checkpoints.damage(newest) is None:
        pytest.skip("the flipped bit was white space")
    found, put_aside = checkpoints.newest_sound(tmp_path)
    assert found == older
    assert len(put_aside) == 1
    assert put_aside[0].startswith("step-10: ")
    if name != checkpoints.MANIFEST:
        assert Path(name).name in put_aside[0]
    assert not newest.exists()
    assert (tmp_path / "quarantine-step-10-1").is_dir()


@pytest.mark.parametrize("content", ['{"files": {}}', '{"files": []}', '{"files": {"optimizer.pt": 3}}', "{}", "[]", "null"])
def test_a_manifest_that_says_nothing_of_the_files_is_damage(tmp_path: Path, content: str) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / checkpoints.MANIFEST).write_text(content)
    assert "its manifest" in (checkpoints.damage(checkpoint) or "")


def test_sound_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    save(tmp_path, 9)
    newest = save(tmp_path, 100)
    save(tmp_path, 20)
    assert checkpoints.newest_sound(tmp_path) == (newest, [])


def test_nothing_sound_means_starting_over(tmp_path: Path) -> None:
    for step in (1, 2):
        flip(save(tmp_path, step) / "optimizer.pt")
    found, put_aside = checkpoints.newest_sound(tmp_path)
    assert found is None
    assert [p.split(":")[0] for p in put_aside] == ["step-2", "step-1"]
    assert checkpoints.newest_sound(tmp_path / "none") == (None, [])


def test_the_same_step_can_be_put_aside_again(tmp_path: Path) -> None:
    for n in (1, 2):
        flip(save(tmp_path, 5) / "optimizer.pt")
        checkpoints.newest_sound(tmp_path)
        assert (tmp_path / f"quarantine-step-5-{n}").is_dir()


def test_a_save_killed_before_its_seal_does_not_count(tmp_path: Path) -> None:
    older = save(tmp_path, 1)
    save(tmp_path, 2, seal=False)
    assert checkpoints.sealed(tmp_path) == [older]
    found, put_aside = checkpoints.newest_sound(tmp_path)
    assert found == older
    assert put_aside == ["step-2: manifest.json is missing"]


def test_every_file_is_on_the_disk_before_the_manifest_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut keeps a name and forgets what was not flushed."""
    folder, flushed, replace, fsync = save(tmp_path, 3, seal=False), list[int](), os.replace, os.fsync
    before: set[int] = set()
    held: dict[int, int] = {}

    def named(one: Path, other: Path) -> None:
        before.update(flushed)
        replace(one, other)

    def flush(file: int) -> None:
        flushed.append(os.fstat(file).st_ino)
        held[flushed[-1]] = os.fstat(file).st_size
        fsync(file)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", named)
    checkpoints.seal(folder)
    assert before >= {(folder / name).stat().st_ino for name in FILES}
    assert flushed[-1] == tmp_path.stat().st_ino, "and the folder's own name"
    manifest = (folder / checkpoints.MANIFEST).stat()
    assert held[manifest.st_ino] == manifest.st_size, "and nothing of it is still in the program's own memory"


def test_killed_at_any_moment_of_saving_there_is_a_sound_checkpoint(tmp_path: Path) -> None:
    """A process saves without pause and is killed at ten different moments."""
    program = (
        "import sys; from pathlib import Path; from engine import checkpoints\n"
        "root, step = Path(sys.argv[1]), int(sys.argv[2])\n"
        "while True:\n"
        "    step += 1; folder = checkpoints.folder_of(root, step); folder.mkdir()\n"
        "    for n in range(5): (folder / f'{n}.bin').write_bytes(bytes([step % 256]) * 300_000)\n"
        "    checkpoints.seal(folder); checkpoints.rotate(root, None)\n"
        "    print(step, flush=True)\n"
    )
    step = 0
    for n in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(step)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        ) as process:  # fmt: skip
            assert process.stdout is not None
            said = int(process.stdout.readline())
            time.sleep(0.007 * n)
            process.send_signal(signal.SIGKILL)
            said = max([said, *map(int, process.stdout.read().split())])
        found, _ = checkpoints.newest_sound(tmp_path)
        assert found is not None
        step = checkpoints.step_of(found)
        assert step >= said
        assert (found / "0.bin").read_bytes() == bytes([step % 256]) * 300_000


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step)
        checkpoints.rotate(tmp_path, 2 if step >= 2 else None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-2", "step-4", "step-5"]


def test_an_unsealed_folder_is_no_reason_to_delete_a_sound_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    save(tmp_path, 3, seal=False)
    checkpoints.rotate(tmp_path, None)
    assert [checkpoints.step_of(c) for c in checkpoints.sealed(tmp_path)] == [2, 1]


def test_a_checkpoint_whose_deletion_was_cut_off_counts_no_more_and_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    with monkeypatch.context() as inside:
        inside.setattr(shutil, "rmtree", lambda *_, **__: None)
        checkpoints.rotate(tmp_path, None)
    assert [checkpoints.step_of(c) for c in checkpoints.sealed(tmp_path)] == [3, 2]
    save(tmp_path, 4)
    save(tmp_path, 5, seal=False)  # being written
    checkpoints.rotate(tmp_path, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-3", "step-4", "step-5"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), TrainingFailed),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), OSError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), TrainingFailed),
        (RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file"), TrainingFailed),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError),
    ],
)
def test_what_cannot_be_written_takes_no_space(tmp_path: Path, error: Exception, raised: type[Exception]) -> None:
    folder = checkpoints.folder_of(tmp_path, 4)

    def write() -> None:
        with checkpoints.being_written(folder, "the checkpoint of step 4"):
            (folder / "optimizer.pt").write_bytes(bytes(1000))
            raise error

    with pytest.raises(raised):
        write()
    assert not folder.exists()


def test_the_size_that_is_told_is_what_is_on_disk(tmp_path: Path) -> None:
    save(tmp_path, 3, seal=False)
    assert checkpoints.seal(tmp_path / "step-3") == sum(FILES.values())


def test_strange_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("step-x", "step-²", "7"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert list(checkpoints.listed(tmp_path)) == []


def test_a_disk_too_full_for_the_next_checkpoint_is_said_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    there, elsewhere = (tmp_path, tmp_path / ".."), 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000 if path in there else elsewhere))
    with pytest.raises(TrainingFailed) as caught:
        checkpoints.check_space(tmp_path, 1)
    assert "needs about" in caught.value.message
    assert "earlier checkpoints are intact" in caught.value.message
    with pytest.raises(TrainingFailed):
        checkpoints.check_space(tmp_path / "..", 20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    checkpoints.check_space(tmp_path, 20_000)
