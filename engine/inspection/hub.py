"""A model named by its hub id: from the local cache, else downloaded. Only in the child: the one place that uses the network."""

import errno
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.text import one_line
from recommender.errors import InputError, LoracleError, Refused
from recommender.reasons import size

WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "README.md", "LICENSE*"]
UNWANTED = ["*/*", "consolidated*", "*.fp16.safetensors", "*.bin", "*.pt"]
"""Sub-folders hold other formats (onnx, openvino) and second copies of the weights."""
REACH_SECONDS = 9.0
"""How long to wait for the hub's first answer; a dead name server alone would take half a minute."""


def locate(name: str) -> dict[str, Any]:
    """The folder and commit of a hub model, downloaded when the cache does not hold it.

    Raises:
        InputError: no such model, gated, pickled weights only, or no way to the hub.
        Refused: not enough disk for it.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{one_line(name)}: is neither a folder nor a hub id (like org/name).") from None
    cached = _cached(name)
    if cached is not None:
        return cached
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"hub id {name} is not in the local cache, and HF_HUB_OFFLINE is set; unset it, or give the path of a model folder."
        )
    try:
        return _download(name)
    except LoracleError:
        raise
    except Exception as error:
        raise _explained(name, error) from None


def _cached(name: str) -> dict[str, Any] | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except Exception:  # missing, incomplete or damaged: all mean that it has to be downloaded
        return None
    # A cache filled by other programs may hold the config alone.
    complete = (folder / "config.json").is_file() and any(folder.glob("model*.safetensors"))
    return _found(folder) if complete else None


def _found(folder: Path) -> dict[str, Any]:
    return {"path": str(folder), "revision": folder.name}


def _download(name: str) -> dict[str, Any]:
    from huggingface_hub import HfApi, constants, snapshot_download

    info = _within(REACH_SECONDS, lambda: HfApi().model_info(name, timeout=REACH_SECONDS - 1, files_metadata=True))
    files = {s.rfilename: s.size or 0 for s in info.siblings or []}
    if "config.json" not in files:
        raise InputError(f"hub model {name} has no config.json, so it is not a transformers model; choose another.")
    weights = {n: s for n, s in files.items() if re.fullmatch(r"model.*\.safetensors", n)}
    if not weights:
        raise InputError(
            f"hub model {name} has no model.safetensors; pickled weights can run code and are not read."
            " Choose a revision or another model with safetensors."
        )
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (cache, *cache.absolute().parents) if p.exists())).free
    if sum(weights.values()) > free:
        needed = size(sum(weights.values()))
        raise Refused(f"{cache}: hub model {name} takes {needed} of disk and {size(free)} are free. Free some, or set HF_HOME.")
    return _found(Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED)))


def _within(seconds: float, work: Callable[[], Any]) -> Any:
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


def _explained(name: str, error: Exception) -> LoracleError:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return InputError(
            f"hub model {name} is gated: accept its terms at {constants.ENDPOINT}/{name}, log in with `hf auth login`,"
            " and try again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            f"there is no model {name} on the hub, and no such folder here; check the name"
            " (a private model needs `hf auth login`)."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Refused(f"{constants.HF_HUB_CACHE}: the disk is full; free some, or set HF_HOME, and try again.")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        code = error.response.status_code
        return InputError(
            f"hub id {name} is not in the local cache, and the hub at {constants.ENDPOINT} answered with HTTP {code};"
            " try again later."
        )
    return InputError(
        f"hub id {name} is not in the local cache, and the hub cannot be reached at {constants.ENDPOINT}"
        f" ({one_line(error, 120) or type(error).__name__}); give the path of a model folder, or try again with a network."
    )
