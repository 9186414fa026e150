"""Facts about data, remembered by fingerprint: the same content, options, tokenizer and code give the same facts.

Only counts, names of columns and labels are kept, never a text; yet names can be private too, so the folder is only for
its owner. A preview is read anew.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from engine.files import json_object, write_atomically
from engine.installed import own_code
from engine.userstate import state_folder

DATA = "data-facts"
MOST = 100
"""Answers that are kept; the ones not asked for longest go first."""
LARGEST = 10_000_000
_LEFT_BEHIND = 3600.0
"""Seconds after which a half-written file belongs to nobody any more."""


def key_for(parts: dict[str, Any]) -> str:
    """The name under which facts are kept."""
    whole = json.dumps([own_code(), parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def remembered(key: str, kind: str = DATA) -> dict[str, Any] | None:
    """What was kept of that kind; `None` when nothing was, or it is damaged."""
    path = _folder(kind) / f"{key}.json"
    found = json_object(path, LARGEST)
    if found is None or found.get("key") != key or not isinstance(found.get("answer"), dict):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return dict(found["answer"])


def remember(key: str, answer: dict[str, Any], kind: str = DATA) -> None:
    """Keep it, where there is a place to."""
    folder = _folder(kind)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        write_atomically(folder / f"{key}.json", json.dumps({"key": key, "answer": answer}, allow_nan=False))
        _forget(folder)


def _forget(folder: Path) -> None:
    entries = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    abandoned = [p for p in folder.glob(".*.json.*") if p.stat().st_mtime < time.time() - _LEFT_BEHIND]
    for path in (*entries[MOST:], *abandoned):
        path.unlink(missing_ok=True)


def _folder(kind: str) -> Path:
    return state_folder() / kind
