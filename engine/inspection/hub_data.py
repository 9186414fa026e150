"""A data set named by its hub id: from the local cache, else downloaded. Only in the child: it uses the network.

Files of rows are all that is fetched and read. A data set that comes as a loading script is refused: scripts are code.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from engine.files import common_start
from engine.inspection.hub import REACH_SECONDS, explained, within
from engine.inspection.hub_fetch import fetched
from engine.inspection.manners import front_matter
from engine.inspection.pipes import Progress
from engine.tables.split_names import split_named
from engine.text import one_line
from recommender.errors import InputError, LoracleError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_DESCRIPTIONS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"})


def locate_data(name: str, tell: Progress | None = None) -> dict[str, Any]:
    """The files of a hub data set by split, downloaded when the cache does not hold them; `tell` hears how far that has come.

    `name` is org/name, or org/name:configuration where a data set has several.

    Raises:
        InputError: no such data set, gated, no files of rows in it, or no way to the hub.
        Refused: not enough disk for it.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repo, _, config = name.partition(":")
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise InputError(f"{one_line(name)}: is neither a file nor a hub id (like org/name).") from None
    cached = _cached(repo, config)
    if cached is not None:
        return cached
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{name}: there is no such file or folder, and no data set of that name in the hub cache (HF_HUB_OFFLINE is set)."
        )
    try:
        return _download(repo, config, tell)
    except LoracleError:
        raise
    except Exception as error:
        raise explained(
            error,
            what=f"hub data set {repo}",
            page=f"datasets/{repo}",
            unknown=f"{repo}: there is no such file or folder here, and no data set of that name on the hub; check the name"
            " (a private one needs `hf auth login`).",
            lacking=f"{repo}: there is no such file or folder",
            path="the path of a file",
        ) from None


def _cached(repo: str, config: str) -> dict[str, Any] | None:
    """What the cache holds, if that is all there is of the configuration: a set of which shards are missing is none."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    try:
        place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset")
        folder = place / "snapshots" / (place / "refs" / "main").read_text(encoding="ascii").strip()
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        splits = chosen_files(repo, files, card_of(folder), config)
        alike = {re.sub(r"\d+", "*", file) for names in splits.values() for file in names}
        snapshot_download(repo, repo_type="dataset", local_files_only=True, allow_patterns=sorted(alike))
        return _found(folder, splits)
    except Exception:  # missing, incomplete or damaged: all mean that it has to be downloaded
        return None


def _download(repo: str, config: str, tell: Progress | None) -> dict[str, Any]:
    from huggingface_hub import HfApi, hf_hub_download

    info = within(REACH_SECONDS, lambda: HfApi().dataset_info(repo, timeout=REACH_SECONDS - 1, files_metadata=True))
    sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
    card: dict[str, Any] = {}
    if "README.md" in sizes:
        card = card_of(Path(hf_hub_download(repo, "README.md", repo_type="dataset")).parent)
    splits = chosen_files(repo, sizes, card, config)
    wanted = [file for files in splits.values() for file in files]
    # By branch, not by commit: only then the cache knows which commit the name means when there is no network.
    files, what = {file: sizes[file] for file in wanted}, f"data set {repo}"
    folder = fetched(repo, files, what=what, kind="dataset", commit=info.sha, revision=None, tell=tell)
    return _found(folder, splits)


def _found(folder: Path, splits: dict[str, list[str]]) -> dict[str, Any]:
    return {"splits": {split: name_of(folder, files) for split, files in splits.items()}, "revision": folder.name}


def name_of(folder: Path, files: list[str]) -> str:
    """One name for the files of a split: the file, or a pattern that fits them and nothing else."""
    if len(files) == 1:
        return str(folder / files[0])
    places = {str(PurePosixPath(file).parent) for file in files}
    names = [PurePosixPath(file).name for file in files]
    pattern = f"{common_start(names)}*{common_start([n[::-1] for n in names])[::-1]}"
    inside = folder / places.pop()
    if places or {p.name for p in inside.glob(pattern)} != set(names):
        raise InputError(f"{folder}: the files of a split lie in several folders; give one of them by its path.")
    return str(inside / pattern)


def chosen_files(repo: str, files: Iterable[str], card: dict[str, Any], config: str) -> dict[str, list[str]]:
    """Files of rows by split: as the data set's card lists them, else by their names.

    Raises:
        InputError: there are none, or several configurations and none is named.
    """
    rows = sorted(f for f in files if f.endswith(SUFFIXES) and PurePosixPath(f).name not in _DESCRIPTIONS)
    if not rows:
        raise InputError(f"hub data set {repo} has no csv, json or parquet files; a loading script, if it has one, is never run.")
    listed = _listed(repo, card, config)
    if listed is not None:
        found = {split: [f for f in rows if any(fnmatch(f, p) for p in patterns)] for split, patterns in listed.items()}
        found = {split: names for split, names in found.items() if names}
        if found:
            return found
    telling = [f for f in rows if split_named(f)] or rows  # beside train.csv may lie a labels.json
    common = Counter(next(s for s in SUFFIXES if f.endswith(s)) for f in telling).most_common(1)[0][0]
    kind = ".parquet" if any(f.endswith(".parquet") for f in rows) else common
    rows = [f for f in rows if f.endswith(kind)]
    folders: dict[str, list[str]] = defaultdict(list)
    for file in rows:
        first = PurePosixPath(file).parts[0] if "/" in file else ""
        folders["" if first == "data" or split_named(first) else first].append(file)
    rows = folders[_one_of(repo, list(folders), config)] if config or len(folders) > 1 else rows
    by_split: dict[str, list[str]] = defaultdict(list)
    for file in rows:
        by_split[split_named(file) or "train"].append(file)
    return dict(by_split)


def _listed(repo: str, card: dict[str, Any], config: str) -> dict[str, list[str]] | None:
    """Patterns by split of the configuration that is meant, where the card lists configurations."""
    configs = [c for c in card.get("configs") or [] if isinstance(c, dict) and c.get("data_files")]
    if not configs:
        return None
    by_name = {str(c.get("config_name", "default")): c for c in configs}
    default = next((name for name, c in by_name.items() if c.get("default") is True), None)
    files = by_name[default if default and not config else _one_of(repo, list(by_name), config)]["data_files"]
    if isinstance(files, str) or (isinstance(files, list) and all(isinstance(f, str) for f in files)):
        return {"train": [files] if isinstance(files, str) else files}
    found: dict[str, list[str]] = {}
    for entry in files if isinstance(files, list) else []:
        path = entry.get("path") if isinstance(entry, dict) else None
        if path:
            found[str(entry.get("split", "train"))] = [path] if isinstance(path, str) else list(map(str, path))
    return found


def _one_of(repo: str, names: list[str], config: str) -> str:
    if config in names:
        return config
    if not config:
        for usual in ("default", ""):
            if usual in names or len(names) == 1:
                return usual if usual in names else names[0]
    shown = ", ".join(one_line(n, 40) for n in sorted(names) if n)
    raise InputError(f"hub data set {repo} comes as {shown}; name one, like {repo}:{next(n for n in sorted(names) if n)}.")


def card_of(folder: Path) -> dict[str, Any]:
    """The front matter of README.md; empty where there is none that can be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    front = front_matter(folder)
    if re.search(r"[:\-\s]&\w", front):  # no aliases: they can unfold without end
        return {}
    try:
        content = YAML(typ="safe", pure=True).load(front)
    except (YAMLError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
