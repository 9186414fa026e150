"""Screens compared with pictures that a person looked at.

`LORACLE_SNAPSHOTS=write pytest tests/tui` draws them anew; look at what changed before it is kept.
"""

import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "snapshots"
_ID = re.compile(r"terminal-\d+")


async def settled(pilot: Any) -> None:
    """Nothing is worked on any more, and the screen has stopped changing."""
    before, same = None, 0
    for _try in range(300):
        await pilot.pause(0.1)
        drawn = [screen._compositor.render_strips() for screen in pilot.app.screen_stack]
        busy = any(not worker.is_finished for worker in pilot.app.workers)
        same = same + 1 if drawn == before and not busy else 0
        if same == 3:
            return
        before = drawn
    raise AssertionError("the screen does not come to rest")


def same_picture(app: Any, name: str) -> None:
    """The screen is drawn as in `snapshots/NAME.svg`, letter by letter and colour by colour."""
    drawn = _ID.sub("terminal", app.export_screenshot(title=name))
    file = FOLDER / f"{name}.svg"
    if os.environ.get("LORACLE_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(drawn, encoding="utf-8")
    kept = file.read_text(encoding="utf-8")
    if drawn != kept:
        differing = [f"- {a}\n+ {b}" for a, b in zip(kept.splitlines(), drawn.splitlines(), strict=False) if a != b]
        raise AssertionError(f"{name}: drawn otherwise than {file.name}:\n" + "\n".join(differing[:8]))
