"""Checkpoints that are whole or not there: a manifest with the hash and size of every file, written last.

The trainer writes its files in place, unflushed and without a mark of completion; resuming from what a crash left of
that either fails or, worse, goes on silently different (measured; docs/architecture.md). So a checkpoint counts only
once its manifest verifies, and damaged ones are put aside under another name.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.files import DISK_FULL, folder_size, read_json, sha256_of, sync_files, sync_folder, write_json
from engine.text import first_line
from recommender.errors import TrainingFailed
from recommender.figures import size
from recommender.footprint import CHECKPOINTS

MANIFEST = "manifest.json"
FINISHED = "finished.json"
"""Beside the checkpoints once training is over: resuming then goes straight to saving and scoring."""
KEEP = CHECKPOINTS - 2
"""Newest sound checkpoints kept, beside the best one: if the newest goes bad there is another."""


def folder_of(checkpoints: Path, step: int) -> Path:
    """The folder of that step's checkpoint."""
    return checkpoints / f"step-{step}"


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint folder was saved at."""
    return int(checkpoint.name.removeprefix("step-"))


def seal(checkpoint: Path) -> int:
    """Flush every file, then write the manifest that makes the checkpoint count; its size in bytes.

    Raises:
        OSError: the disk is full or gone.
    """
    sync_files(checkpoint)
    files: dict[str, dict[str, Any]] = {}
    for file in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
        files[str(file.relative_to(checkpoint))] = {"size": file.stat().st_size, "sha256": sha256_of(file)}
    write_json(checkpoint / MANIFEST, {"version": 1, "step": step_of(checkpoint), "files": files})
    sync_folder(checkpoint.parent)
    return sum(f["size"] for f in files.values())


@contextlib.contextmanager
def being_written(folder: Path, what: str) -> Iterator[None]:
    """Make `folder`; when what is written inside, `what` in words, cannot be, remove it: its space is needed, and it would not
    count. What has nothing to do with the disk, memory that ran out above all, is raised as it is.

    Raises:
        TrainingFailed: the disk is full, gone or broken, in a sentence.
    """
    try:
        folder.mkdir(mode=0o700)
        yield
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not _is_of_disk(error):
            raise
        reason = first_line(error)
        free = size(shutil.disk_usage(folder.parent).free)
        if isinstance(error, OSError) and error.errno not in DISK_FULL:
            raise TrainingFailed(
                f"{folder.parent}: {what} could not be written ({reason}); earlier checkpoints are intact: see that the folder "
                "can be written again, then `loracle resume`."
            ) from error
        raise TrainingFailed(
            f"{folder.parent}: {what} could not be written ({reason}; {free} of disk is free); earlier checkpoints are "
            "intact: free some disk space, then `loracle resume`."
        ) from error


def _is_of_disk(error: Exception) -> bool:
    """Whether something could not be written: as OSError, or as the libraries' own."""
    if isinstance(error, OSError):
        return error.errno != errno.ENOMEM
    named = type(error).__name__ == "SafetensorError"  # nothing of the worker's is imported here
    return named or (isinstance(error, RuntimeError) and "inline_container" in str(error))  # torch.save's writer, in C++


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or `None` when every file is as it was written."""
    try:
        files = read_json(checkpoint / MANIFEST)["files"]
        if not isinstance(files, dict) or not files:
            return "its manifest is empty"
        for name, expected in files.items():
            file = checkpoint / name
            if file.stat().st_size != expected["size"]:
                return f"{name} has another size"
            if sha256_of(file) != expected["sha256"]:
                return f"{name} has other content"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    return None


def newest_sound(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and what was put aside on the way to it."""
    put_aside: list[str] = []
    for checkpoint in listed(checkpoints):
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint, put_aside
        put_aside.append(f"{checkpoint.name}: {wrong}")
        quarantine(checkpoint)
    return None, put_aside


def listed(checkpoints: Path) -> Iterator[Path]:
    """All checkpoint folders, sound or not, newest first."""
    if not checkpoints.is_dir():
        return
    found = [p for p in checkpoints.glob("step-*") if p.is_dir() and p.name.removeprefix("step-").isdecimal()]
    yield from sorted(found, key=step_of, reverse=True)


def sealed(checkpoints: Path) -> list[Path]:
    """Checkpoints that were written to the end, newest first; nothing is verified."""
    return [c for c in listed(checkpoints) if (c / MANIFEST).is_file()]


def quarantine(checkpoint: Path) -> None:
    """Put a damaged checkpoint aside; it is kept for whoever wants to look."""
    for n in range(1, 1000):
        aside = checkpoint.with_name(f"quarantine-{checkpoint.name}-{n}")
        if not aside.exists():
            checkpoint.rename(aside)
            return


def rotate(checkpoints: Path, best: int | None) -> None:
    """Delete all but the newest `KEEP` sealed checkpoints and the best one; with them what a killed worker has half deleted."""
    kept = [step_of(checkpoint) for checkpoint in sealed(checkpoints)[:KEEP]]
    for checkpoint in listed(checkpoints):
        if step_of(checkpoint) < kept[0] and step_of(checkpoint) not in (*kept, best):
            # Without its manifest a half-deleted folder can never be taken for a checkpoint.
            (checkpoint / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(checkpoint, ignore_errors=True)


def check_space(checkpoints: Path, expected: int) -> None:
    """Refuse to begin a save that the disk cannot hold: a full disk would leave a torn checkpoint.

    Raises:
        TrainingFailed: less than `expected` bytes (or than the newest checkpoint took) are free.
    """
    newest = next(listed(checkpoints), None)
    needed = max(expected, folder_size(newest) if newest else 0)
    free = shutil.disk_usage(checkpoints).free
    if free < needed:
        raise TrainingFailed(
            f"{checkpoints}: the next checkpoint needs about {size(needed)} and {size(free)} is free; earlier checkpoints "
            "are intact: free some disk space, then `loracle resume`."
        )
