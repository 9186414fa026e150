"""What watching costs: throughput of one real run while the app is watching it and while the app is frozen, in turns.

    python -m benchmarks.live_view

The app follows the run in a pseudo-terminal of 120x40. Every few seconds it is frozen (SIGSTOP) or let go on (SIGCONT), so
both conditions see the same run on the same machine in the same minutes. Beside the throughput stands the app's own
share of the machine, which bounds its cost from another side: it is far less noisy. That share is taken afterwards, while
the app is left alone for a minute: an app that was frozen first has to catch up, which nobody who watches has it do.
"""

import argparse
import fcntl
import json
import os
import pty
import signal
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.seed_recipe import machine

WINDOW_SECONDS = 6.0
PAIRS = 12
SETTLE_SECONDS, STEADY_SECONDS = 10.0, 60.0
"""Between the last thaw and the window in which the app's own processor time is taken; that window."""


def main() -> None:
    """Measure, print, and write the result beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs-bench"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    result = measure(given.work.resolve() / "live-view")
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "live_view.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def measure(work: Path) -> dict[str, Any]:
    """Start a run and its viewer, freeze and release the viewer in turns, compare."""
    from engine import runs
    from engine.events import EventTail

    run = runs.start(long_plan(), None, work)
    tail = EventTail(run.events)
    steps: list[tuple[float, int, float]] = []

    def poll() -> None:
        steps.extend((e["time"], e["tokens"], e["seconds"]) for e in tail.poll() if e["kind"] == "step")

    viewer = watch(run.path)
    try:
        while len(steps) < 20:  # the first steps are slower: threads, caches, optimizer states
            time.sleep(0.5)
            poll()
        windows: list[tuple[bool, float, float]] = []
        for i in range(2 * PAIRS):
            watching = (i + i // 2) % 2 == 0  # ABBA: a drift of the machine falls on both alike
            os.kill(viewer.pid, signal.SIGCONT if watching else signal.SIGSTOP)
            began = time.time()
            time.sleep(WINDOW_SECONDS)
            windows.append((watching, began, time.time()))
        poll()
        os.kill(viewer.pid, signal.SIGCONT)
        time.sleep(SETTLE_SECONDS)
        process = psutil.Process(viewer.pid)
        before, began = cpu_seconds(process), time.time()
        time.sleep(STEADY_SECONDS)
        share = (cpu_seconds(process) - before) / (time.time() - began) / len(os.sched_getaffinity(0))
    finally:
        viewer.kill()
        runs.stop(run, now=True)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for watching, began, ended in windows:
        inside = [(tokens, seconds) for when, tokens, seconds in steps if began + seconds <= when <= ended]
        if inside:
            rates[watching].append(sum(t for t, _ in inside) / sum(s for _, s in inside))
    on, off = statistics.median(rates[True]), statistics.median(rates[False])
    return {
        "benchmark": "live_view",
        "windows_a_side": len(rates[True]),
        "window_seconds": WINDOW_SECONDS,
        "tokens_per_second_watched": round(on, 1),
        "tokens_per_second_unwatched": round(off, 1),
        "cost_of_watching": round(1 - on / off, 4),
        "spread_of_windows": round(statistics.pstdev(rates[False]) / off, 4),
        "viewer_share_of_all_cores": round(share, 4),
        "machine": machine(),
    }


def long_plan() -> Any:
    """A full fine-tune of the demo that outlasts the measurement and neither scores nor saves during it."""
    from engine.inspect import inspect_data, inspect_machine, inspect_model, together
    from engine.planning import plan_for
    from recommender.decide import recommend

    examples = Path(__file__).resolve().parents[1] / "examples"
    model = inspect_model("demo")
    data = inspect_data(str(examples / "support-train.csv"), model_path=model.path)
    advice = recommend(together(inspect_machine(), model, data))
    never = ["epochs=1000", "evaluations=1", "early_stopping=false", "effective_batch=8"]
    return plan_for(advice, model, data, method="full", assignments=never)


def watch(run: Path) -> "subprocess.Popen[bytes]":
    """The app, attached to the run, in a terminal whose output is read and dropped."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    code = (
        "import sys; from pathlib import Path; from engine.rundir import RunDirectory; from tui.app import run_app;"
        " run_app(attach=RunDirectory(Path(sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    os.close(slave)

    def drain() -> None:
        try:
            while os.read(master, 65_536):
                pass
        except OSError:
            return

    threading.Thread(target=drain, daemon=True).start()
    return process


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
