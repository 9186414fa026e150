"""Files of a hub repository, brought into the cache and told of while they come. Only in the child: it uses the network."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import disk_free
from engine.inspection.pipes import Progress
from recommender.errors import Refused
from recommender.figures import size

UNIT = "bytes to download"
PIECE = 1_000_000
"""Bytes between two words on how far it has come; the library's 10 MB are half a minute on a slow line."""


def fetched(
    repo: str, files: Mapping[str, int], *, what: str, kind: str, commit: str, revision: str | None, tell: Progress | None
) -> Path:
    """The folder of those files (with their bytes) at `commit`; those that the cache lacks are downloaded.

    `what` names the repository in messages, `kind` is model or dataset; without a `revision` the cache is also told that the
    commit is the newest. `tell` hears the bytes that came, of how many.

    Raises:
        Refused: not enough disk.
        Exception: whatever the hub or the network has.
    """
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    here = (file for file in files if isinstance(try_to_load_from_cache(repo, file, repo_type=kind, revision=commit), str))
    needed = sum(files.values()) - sum(files[file] for file in here)
    cache = Path(constants.HF_HUB_CACHE)
    free = disk_free(cache)
    if needed > free:
        raise Refused(f"{cache}: {what} takes {size(needed)} of disk and {size(free)} is free. Free some space, or set HF_HOME.")
    constants.DOWNLOAD_CHUNK_SIZE = PIECE
    bar = None if tell is None else _counting(needed, tell)
    names = [glob.escape(file) for file in files]
    return Path(snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=names, tqdm_class=bar))


def _counting(total: int, tell: Progress) -> Any:
    """A class of bars that are never drawn: one counts the bytes received, one the bytes written, one the files."""
    from huggingface_hub.utils.tqdm import tqdm

    most = 0

    class Counting(tqdm):
        def __init__(self, *args: Any, unit: str = "it", **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]
            self._bytes = unit == "B"

        def update(self, n: float | None = 1) -> None:
            nonlocal most
            self.n += n or 0
            if self._bytes and self.n > most:
                most = min(int(self.n), total)
                tell(most, total, UNIT)

    return Counting
