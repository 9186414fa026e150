"""How long threads look for one another before they sleep: steps of one trainer in turns, on an idle machine and beside work.

    python -m benchmarks.waiting

MiniLM fully on SST-2 rows in batches of 32 (short steps of many small operations, the hardest case) and on IMDB rows, and
SmolLM2-135M with LoRA on Alpaca rows, in fp32. `sleeping` is OpenMP's own `PASSIVE`, `spinning` what a script has where nobody
says otherwise, `loracle` what the worker is started with. Seconds by the clock are what counts here: a thread that waits costs
processor time too. Run it where nothing else runs; the work beside is a process that it starts itself.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.command_line import in_turns_line, keep
from benchmarks.paired import TrainerStepper, environments, in_turns, machine, serve, told

SIDES = ("sleeping", "spinning", "loracle")
STEPS = {"sst2": 20, "imdb": 5, "alpaca": 4}
"""Of a side; the first does not count for speed."""


def stepper(data: str, side: str, work: Path) -> TrainerStepper:
    """The trainer of one side."""
    from benchmarks.loracle_side import trainer_on

    trainer, total = trainer_on(data, work, f"{data}-{side}")
    return TrainerStepper(trainer, lambda batch: batch.tokens, total)


def compare(data: str, beside: int, work: Path) -> dict[str, Any]:
    """Tokens a second of the three sides while so many other processes compute."""
    from benchmarks.loracle_side import write_rows

    if data != "alpaca":
        write_rows(data, work / "data")  # before three children want to
    _, ours = environments()
    bare = {k: v for k, v in ours.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    sides = {"sleeping": bare | {"OMP_WAIT_POLICY": "PASSIVE"}, "spinning": bare, "loracle": ours}
    record = work / f"waiting-{data}-{beside}.jsonl"
    with _busy(beside):
        taken = in_turns("benchmarks.waiting", sides, ["--data", data, "--work", str(work)], warm_up=1, record=record)
    others = {side: round(taken["loracle"].rate / taken[side].rate, 2) for side in SIDES if side != "loracle"}
    return {"loracle_times": others, **told(taken, "tokens")}


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    """Run the comparison and write its result beside the others."""
    parser = in_turns_line(__doc__, SIDES)
    parser.add_argument("--data", choices=tuple(STEPS), help="only this")
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "serve":
        serve(stepper(given.data, given.side, work), given.done, STEPS[given.data])
        return
    from engine.launch import WAITING

    result: dict[str, Any] = {"benchmark": "waiting", "settings": WAITING}
    for data in [given.data] if given.data else STEPS:
        for beside in (0, 1):
            result[f"{data}, {beside} beside"] = compare(data, beside, work)
    result["machine"] = machine()
    keep(result, given.output, "waiting")


if __name__ == "__main__":
    main()
