"""What the name of data means: files, a pattern of them, a folder of rows; and their fingerprint."""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.files import expanded, nearest, sha256_of
from engine.tables.arrow import is_saved, saved_files, splits_of
from engine.tables.by_class import classes_in, text_files
from recommender.errors import InputError

DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".txt")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz", ".7z", ".zst", ".rar")


def fingerprint(name: str) -> str:
    """SHA-256 of a file's content, or of what decides the rows where there are several files.

    Raises:
        InputError: no such file.
    """
    paths = files_of(name)
    if len(paths) == 1 and paths[0].is_file():
        return sha256_of(paths[0])
    folder: Path | None = None
    if paths[0].is_dir():
        folder = paths[0]
        paths = saved_files(folder) if is_saved(folder) else text_files(folder)
    whole = hashlib.sha256()
    for path in paths:
        named = path.name if folder is None else path.relative_to(folder)
        whole.update(f"{named}\0{sha256_of(path)}\n".encode())
    return whole.hexdigest()


def files_of(name: str) -> list[Path]:
    """The ordinary files, or the one folder of rows, that a name means.

    Raises:
        InputError: it means nothing of that kind.
    """
    if "*" in name and not expanded(name).exists():
        pattern = expanded(name)
        base = folder_of(pattern)
        found = sorted(p for p in base.glob(str(pattern.relative_to(base))) if p.is_file())
        if not found:
            raise InputError(f"{name}: no file has a name like that.")
        return [existing_file(str(path)) for path in found]
    folder = expanded(name)
    try:
        if folder.is_dir() and (is_saved(folder) or classes_in(folder)):
            return [folder]
    except OSError:
        pass  # told below
    return [existing_file(name)]


def folder_of(pattern: Path) -> Path:
    """The innermost folder that a pattern names without a `*`."""
    return next(folder for folder in pattern.parents if "*" not in str(folder))


@contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """What the system says about reading `path`, in our words.

    Raises:
        InputError: it may not be read, or does not fit in memory.
    """
    try:
        yield
    except PermissionError:
        raise InputError(f"{path}: may not be read; check its permissions.") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit in memory.") from None


def existing_file(name: str) -> Path:
    """The path of an ordinary, non-empty file.

    Raises:
        InputError: it is anything else.
    """
    if "://" in name:
        raise InputError(f"{name}: addresses are not read; download the file and give its path.")
    path = expanded(name)
    piped = name == "-" or path.is_relative_to("/dev/fd")  # what a shell's `<(...)` gives is closed where rows are read
    try:
        mode = stat.S_IFIFO if piped else path.stat().st_mode
    except FileNotFoundError:
        near = nearest(path)
        raise InputError(f"{name}: there is no such file.{f' Did you mean {near}?' if near else ''}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({getattr(error, 'strerror', None) or 'not a path'}).") from None
    if stat.S_ISDIR(mode):
        raise InputError(_about_folder(name, path))
    if not stat.S_ISREG(mode):
        raise InputError(f"{name} is not an ordinary file; save the rows to a csv or jsonl file first.")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty.")
    if path.name.lower().endswith(_ARCHIVES):
        raise InputError(f"{name} is an archive; unpack it and give the file inside.")
    return path


def _about_folder(name: str, path: Path) -> str:
    splits = list(splits_of(path))
    if splits:
        return f"{name} is a folder of several splits; give one of them, like {path / splits[0]}."
    inside = sorted((p.name for p in path.iterdir() if p.suffix in DATA_SUFFIXES), key=lambda n: ("train" not in n.lower(), n))
    hint = f"; did you mean {path / inside[0]}?" if inside else "."
    return f"{name} is a folder; give a file with rows{hint}"
