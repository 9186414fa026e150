"""What watching costs: throughput of one real run while the app is watching it and while the app is frozen, in turns.

    python -m benchmarks.live_view

The app follows the run in a pseudo-terminal of 120x40. Two measures:

- The app's own processor time, as a share of all cores, over the better part of a minute in which it is left alone. A
  training that keeps every core busy loses that share and no more, but for caches; it is the number to judge by, for it
  repeats within 0.1%.
- The throughput of the training while the app goes on and while it is frozen (SIGSTOP), in short windows in turns, with a 95%
  interval over pairs of neighbours. A shared machine drifts by 5 to 10% from window to window, so that this interval is
  wider than what is to be measured; it shows that there is no larger cost that the first number misses.
"""

import fcntl
import os
import pty
import random
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

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine

WINDOW_SECONDS = 2.5
PAIRS = 16
RESAMPLES = 10_000
SETTLE_SECONDS, STEADY_SECONDS = 5.0, 50.0
"""Between the last thaw and the window in which the app's own processor time is taken; that window."""


def main() -> None:
    """Measure, print, and write the result beside the others."""
    parser = command_line(__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs-bench"))
    given = parser.parse_args()
    result = measure(given.work.resolve() / "live-view")
    keep(result, given.output, "live_view")


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
    pairs = []
    for first, second in zip(windows[::2], windows[1::2], strict=True):
        rates = {window[0]: rate_within(steps, window[1], window[2]) for window in (first, second)}
        if rates[True] and rates[False]:
            pairs.append((rates[True], rates[False]))
    on, off = (statistics.median(side) for side in zip(*pairs, strict=True))
    low, high = interval([1 - watched / unwatched for watched, unwatched in pairs])
    return {
        "benchmark": "live_view",
        "windows_a_side": len(pairs),
        "window_seconds": WINDOW_SECONDS,
        "tokens_per_second_watched": round(on, 1),
        "tokens_per_second_unwatched": round(off, 1),
        "viewer_share_of_all_cores": round(share, 4),
        "throughput_lost_while_watched": round(statistics.fmean(1 - a / b for a, b in pairs), 4),
        "throughput_lost_95": [round(low, 4), round(high, 4)],
        "machine": machine(),
    }


def rate_within(steps: list[tuple[float, int, float]], began: float, ended: float) -> float:
    """Tokens a second of the steps that lie wholly within a window; 0 where none does."""
    inside = [(tokens, seconds) for when, tokens, seconds in steps if began + seconds <= when <= ended]
    return sum(t for t, _ in inside) / sum(s for _, s in inside) if inside else 0.0


def interval(differences: list[float]) -> tuple[float, float]:
    """95% bootstrap interval of the mean."""
    order = random.Random(0)
    means = sorted(statistics.fmean(order.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]


def long_plan() -> Any:
    """A full fine-tune of the demo that outlasts the measurement and neither scores nor saves during it."""
    from engine.inspect import all_facts, inspect_data, inspect_machine, inspect_model
    from engine.planning import plan_for
    from recommender.decide import recommend

    examples = Path(__file__).resolve().parents[1] / "examples"
    model = inspect_model("demo")
    data = inspect_data(str(examples / "support-train.csv"), model_path=model.path)
    advice = recommend(all_facts(inspect_machine(), model, data))
    never = ["epochs=1000", "evaluations=1", "early_stopping=false", "effective_batch=8"]
    return plan_for(advice, model, data, method="full", assignments=never)


def watch(run: Path) -> "subprocess.Popen[bytes]":
    """The app, attached to the run, in a terminal whose output is read and dropped."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    code = (
        "import sys; from pathlib import Path; from engine.rundir import RunDirectory; from tui.start import run_app;"
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
