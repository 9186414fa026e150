"""What the app costs while it shows a long run: attaching, keys, drawing four times a second, memory.

    python -m benchmarks.app

The run is recorded: 100,000 events as a worker writes them, an hour of steps. The app attaches to it, in this process, on a
screen of 120x40 without a terminal (a terminal's own work is not the app's). Targets: attached in under 1 s, a key answered in
under 50 ms, under 5% of one core while the whole screen is drawn four times a second, under 150 MB held afterwards. Times
are processor time where a neighbour on the machine would spoil the clock; both are told. Beside each stands what a bare
Textual app with one label takes on the same machine in the same minute.
"""

import asyncio
import gc
import json
import math
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine

EVENTS = 100_000
HOUR = 3600.0
SIZE = (120, 40)
KEYS = ("s", "l", "a", "greater_than_sign", "less_than_sign", "5", "4", "m", "m", "1")
DRAWN_SECONDS = 20.0
FRAME_SECONDS = 0.25


def record(runs: Path) -> Any:
    """A run directory whose log holds an hour: a step and now and then a heartbeat, an evaluation, a checkpoint."""
    from engine.new_run import create
    from recommender.plan import DataChoice, ModelChoice, Plan

    plan = Plan(
        model=ModelChoice(id="model"), data=DataChoice(train="rows.csv"), method="full",
        learning_rate=1e-4, epochs=4.0, effective_batch=32, max_length=64,
    )  # fmt: skip
    run = create(runs, plan, None)
    noise, begin = random.Random(0), time.time() - HOUR
    gap = HOUR / EVENTS
    with run.events.open("w", encoding="utf-8") as log:

        def write(n: int, kind: str, **fields: Any) -> None:
            head = {"v": 1, "seq": n, "time": begin + n * gap, "monotonic": n * gap, "kind": kind}
            log.write(json.dumps({**head, **fields}) + "\n")

        planned = EVENTS + EVENTS // 10  # it goes on: no run takes more steps than it has planned
        write(1, "run", method="full", total_steps=planned, evaluations=50, epochs=4, train_tokens=16_000_000, labels=["a", "b"])
        for n in range(2, EVENTS + 1):
            if n % 2_000 == 0:
                scores = {"accuracy": 0.9 - 0.5 * math.exp(-n / 20_000), "loss": 0.4 + math.exp(-n / 20_000), "seconds": 1.0}
                write(n, "evaluation", step=n, split="validation", metrics=scores)
            elif n % 56 == 0:
                gauges = {"memory": 4_700_000_000, "cpu": 30.0 + noise.random(), "gpu": 97, "disk_free": 2 * 10**11}
                write(n, "heartbeat", machine=gauges)
            else:
                _step(write, n, noise)
    return run


def _step(write: Any, n: int, noise: random.Random) -> None:
    loss = 0.35 + 1.6 * math.exp(-n / 18_000) + noise.gauss(0, 0.15)
    write(n, "step", step=n, epoch=4 * n / EVENTS, loss=loss, learning_rate=1e-4, grad_norm=0.8, tokens=640, rows=32,
          seconds=0.03, memory=4_700_000_000)  # fmt: skip


async def watched(run: Any, runs: Path) -> dict[str, float]:
    """Attach, press keys, and let the screen be drawn while a worker goes on writing."""
    from tui.app import LoracleApp
    from tui.screens import run as run_screen

    run_screen.DRAW_SECONDS, run_screen.OWN_SHARE = FRAME_SECONDS, 1.0  # four times a second, whatever it costs
    app = LoracleApp(runs=runs, attach=run)
    async with app.run_test(size=SIZE) as pilot:
        gc.freeze()  # as the app does in a terminal
        began, spent = time.perf_counter(), time.process_time()
        while getattr(app.screen, "_following", None) is None:
            await asyncio.sleep(0.005)
        attached = time.perf_counter() - began, time.process_time() - spent
        await pilot.pause(1.0)
        keys = [await answered(pilot, key) for key in KEYS * 3]
        drawn = await drawing(run)
    resident = psutil.Process().memory_info().rss / 1e6
    return {
        "attach_seconds": round(attached[0], 3),
        "attach_processor_seconds": round(attached[1], 3),
        "key_median_ms": round(1000 * statistics.median(keys), 1),
        "key_95th_percentile_ms": round(1000 * statistics.quantiles(keys, n=20)[-1], 1),
        "key_worst_ms": round(1000 * max(keys), 1),
        "share_of_a_core_at_4_hz": round(drawn, 4),
        "resident_mb": round(resident, 1),
    }


async def answered(pilot: Any, key: str) -> float:
    """Seconds from a key to the screen that follows from it, in processor time of this process."""
    before = time.process_time()
    await pilot.press(key)
    await pilot.pause()
    return time.process_time() - before


async def drawing(run: Any) -> float:
    """The share of a core that watching takes while ten steps a second come in."""
    before, began, n = time.process_time(), time.perf_counter(), EVENTS
    noise = random.Random(1)
    with run.events.open("a", encoding="utf-8") as log:

        def write(number: int, kind: str, **fields: Any) -> None:
            head = {"v": 1, "seq": number, "time": time.time(), "monotonic": time.monotonic(), "kind": kind}
            log.write(json.dumps({**head, **fields}) + "\n")
            log.flush()

        while time.perf_counter() - began < DRAWN_SECONDS:
            n += 1
            _step(write, n, noise)
            await asyncio.sleep(0.1)
    return (time.process_time() - before) / (time.perf_counter() - began)


async def bare() -> dict[str, float]:
    """The least there is: a Textual app with one label."""
    from textual.app import App
    from textual.widgets import Label

    class Bare(App[None]):
        def compose(self) -> Any:
            yield Label("bare")

    app = Bare()
    async with app.run_test(size=SIZE) as pilot:
        keys = [await answered(pilot, key) for key in KEYS * 3]
    resident = psutil.Process().memory_info().rss / 1e6
    return {"key_median_ms": round(1000 * statistics.median(keys), 1), "resident_mb": round(resident, 1)}


def main() -> None:
    """Measure, print, and write the result beside the others."""
    given = command_line(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LORACLE_STATE"] = folder
        runs = Path(folder) / "runs"
        least = asyncio.run(bare())
        run = record(runs)
        found = asyncio.run(watched(run, runs))
    result = {"benchmark": "app", "events": EVENTS, "size": list(SIZE), "app": found, "bare_textual": least}
    result |= {"load_average": [round(load, 1) for load in os.getloadavg()], "machine": machine()}
    keep(result, given.output, "app")


if __name__ == "__main__":
    main()
