"""Models to choose from: those in the hub's cache on this machine, and what the hub's own search finds.

The cache is read as folders, without the hub's library, which takes a second to import; the search is for the child.
"""

import os
import re
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


def hub_data(path: str) -> str | None:
    """The hub id of the data set that a file of the cache belongs to; `None` of all other files."""
    found = re.search(r"[/\\]datasets--([^/\\]+)[/\\]snapshots[/\\]", path)
    return found.group(1).replace("--", "/") if found else None


def found_on_hub(text: str) -> list[tuple[str, int | None]] | None:
    """Hub ids that the hub's search finds, the most downloaded first, and how often each is; `None` without an answer."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    try:
        found = ask("hub_search", {"text": text}, about="hub", timeout=SEARCH_SECONDS)["found"]
    except LoracleError:
        return None
    return None if found is None else [(str(name), downloads) for name, downloads in found]


def search(text: str) -> dict[str, Any]:
    """In the child: ask the hub for models whose weights can be read, which are those in safetensors."""
    from huggingface_hub import HfApi

    from engine.inspection.hub import REACH_SECONDS, within

    def look() -> list[tuple[str, int | None]]:
        models = HfApi().list_models(search=text, filter="safetensors", sort="downloads", limit=MOST_FOUND)
        return [(model.id, model.downloads) for model in models]

    try:
        return {"found": within(REACH_SECONDS, look)}
    except Exception:  # whatever the network or the hub has: there is nothing to choose from
        return {"found": None}
