"""Seconds of a step on this CPU, predicted and measured, for MiniLM and SmolLM2-135M with random weights.

    python -m benchmarks.prediction.times [--cells N]          measures what is lacking in results/prediction_times.json
    python -m benchmarks.prediction.times --again              measures all of them anew
    python -m benchmarks.prediction.times --runs FOLDER...     of finished runs: how well the plan, and the first ten steps, told
                                                               the others, and what the time left was said to be after 10, at
                                                               a quarter and at half of them; `--look` keeps nothing

`--busy` keeps either apart, as measured on a machine that others used.

Measured is the engine's own step, the median of those after the first two, by the clock and by the processor time of the thread
that takes it, which a busy machine leaves alone. Predicted is the traced step, each kind of its operations run here
(`engine.worker.tracing.timed`), and what Python, autograd and cold caches add: two numbers that were fitted to such cells. Both
are computed as a worker computes: in its environment, by its products. Runs are told by the wall clock, as a person sees them,
and by processor time over the number of threads.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.paired import machine
from benchmarks.prediction.models import MINILM, SMOLLM2
from benchmarks.prediction.score import spread
from engine.events import Event, read_events
from engine.launch import arithmetic
from engine.pace import PROBED
from engine.rundir import RunDirectory
from engine.state import RunState
from engine.worker import products
from engine.worker.took import Step, steps_of
from engine.worker.tracing import own
from engine.worker.tracing.candidate import plan_of
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.timed import Calls, starting
from engine.worker.tracing.trace import trace
from engine.worker.training import advised
from recommender import timing
from recommender.edits import edited
from recommender.shape import shape_of
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
FEWEST = 20
SHARES = (0.25, 0.5)
"""Of its steps, those after which a run's time left is looked at, beside the first ten."""
PARTS = ("preflight", "reference", "before", "answers", "samples", "train", "evaluate", "fit", "after", "probe")
"""Phases of a run that are told apart."""
CLOCKS: dict[str, Callable[[Step], float]] = {"clock": attrgetter("seconds"), "computed": lambda step: step.computed or 0.0}


class Clock:
    """Notes when each phase began, in processor time of the thread."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float, float]] = []

    def phase(self, name: str) -> None:
        """What follows belongs to that phase."""
        self.begun.append((name, time.thread_time(), time.perf_counter()))

    def empty_cache(self) -> None:
        """A CPU has none."""


def measured(config: dict[str, Any], plan: Any, rows: int, length: int) -> tuple[float, float]:
    """Seconds of a step: by processor time, and by the clock."""
    clock = Clock()
    given: dict[str, Any] = {"lengths": [length] * rows, "layers": None, "workspace": 0, "learned": 0.7, "steps": STEPS}
    own.OwnLoop(config, plan, clock, **given, device="cpu").run()
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
    plan = plan_of({"method": method, "task": task, "settings": settings, "labels": 3})
    given: dict[str, Any] = {"lengths": [length] * rows, "layers": None, "workspace": 0, "learned": 0.7}
    calls, begun = Calls(), time.process_time()
    trace(lambda live: own.OwnLoop(config, plan, live, **given), Card("cpu"), calls=calls)
    operations = sum(s for phase, s in (calls.seconds() or {}).items() if phase != "evaluation")
    starts = sum(n for phase, n in calls.starts().items() if phase != "evaluation")
    seconds = HOST * operations + starting() * starts
    needed = time.process_time() - begun
    took, wall = measured(config, plan, rows, length)
    error = round(100 * (seconds / took - 1), 1)
    told = {"operations": operations, "starts": starts, "predicted": seconds, "measured": took, "wall": wall}
    return told | {"error": error, "told_in": round(needed, 1)}


def told_by_ten(steps: list[Step], report: dict[str, Any]) -> dict[str, float]:
    """How far off the plan's step is for all steps, and the pace of the first ten for all others, by tokens.

    By the clock, and by what the processors computed: a machine that others use adds nothing to that.
    """
    first, others = steps[1:PROBED], steps[PROBED:]
    off = {}
    for name, of in CLOCKS.items():
        told, took = (sum(of(step) for step in some) for some in (first, others))
        seen, left = (sum(step.tokens for step in some) for some in (first, others))
        if told and took and seen:
            off[name] = round(100 * (told / seen * left / took - 1), 1)
    said = report.get("predicted")
    for name, known in (("clock", report.get("measured")), ("computed", report.get("computed"))):
        if said and known:
            off[f"plan, {name}"] = round(100 * (said / known - 1), 1)
    return off


def undisturbed(events: list[Event], threads: int) -> list[Event]:
    """The log of a run as it were, had its threads computed all the time: every moment and every `seconds` by processor time.

    A machine that others use adds nothing then; nor does the disk, or one thread that waits for another.
    """
    clock, computed = ([float(event[name]) for event in events if "processor" in event] for name in ("monotonic", "processor"))

    def at(moment: float) -> float:
        return float(np.interp(moment, clock, computed)) / threads

    found = []
    for event in events:
        now = _moment(event)
        told = dict(event) | {"monotonic": at(now), "time": at(now)}
        inside = dict(event["metrics"]) if event["kind"] == "evaluation" else told
        if isinstance(inside.get("seconds"), float):
            inside["seconds"] = at(now) - at(now - inside["seconds"])
        found.append(told | ({"metrics": inside} if event["kind"] == "evaluation" else {}))
    return found


def told_left(events: list[Event], ends: int) -> dict[str, list[float]]:
    """What a run said of the time left, to its very end, at some of its steps: seconds said and true.

    The run is folded again event by event, as whoever watched it did.
    """
    state = RunState()
    said: dict[str, list[float]] = {}
    moments = {10: "after 10"} | {max(round(share * ends), PROBED + 1): f"at {share:.0%}" for share in SHARES}
    for event in events:
        state.apply(event)
        left = state.seconds_left if event["kind"] == "step" and state.step in moments else None
        if left is not None:
            said[moments[state.step]] = [round(left, 1), round(_moment(events[-1]) - _moment(event), 1)]
    return said


def by_phase(folder: Path, events: list[Event]) -> dict[str, list[float]]:
    """Seconds that each part of a run is told to take by what is installed now, and those that it took.

    Answers and samples are those before and after together; `load` is all that has no part of its own.
    """
    took: dict[str, float] = {}
    part, before, trained = "load", _moment(events[0]), False
    for event in events:
        took[part] = took.get(part, 0.0) + _moment(event) - before
        before = _moment(event)
        match event["kind"]:
            case "phase":
                name = str(event["name"])
                trained = trained or name == "save"
                part = "fit" if name == "after" and not trained else name
                part = part if part in PARTS else "load"
            case "checkpoint":
                took[part] -= event["seconds"]
                took["checkpoint"] = took.get("checkpoint", 0.0) + event["seconds"]
            case "evaluation" if event["split"] in ("after", "probe"):
                part = "load"
    run = RunDirectory(folder)
    found = advised(run, run.plan().method)
    assert found is not None
    own, facts = edited(*found, run.plan()).candidate, found[0]
    told = timing.by_phase(facts, shape_of(facts.model, facts.data.task), own.method, own.settings)
    return {name: [round(told.get(name, 0.0), 1), round(took.get(name, 0.0), 1)] for name in told | took}


def _moment(event: Event) -> float:
    return float(event["monotonic"])


def finished(folder: Path) -> dict[str, Any] | None:
    """What a finished run said, and what was true; `None` of one that was too short, did not end or was resumed.

    What was said of the time left counts only where no early stopping came between.
    """
    events = list(read_events(folder / "events.jsonl"))
    steps, of_run = list(steps_of(events)), [e for e in events if e["kind"] == "run"]
    if len(steps) < FEWEST or len(of_run) != 1 or events[-1].get("status") != "done":
        return None
    about, report = of_run[0], json.loads((folder / "report.json").read_text())
    told = {"run": folder.name, "method": about["method"], "precision": about["precision"], "steps": len(steps)}
    step = told_by_ten(steps, report.get("step") or {})
    threads = (json.loads((folder / "facts.json").read_text()).get("machine") or {}).get("cpu_cores") or 1
    alone = undisturbed(events, threads)
    whole = report["steps"] == report["total_steps"]
    logs = {"left": events, "left, computed": alone} if whole else {}
    said = (report.get("seconds") or {}).get("predicted")
    lasted = {name: _moment(log[-1]) - _moment(log[0]) for name, log in (("clock", events), ("computed", alone))}
    off = {name: round(100 * (said / took - 1), 1) for name, took in lasted.items()} if said and whole else {}
    return told | {"task": RunDirectory(folder).plan().task, "step": step, "whole": off} | {
        name: told_left(log, len(steps)) for name, log in logs.items()
    } | {"phases": by_phase(folder, events), "phases, computed": by_phase(folder, alone)}


def scores(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Errors in hundredths over all runs: of a step, and of the time left."""
    off: dict[str, list[float]] = {}
    for told in runs:
        for of in ("step", "whole"):
            for name, error in told[of].items():
                off.setdefault(f"{of}, {name}", []).append(error)
        for of in ("left", "left, computed"):
            for name, both in told.get(of, {}).items():
                off.setdefault(f"{of}, {name}", []).append(round(100 * (both[0] / max(both[1], 0.1) - 1), 1))
    return {name: spread(errors) for name, errors in sorted(off.items())}


def main() -> None:
    """Measure what is lacking, or look at runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="at most so many new ones")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="folders that hold finished runs")
    parser.add_argument("--busy", action="store_true", help="on a machine that others used meanwhile")
    parser.add_argument("--look", action="store_true", help="print what the runs say and keep nothing")
    parser.add_argument("--again", action="store_true", help="forget the cells that were measured")
    given = parser.parse_args()
    environment = os.environ | arithmetic()
    if environment != dict(os.environ):  # libraries read it once, when they are loaded
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.prediction.times", *sys.argv[1:]], environment)
    products.take_faster()
    warnings.simplefilter("ignore")
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept: dict[str, Any] = known.setdefault("busy", {}) if given.busy else known
    if given.again:
        kept["cells"] = {}
    cells: dict[str, Any] = kept.setdefault("cells", {})
    for one in CELLS:
        key = " ".join(map(str, one[:5])) + f" {one[5]}" + (" checkpointing" if one[6] else "")
        if key in cells or len(given.runs) or given.cells <= 0:
            continue
        given.cells -= 1
        cells[key] = cell(*one)
        print(key, cells[key], flush=True)
        kept |= {"machine": machine("bitsandbytes"), "before": spread([c["error"] for c in cells.values()])}
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
    if given.runs:
        folders = sorted({file.parent for root in given.runs for file in root.rglob("events.jsonl")})
        kept["runs"] = [told for folder in folders if (told := finished(folder)) is not None]
        kept["machine_of_runs"] = machine("bitsandbytes")
        for told in kept["runs"]:
            print(told)
        kept["after"] = scores(kept["runs"])
        if not given.look:
            RESULTS.write_text(json.dumps(known, indent=0) + "\n")
    for of in (known, known.get("busy", {})):
        print("before any run:", of.get("before"))
        for name, errors in of.get("after", {}).items():
            print(name, errors)


if __name__ == "__main__":
    main()
