"""Models to choose from: those in the hub's cache on this machine, and what the hub's own search finds.

The cache is read as folders, without the hub's library, which takes a second to import; the search is for the child.
"""

import os
from pathlib import Path
from typing import Any

from engine.files import expanded
from engine.inspection.child import ask
from engine.text import clean
from recommender.errors import LoracleError

SEARCH_SECONDS = 12.0
"""Until a search is given up; nobody waits for it."""
MOST_FOUND = 15
MOST_CACHED = 200


def hub_cache() -> Path:
    """Where downloaded models go, by the variables that huggingface_hub reads, in its order."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return expanded(os.path.expandvars(os.environ[name]))
    home = os.environ.get("HF_HOME")
    if not home:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = f"{caches}/huggingface"
    return expanded(os.path.expandvars(home)) / "hub"


def cached_models() -> list[str]:
    """Hub ids of the models whose configuration is in the cache, the last used first."""
    try:
        folders = [p for p in hub_cache().iterdir() if p.name.startswith("models--") and p.is_dir()]
        newest = sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True)[:MOST_CACHED]
        names = [p.name.removeprefix("models--").replace("--", "/") for p in newest if any(p.glob("snapshots/*/config.json"))]
    except OSError:
        return []
    return [name for name in names if clean(name) == name]


def found_on_hub(text: str) -> list[str] | None:
    """Hub ids that the hub's search finds, the most downloaded first; `None` without a network or an answer in time."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    try:
        found = ask("hub_search", {"text": text}, about="hub", timeout=SEARCH_SECONDS)["found"]
    except LoracleError:
        return None
    return None if found is None else [str(name) for name in found]


def search(text: str) -> dict[str, Any]:
    """In the child: ask the hub."""
    from huggingface_hub import HfApi

    from engine.inspection.hub import REACH_SECONDS, within

    def look() -> list[str]:
        return [model.id for model in HfApi().list_models(search=text, sort="downloads", limit=MOST_FOUND)]

    try:
        return {"found": within(REACH_SECONDS, look)}
    except Exception:  # whatever the network or the hub has: there is nothing to choose from
        return {"found": None}
