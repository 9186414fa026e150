"""Files: written so that a crash leaves the old or the new, never a half; read within bounds; what lies where they are to be."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full disk says."""
DISK_FAILED = (errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES, errno.EPERM)
"""What one says that is broken, or that the system lets nobody write any more, as after an error or when a network is gone."""
OF_ROWS = frozenset(
    ".csv .tsv .json .jsonl .ndjson .parquet .pq .arrow .feather .txt .gz .conll .conllu .bio .iob .iob2".split()  # noqa: SIM905
)
"""Endings of files of rows."""


def expanded(name: str | Path) -> Path:
    """`name` with the home folder that `~` stands for; of a person whom the system does not know it stays as it is."""
    return Path(os.path.expanduser(name))


def unpiped(path: Path) -> Path:
    """`path`, to be opened; of a named pipe nobody knows whether anybody will ever write into it.

    Raises:
        OSError: it is one, or missing. What a shell's `<(...)` gives has its writer: `/dev/fd/N`, of zsh `/proc/self/fd/N`.
    """
    if stat.S_ISFIFO(path.stat().st_mode) and not str(path).startswith(("/dev/", "/proc/")):
        raise OSError(errno.EINVAL, "it is a named pipe, not a file", str(path))
    return path


def text_in(path: Path) -> str:
    """What a small file of the system says, without blanks around it; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The whole number that such a file says; `None` where it says another thing, or 2^63, as where there is no limit."""
    text = text_in(path)
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else None


def disk_free(where: Path) -> int:
    """Bytes free on the disk where that is, or would be made.

    Raises:
        OSError: the system does not say.
    """
    there = where.absolute()
    return shutil.disk_usage(next(p for p in (there, *there.parents) if p.exists())).free


def nearest(path: Path, fits: Callable[[Path], bool] = lambda _: True) -> Path | None:
    """What lies beside a path that does not exist, `fits` and has the most similar name; `None` where nothing is similar."""
    import difflib

    try:
        names = [p.name for p in path.parent.iterdir() if fits(p)]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, 1)
    return path.parent / close[0] if close else None


def common_start(names: Sequence[str]) -> str:
    """The characters with which all of them begin."""
    first, last = min(names, default=""), max(names, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def write_atomically(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Write to a file beside `path`, flush it to the disk, then take its name.

    Raises:
        OSError: it cannot be written; `filename` is `path`, of a full disk too, which by itself names no file.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = name_beside(path)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                flush(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(path)
        raise
    sync_folder(path.parent)


def name_beside(path: Path) -> Path:
    """A name that is this thread's alone, for a file or folder on its way to `path` or from there."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


def remove_unfinished(folder: Path, name: str = "*", *, older: float = 0.0) -> None:
    """Remove what processes that are no more have left in `folder` under the `name_beside` of any `name`, or of that one, and
    have not touched for `older` seconds."""
    import psutil

    for path in folder.glob(f".{name}.*"):
        of = re.fullmatch(r"\..+\.([0-9]{1,9})-[0-9]+", path.name)
        if of and not psutil.pid_exists(int(of[1])):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= older:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """`write_atomically` as JSON, on one line without `indent`; refuses NaN, which is not JSON."""
    write_atomically(path, json.dumps(content, allow_nan=False, ensure_ascii=False, indent=indent) + "\n")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """For changing a file of that folder that others change too: whoever asks for the same, thread or program, waits until this
    one is done.

    Nobody waits where the file system has no locks.

    Raises:
        OSError: there is no such folder.
    """
    import fcntl  # the command line imports this module to say that Windows, which lacks it, is not supported

    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself, so that nothing is left in it
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_json(path: Path, max_bytes: int | None = 64_000_000) -> Any:
    """JSON content of a file of bounded size; without a bound where the file is ours and grows with the rows.

    Raises:
        OSError: missing or unreadable.
        ValueError: too large, or not JSON.
    """
    with unpiped(path).open("rb") as file:
        if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
            raise ValueError(f"{path} is larger than {max_bytes} bytes")
        return json.loads(file.read())  # without a size: for one, Python asks for that much memory at once


def json_object(path: Path, max_bytes: int | None = 64_000_000) -> dict[str, Any] | None:
    """The JSON object in a file, of bounded size as with `read_json`; `None` where there is none."""
    try:
        content = read_json(path, max_bytes)
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def beginning(path: Path, most: int) -> str:
    """A file of UTF-8 text; of a longer one `most` characters and one more, by which that shows.

    Raises:
        OSError: missing or unreadable.
        UnicodeDecodeError: not UTF-8.
    """
    with unpiped(path).open(encoding="utf-8") as file:
        return file.read(most + 1)


def flush(descriptor: int) -> None:
    """Flush an open file to the disk; nothing on file systems that cannot be asked to, as some shared folders.

    Raises:
        OSError: the disk is full or gone.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Flush every file below `folder`, and the folder's entries, to the disk.

    Raises:
        OSError: the disk is full or gone.
    """
    for file in (p for p in folder.rglob("*") if p.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            flush(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
