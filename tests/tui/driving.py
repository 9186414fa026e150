"""What tests ask of the app while they drive it."""

from tui.app import LoracleApp
from tui.screens.setup import SetupScreen


def ready(app: LoracleApp) -> bool:
    """Whether set-up is shown and knows model and data."""
    return isinstance(app.screen, SetupScreen) and app.screen.ready
