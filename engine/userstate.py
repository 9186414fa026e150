"""Small things remembered between runs and visits: JSON objects in a folder of the user's own."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from engine.files import json_object, write_atomically

LARGEST = 1_000_000
"""Bytes of one of them."""


def state_folder() -> Path:
    """`LORACLE_STATE`, else the user's state directory."""
    named = os.environ.get("LORACLE_STATE")
    return Path(named) if named else folder_of("state")


def folder_of(kind: Literal["state", "cache", "config"]) -> Path:
    """The user's folder of that kind for Loracle; one that can never be there for users without a home, as in some containers."""
    import platformdirs

    try:
        found: Path = getattr(platformdirs, f"user_{kind}_path")("loracle", appauthor=False)
    except RuntimeError:
        return Path(os.devnull, "loracle")
    return found


def recall(name: str) -> dict[str, Any]:
    """What was kept in the file of that name; nothing where there is none, or it is damaged."""
    return json_object(state_folder() / name, LARGEST) or {}


def keep(name: str, content: Mapping[str, Any]) -> None:
    """Keep it there. A folder that cannot be written only means that nothing is remembered."""
    with contextlib.suppress(OSError):
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / name, json.dumps(content))  # in ASCII: names may hold bytes that are no text
