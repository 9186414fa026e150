"""Makes the pictures of the README from real screens: `python docs/pictures.py`, with the demo and Chromium installed.

The app runs in this process at 100x30, a real worker trains the demo in a folder of its own, and what Textual draws is
saved as SVG and photographed by Chromium. Nothing of this machine is in the pictures: the folder is called `demo`, and the
machine's name is the one it has for everybody, its cores and memory.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE = (100, 30)
PATIENCE = 900.0
"""Seconds for a screen to come."""


async def pictures(folder: Path, wanted: Path) -> list[Path]:
    """Go from set-up to a run that goes on, and keep what is seen on the way; files of SVG."""
    from tui.app import LoracleApp
    from tui.screens.recommendation import RecommendationScreen
    from tui.screens.run import RunScreen
    from tui.screens.setup import SetupScreen
    from tui.work import stop

    app = LoracleApp(runs=folder / "demo")
    made: list[Path] = []
    async with app.run_test(size=SIZE) as pilot:

        async def until(true: Callable[[], bool]) -> None:
            for _try in range(int(PATIENCE / 0.2)):
                if true():
                    return
                await pilot.pause(0.2)
            raise SystemExit(f"never seen: {app.screen}")

        async def keep(name: str) -> None:
            await pilot.pause(0.5)
            file = wanted / f"{name}.svg"
            file.write_text(app.export_screenshot(title="loracle"), encoding="utf-8")
            made.append(file)

        await until(lambda: isinstance(app.screen, SetupScreen) and app.machine is not None)
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        await until(lambda: all(worker.is_finished for worker in app.workers))  # what is tried and counted beside the plan
        await keep("plan")
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, RunScreen))
        run = app.screen.run_directory  # type: ignore[attr-defined]
        await until(lambda: run.state().step >= 120)
        await keep("run")
        stop(run, now=True)
        await until(lambda: not run.alive())
    return made


def photographed(svg: Path, browser: str) -> Path:
    """The picture as PNG; Chromium draws braille and blocks where they belong."""
    text = svg.read_text(encoding="utf-8")
    box = text.partition('viewBox="0 0 ')[2].partition('"')[0].split()
    width, height = (int(float(n)) + 1 for n in box[:2])
    page = svg.with_suffix(".html")
    page.write_text(f"<body style='margin:0;background:transparent'>{text}</body>", encoding="utf-8")
    png = svg.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--default-background-color=00000000"]
    shot = [f"--window-size={width},{height}", f"--screenshot={png}", page.as_uri()]
    subprocess.run([browser, *options, *shot], capture_output=True, timeout=120, check=True)
    return png


def main() -> None:
    """Make them, into docs/images unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES)
    given = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("No Chromium here: apt-get install chromium.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LORACLE_STATE": str(folder / "state"), "LORACLE_CONFIG": str(folder / "none.toml"), "LORACLE_LANG": "en"}
        for svg in asyncio.run(pictures(folder, folder)):
            png = photographed(svg, browser)
            shutil.copy(png, given.to / png.name)
            print(given.to / png.name)


if __name__ == "__main__":
    main()
