"""What the app remembers of a person's choices between visits."""

from typing import Any

FILE = "app.json"


def recall() -> dict[str, Any]:
    """Everything that was kept, by name."""
    from engine import userstate

    return userstate.recall(FILE)


def remember(**choices: Any) -> None:
    """Keep choices by name."""
    from engine import userstate

    userstate.keep(FILE, recall() | choices)
