"""A model named by its hub id: from the local cache, else from the hub, whole or its description alone.

Only in the child: the one place that uses the network.
"""

import errno
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from engine.inspection.headers import Header, header_length, names_in, weights_of
from engine.inspection.hub_fetch import fetched
from engine.inspection.model import TOKENIZERS, described, has_tokenizer, inspect_folder
from engine.inspection.pipes import Progress
from engine.inspection.weights import Weights
from engine.text import one_line
from recommender.errors import InputError, LoracleError, Refused

WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "README.md", "LICENSE*", *TOKENIZERS]
UNWANTED = ["*/*", "consolidated*", "*.fp16.safetensors", "*.bin", "*.pt"]
"""Sub-folders hold other formats (onnx, openvino) and second copies of the weights."""
FIRST_BYTES = 100_000
"""Most headers are shorter."""
HEADERS_AT_ONCE = 8
HEADER_SECONDS = 30.0
REACH_SECONDS = 9.0
"""How long to wait for the hub's first answer; a dead name server alone would take half a minute."""


def locate(name: str, revision: str | None = None, tell: Progress | None = None) -> dict[str, Any]:
    """The folder and commit of a hub model, downloaded when the cache does not hold it; `tell` hears how far that has come.

    Raises:
        InputError: no such model or revision, gated, pickled weights only, or no way to the hub.
        Refused: not enough disk for it.
    """
    return _cached_or(name, revision, partial(_download, tell=tell))


def facts_of(name: str, revision: str | None = None) -> dict[str, Any]:
    """Facts of a hub model as `inspect_folder` gives them, with its commit and whether its weights are in the cache.

    What is missing is fetched: the config, the tokenizer and the headers of the weights, never the weights.

    Raises:
        InputError: no such model or revision, gated, pickled weights only, damaged, or no way to the hub.
    """
    found = _cached_or(name, revision, _headers_only)
    if "facts" in found:
        return found
    return inspect_folder(found["path"], name) | {"revision": found["revision"], "weights_here": True}


Fetch = Callable[[str, str | None], dict[str, Any]]


def _cached_or(name: str, revision: str | None, fetch: Fetch) -> dict[str, Any]:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{one_line(name)}: is neither a folder nor a hub id (like org/name).") from None
    cached = _cached(name, revision)
    if cached is not None:
        return cached
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"hub id {name} is not in the local cache, and HF_HUB_OFFLINE is set; unset it, or give the path of a model folder."
        )
    try:
        return fetch(name, revision)
    except LoracleError:
        raise
    except RevisionNotFoundError:
        raise InputError(f"hub model {name} has no revision {one_line(revision or '', 60)}; check it, or leave it out.") from None
    except Exception as error:
        raise explained(
            error,
            what=f"hub model {name}",
            page=name,
            unknown=f"there is no model {name} on the hub, and no such folder here; check the name"
            " (a private model needs `hf auth login`).",
            lacking=f"hub id {name} is not in the local cache",
            path="the path of a model folder",
        ) from None


def _cached(name: str, revision: str | None) -> dict[str, Any] | None:
    from huggingface_hub import snapshot_download

    try:
        known = snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED)
        folder = Path(known)
        # A cache filled by other programs, or by a look at the facts, may hold the config alone.
        complete = (folder / "config.json").is_file() and has_tokenizer(folder)
        complete &= bool(names_in(folder, lambda file: (folder / file).is_file()))
    except Exception:  # missing, incomplete or damaged: all mean that it has to be downloaded
        return None
    return _found(folder) if complete else None


def _found(folder: Path) -> dict[str, Any]:
    return {"path": str(folder), "revision": folder.name}


def _listed(name: str, revision: str | None) -> tuple[str, dict[str, int], dict[str, int]]:
    """Commit, sizes of all files and of the weights among them, as the hub lists them now."""
    from huggingface_hub import HfApi

    seconds = REACH_SECONDS - 1
    info = within(REACH_SECONDS, lambda: HfApi().model_info(name, revision=revision, timeout=seconds, files_metadata=True))
    files = {s.rfilename: s.size or 0 for s in info.siblings or []}
    weights = {n: s for n, s in files.items() if re.fullmatch(r"model.*\.safetensors", n)}
    if "adapter_config.json" in files and not weights:
        raise InputError(f"{name} holds an adapter, not a model; give the base model it was trained on.")
    if "config.json" not in files:
        gguf = any(file.endswith(".gguf") for file in files)
        hint = "it holds GGUF files, which are made for inference" if gguf else "so it is not a transformers model"
        raise InputError(f"hub model {name} has no config.json; {hint}; choose another.")
    if not weights:
        raise InputError(
            f"hub model {name} has no model.safetensors; pickled weights can run code and are not read."
            " Choose a revision or another model with safetensors."
        )
    return info.sha, files, weights


def _download(name: str, revision: str | None, tell: Progress | None) -> dict[str, Any]:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    commit, files, _ = _listed(name, revision)
    if not any(fnmatch(file, pattern) for file in files for pattern in TOKENIZERS):
        _headers_only(name, commit)  # refuses it before its weights are here, where its config does not say that it needs none
    # The newest by its branch: only then the cache knows which commit the name means when there is no network.
    newest = revision is None or HfApi().model_info(name, timeout=REACH_SECONDS).sha == commit
    wanted = {file: files[file] for file in filter_repo_objects(files, allow_patterns=WANTED, ignore_patterns=UNWANTED)}
    meant = None if newest else commit
    return _found(fetched(name, wanted, what=f"hub model {name}", kind="model", commit=commit, revision=meant, tell=tell))


def _headers_only(name: str, revision: str | None) -> dict[str, Any]:
    from huggingface_hub import snapshot_download

    commit, files, _ = _listed(name, revision)
    small = [pattern for pattern in WANTED if pattern != "*.safetensors"]
    folder = Path(snapshot_download(name, revision=commit, allow_patterns=small, ignore_patterns=UNWANTED))
    names = names_in(folder, lambda file: file in files)

    def read() -> Weights:
        with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
            return weights_of(list(pool.map(lambda file: _header(name, commit, file, files[file]), names)), f"hub model {name}")

    found = described(folder, name, read)
    if not has_tokenizer(folder):  # told now, and not once gigabytes of weights are here
        raise InputError(
            f"hub model {name} has no tokenizer.json and no vocabulary, which training needs; choose another, or give a folder"
            " that holds these files too."
        )
    return found | {"revision": commit, "weights_here": False}


def _header(name: str, commit: str, file: str, length: int) -> Header:
    """The header of one file on the hub: its first bytes, and more of them when they hold a part only."""
    from huggingface_hub import hf_hub_url

    where = f"hub model {name}, {file}"
    url = hf_hub_url(name, file, revision=commit)
    start = _first_bytes(url, min(FIRST_BYTES, length))
    wanted = 8 + header_length(start[:8], length, where)
    if wanted > len(start):
        start = _first_bytes(url, wanted)
    return Header(file, where, length, start[8:wanted])


def _first_bytes(url: str, count: int) -> bytes:
    """The first bytes of a file, and no more even from a server that would send all of it."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers() | {"Range": f"bytes=0-{count - 1}", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=HEADER_SECONDS) as response:
        if response.status_code >= 400:
            response.read()
            hf_raise_for_status(response)
        found = bytearray()
        for part in response.iter_bytes():
            found += part
            if len(found) >= count:
                break
        return bytes(found[:count])


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of `work`, or TimeoutError; a look-up of a host name cannot be interrupted in any other way."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return results[0]


def explained(error: Exception, *, what: str, page: str, unknown: str, lacking: str, path: str) -> LoracleError:
    """What went wrong at the hub, as a sentence about `what`, which `page` of the hub tells of.

    `unknown` is said where the hub has none of that name, `lacking` where it cannot be asked; `path` is what else could be given.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hub = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return InputError(f"{what} is gated: accept its terms at {hub}/{page}, log in with `hf auth login`, and try again.")
    if isinstance(error, RepositoryNotFoundError):
        return InputError(unknown)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Refused(f"{constants.HF_HUB_CACHE}: the disk is full; free some space, or set HF_HOME, and try again.")
    if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code == 401:
        return InputError(f"{what}: the hub at {hub} does not accept this machine's token; log in again with `hf auth login`.")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return InputError(f"{lacking}, and the hub at {hub} answered with HTTP {error.response.status_code}; try again later.")
    why = one_line(error, 120) or type(error).__name__
    return InputError(f"{lacking}, and the hub cannot be reached at {hub} ({why}); give {path}, or try again with a network.")
