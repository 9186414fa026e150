"""The palette: all commands, or all themes, by name."""

from pathlib import Path
from typing import Any

import pytest
from rich.style import Style
from textual import events
from textual.widgets import Input

from tests.tui.driving import screen, showing, wait
from tests.tui.test_home import ended
from tui.app import LoracleApp
from tui.screens.home import HomeScreen
from tui.screens.palette import Palette
from tui.widgets.choices import Options


def marked(found: Options) -> str:
    """The line under the cursor."""
    return "" if found.highlighted is None else str(found.get_option_at_index(found.highlighted).prompt).strip()


async def opened(pilot: Any, app: LoracleApp, key: str) -> None:
    """A palette, with the cursor where one types."""
    await pilot.press(key)
    await wait(pilot, lambda: isinstance(app.screen, Palette) and isinstance(app.focused, Input))


async def test_enter_twice_does_a_command_once_and_takes_no_screen_with_it(runs: Path, make_run: Any) -> None:
    for name in ("first", "second"):
        ended(make_run, name)
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "second-lora" in screen(app)) as pilot:
        await opened(pilot, app, "ctrl+p")
        await pilot.press(*"delete")
        await wait(pilot, lambda: isinstance(app.screen, Palette) and "Move the run to the trash" in screen(app))
        for _time in range(2):  # both before the first is acted on, as over a slow connection
            app.screen.post_message(Input.Submitted(app.screen.query_one(Input), "delete"))
        await wait(pilot, lambda: isinstance(app.screen, HomeScreen) and "is in the trash" in screen(app))
        await pilot.pause(0.1)
        assert len(app.discarded) == 1


async def test_a_command_is_found_by_what_it_does_and_its_key_is_told(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "Stop and save" in screen(app)) as pilot:
        await opened(pilot, app, "ctrl+p")
        await pilot.press(*"checkpoint")
        await wait(pilot, lambda: isinstance(app.screen, Palette) and "Stop and save" in screen(app))
        line = next(line for line in screen(app).splitlines() if "Finish this step" in line)
        assert line.rstrip(" │").endswith(" x")
        await pilot.press(*"xyz")
        await wait(pilot, lambda: "No matches found" in screen(app))
        await pilot.press("enter")
        assert isinstance(app.screen, Palette)
        found = app.screen.query_one(Options)
        gone = Style.from_meta({"option": 9})  # a line of the longer list, clicked before it became shorter
        found.post_message(events.Click(found, 1, 1, 0, 0, 1, False, False, False, 1, 1, style=gone))
        await pilot.pause()
        await pilot.press("escape")
        await wait(pilot, lambda: not isinstance(app.screen, Palette))


async def test_what_is_marked_stays_so_in_another_size_and_gives_way_to_the_best_match(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn" in screen(app)) as pilot:
        app.theme = "textual-light"
        await pilot.press("f2")
        await wait(pilot, lambda: isinstance(app.screen, Palette) and "textual-light" in screen(app))
        found = app.screen.query_one(Options)
        await wait(pilot, lambda: marked(found) == "textual-light")
        await pilot.press("home", "down")
        after = marked(found)
        await pilot.resize_terminal(90, 30)
        await wait(pilot, lambda: app.screen.size.width == 90)
        await pilot.pause()
        assert marked(found) == after != "textual-light"
        await pilot.press(*"light")
        await wait(pilot, lambda: found.option_count > 1 and marked(found) == str(found.get_option_at_index(0).prompt).strip())
        assert marked(found) != "textual-light"


async def test_what_is_typed_before_the_palette_has_the_focus_is_not_lost(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn" in screen(app)) as pilot:
        await opened(pilot, app, "ctrl+p")
        app.screen.set_focus(None)  # as it is for a moment while the palette is put together
        await pilot.press("t", "h")
        await wait(pilot, lambda: app.screen.query_one(Input).value == "th")


async def test_a_theme_is_chosen_by_name(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn" in screen(app)) as pilot:
        await opened(pilot, app, "f2")
        await pilot.press(*"nord")
        await wait(pilot, lambda: isinstance(app.screen, Palette) and "nord" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: app.theme == "nord")


async def test_a_terminal_of_ascii_alone_is_written_ascii_alone(runs: Path, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_ASCII", "1")
    worker.steps(1, 40)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "step 40/100" in screen(app) and "left" in screen(app), (120, 40)) as pilot:
        assert screen(app).isascii()
        assert "|" in screen(app)
        for key, words in (("f1", "Help"), ("escape", "40/100"), ("ctrl+p", "Freeze"), ("escape", "40/100"), ("escape", "cores")):
            await pilot.press(key)
            await wait(pilot, lambda words=words: words in screen(app))
            assert screen(app).isascii()
