"""Paths a person types: what could follow, and what may be picked. Touches the disk; call from a thread."""

import os
from dataclasses import dataclass
from pathlib import Path

from engine.files import OF_ROWS, expanded
from engine.text import clean

MOST = 2_000
"""Entries of one folder that are looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder that may be picked."""

    name: str
    path: Path
    folder: bool
    size: int


def entries(folder: Path, *, files: bool = True, hidden: bool = False, start: str = "") -> list[Entry]:
    """Folders and readable data files in `folder` whose names begin with `start`, folders first.

    Names that hold control characters are left out: they cannot be shown or typed safely.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[Entry] = []
    with os.scandir(folder) as items:
        for item in items:
            if len(found) >= MOST:
                break
            if not item.name.startswith(start) or clean(item.name) != item.name or (item.name.startswith(".") and not hidden):
                continue
            try:
                if item.is_dir():
                    found.append(Entry(item.name, Path(item.path), True, 0))
                elif files and item.is_file() and _readable_data(item):
                    found.append(Entry(item.name, Path(item.path), False, item.stat().st_size))
            except OSError:
                continue
    return sorted(found, key=lambda e: (not e.folder, e.name.lower()))


def _readable_data(item: "os.DirEntry[str]") -> bool:
    return Path(item.name).suffix.lower() in OF_ROWS and os.access(item.path, os.R_OK)


def completions(typed: str, *, files: bool = True) -> list[str]:
    """What `typed` could become, written the way the person began it; folders end in a slash."""
    head, slash, start = typed.rpartition("/")
    base = head + slash
    try:
        inside = entries(expanded(base or "."), files=files, hidden=start.startswith("."), start=start)
    except (OSError, ValueError, RuntimeError):
        return []
    return [f"{base}{e.name}{'/' if e.folder else ''}" for e in inside]
