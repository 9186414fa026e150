"""What the app remembers of a person's choices between visits: a small file in the state folder."""

import contextlib
import json
from typing import Any

LARGEST = 1_000_000
FILE = "app.json"


def recall() -> dict[str, Any]:
    """Everything that was kept; nothing where there is no file, or it is damaged."""
    from engine.files import read_json
    from engine.inspection.nf4 import state_folder

    try:
        found = read_json(state_folder() / FILE, LARGEST)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(**choices: Any) -> None:
    """Keep choices by name; a folder that cannot be written only means that nothing is remembered."""
    from engine.files import write_atomically
    from engine.inspection.nf4 import state_folder

    content = recall() | choices
    with contextlib.suppress(OSError):
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / FILE, json.dumps(content))
