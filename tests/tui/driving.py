"""What tests ask of the app while they drive it."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.setup import SetupScreen


def screen(app: LoracleApp) -> str:
    """What stands on the screen, row by row."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def wait(pilot: Any, true: Callable[..., object], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, screen(pilot.app)
        await pilot.pause(0.05)


@asynccontextmanager
async def showing(app: LoracleApp, true: Callable[..., object], size: tuple[int, int] = (80, 24)) -> AsyncIterator[Any]:
    """The app in a terminal of that size, once something is so."""
    async with app.run_test(size=size) as pilot:
        await wait(pilot, true)
        yield pilot


def ready(app: LoracleApp) -> bool:
    """Whether set-up is shown and knows model and data."""
    return isinstance(app.screen, SetupScreen) and app.screen.ready


@asynccontextmanager
async def set_up(rows: Path, runs: Path) -> AsyncIterator[tuple[LoracleApp, Any]]:
    """Set-up with the demo and those rows, once it knows both."""
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with showing(app, lambda: ready(app)) as pilot:
        yield app, pilot
