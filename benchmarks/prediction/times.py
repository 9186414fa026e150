"""Seconds of a step on this CPU, predicted and measured, for MiniLM and SmolLM2-135M with random weights.

    python -m benchmarks.prediction.times [--cells N]          measures what is lacking in results/prediction_times.json
    python -m benchmarks.prediction.times --again              measures all of them anew
    python -m benchmarks.prediction.times --runs FOLDER...     how well the first ten steps of finished runs tell the others, and
                                                               what the time left was said to be after 10, 20 and 50 of them

Measured is the processor time of the engine's own step over the number of threads, the median of the steps after the first two:
what the step would take if nobody else computed here. Predicted is the traced step, each kind of its operations run here once
(`engine.worker.tracing.timed`), and half as much again for the host: that was taken from the first four cells, the others were
not looked at for it. To be run with the environment of Loracle's worker (`engine.launch`): how threads wait is in both. Runs are
told by the wall clock, as a person sees them, on a machine that may be busy.
"""

import argparse
import json
import time
import warnings
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from benchmarks.prediction.models import MINILM, SMOLLM2
from benchmarks.prediction.score import spread
from engine.events import read_events
from engine.state import RunState
from engine.worker.tracing import own
from engine.worker.tracing.candidates import _plan
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.timed import Calls
from engine.worker.tracing.trace import trace
from recommender.timing import HOST

RESULTS = Path(__file__).parents[1] / "results" / "prediction_times.json"
MODELS: dict[str, dict[str, Any]] = {"MiniLM": MINILM, "SmolLM2-135M": SMOLLM2}
CELLS = [
    ("MiniLM", "classification", method, rows, length, precision, checkpointing)
    for method in ("full", "lora")
    for rows, length in ((16, 32), (8, 128), (4, 256))
    for precision in ("fp32", "bf16-mixed")
    for checkpointing in ((False, True) if (rows, length, precision) == (8, 128, "fp32") else (False,))
] + [
    ("SmolLM2-135M", "chat", method, rows, length, precision, False)
    for method in ("full", "lora")
    for rows, length in ((4, 64), (1, 256))
    for precision in ("fp32", "bf16-mixed")
]
STEPS = 7
PROBED = 10
"""Steps of a run after which the others are told."""
FEWEST = 30
ASKED = (10, 20, 50)
"""Steps after which the time left is looked at."""


class Clock:
    """Notes when each phase began, in processor time."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float, float]] = []

    def phase(self, name: str) -> None:
        """What follows belongs to that phase."""
        self.begun.append((name, time.process_time() / torch.get_num_threads(), time.perf_counter()))

    def empty_cache(self) -> None:
        """A CPU has none."""


def measured(config: dict[str, Any], plan: Any, rows: int, length: int) -> tuple[float, float]:
    """Seconds of a step: by processor time, and by the clock."""
    clock = Clock()
    with mock.patch.object(own, "STEPS", STEPS):
        own.OwnLoop(config, plan, clock, lengths=[length] * rows, layers=None, workspace=0, learned=0.7, device="cpu").run()
    begins = [(cpu, wall) for name, cpu, wall in clock.begun if name.endswith("forward")]
    took = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(begins)][2:]
    return median(cpu for cpu, _ in took), median(wall for _, wall in took)


def cell(model: str, task: str, method: str, rows: int, length: int, precision: str, checkpointing: bool) -> dict[str, Any]:  # noqa: PLR0917
    """One step, both ways."""
    config = MODELS[model]
    settings: dict[str, Any] = {
        "learning_rate": 1e-4, "epochs": 1, "effective_batch": rows, "max_length": length, "token_budget": rows * length,
        "precision": precision, "gradient_checkpointing": checkpointing, "optimizer": "adamw",
    }  # fmt: skip
    settings |= {} if method == "full" else {"rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
    plan = _plan({"method": method, "task": task, "settings": settings, "labels": 3})
    given: dict[str, Any] = {"lengths": [length] * rows, "layers": None, "workspace": 0, "learned": 0.7}
    calls, begun = Calls(), time.process_time()
    trace(lambda live: own.OwnLoop(config, plan, live, **given), Card("cpu"), calls=calls)
    operations = sum(s for phase, s in (calls.seconds() or {}).items() if phase != "evaluation")
    seconds = HOST * operations
    needed = time.process_time() - begun
    took, wall = measured(config, plan, rows, length)
    error = round(100 * (seconds / took - 1), 1)
    told = {"operations": operations, "predicted": seconds, "measured": took, "wall": wall}
    return told | {"error": error, "told_in": round(needed, 1)}


def told_by_ten(folder: Path) -> dict[str, Any] | None:
    """Of a finished run: how far off its first steps' pace is for all others, by tokens; `None` where it is too short."""
    lines = [line for line in (folder / "events.jsonl").read_text().splitlines() if line.endswith("}")]
    steps = [event for event in map(json.loads, lines) if event["kind"] == "step"]
    written = (folder / "plan.yaml").read_text().splitlines()
    plan = dict(line.split(":", 1) for line in written if line[:1].isalpha() and ":" in line)
    if len(steps) < FEWEST or any(b["step"] <= a["step"] for a, b in pairwise(steps)):
        return None
    first, others = steps[:PROBED], steps[PROBED:]
    pace = sum(s["seconds"] for s in first) / sum(s["tokens"] for s in first)
    took = sum(s["seconds"] for s in others)
    error = 100 * (pace * sum(s["tokens"] for s in others) / took - 1)
    about = {name: plan[name].strip() for name in ("task", "method", "precision") if name in plan}
    return about | {"steps": len(steps), "seconds": round(took, 1), "error": round(error, 1)}


def told_left(folder: Path) -> dict[str, Any] | None:
    """What a finished run said of the time left, to its very end, after some steps; `None` where nothing was said.

    Seconds said and true, by step. The run is folded again event by event, as whoever watched it did.
    """
    state, asked, last = RunState(), {}, None
    for last in read_events(folder / "events.jsonl"):
        state.apply(last)
        if last["kind"] == "step" and state.step in ASKED:
            asked[state.step] = (state.seconds_left, last["time"])
    if last is None or last["kind"] != "end" or state.status != "done":
        return None
    said = {step: [round(left, 1), round(last["time"] - at, 1)] for step, (left, at) in asked.items() if left is not None}
    return {"run": folder.name, "steps": state.step, "left": said} if said else None


def main() -> None:
    """Measure what is lacking, or look at runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="at most so many new ones")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="folders of finished runs")
    parser.add_argument("--again", action="store_true", help="forget the cells that were measured")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if given.again:
        known["cells"] = {}
    cells: dict[str, Any] = known.setdefault("cells", {})
    for one in CELLS:
        key = " ".join(map(str, one[:5])) + f" {one[5]}" + (" checkpointing" if one[6] else "")
        if key in cells or len(given.runs) or given.cells <= 0:
            continue
        given.cells -= 1
        cells[key] = cell(*one)
        print(key, cells[key], flush=True)
        known["before"] = spread([c["error"] for c in cells.values()])
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
    if given.runs:
        found = [told for folder in given.runs if (told := told_by_ten(folder)) is not None]
        left = [told for folder in given.runs if (told := told_left(folder)) is not None]
        known |= {"runs": found, "after": spread([r["error"] for r in found]), "left": left}
        for told in left:
            print(told)
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
    print({name: known[name] for name in ("before", "after") if name in known})


if __name__ == "__main__":
    main()
