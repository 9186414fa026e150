"""How long from the command to the first training step, in turns with what no program could do without.

    python -m benchmarks.first_step

MiniLM and 10,000 rows of SST-2, the model on disk. Bare: a Python that imports torch, transformers and peft, loads the model and
turns the rows into tokens. Loracle: `loracle run plan.yaml` until its first `step` event, which includes splitting,
trying the longest rows (preflight) and scoring 200 held-out rows with the untouched model. Planning comes before: `loracle plan`,
which also reads every row, traces the candidates and tries bf16, is told apart. Target: 1.25 times the bare one.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine

ROWS, HELD_OUT, ROUNDS = 10_000, 200, 5
LORACLE = [sys.executable, "-P", "-m", "tui.cli"]
BARE = """
import csv, sys
import torch, transformers, peft
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
texts = [row["text"] for row in csv.DictReader(open(sys.argv[2], encoding="utf-8"))]
AutoTokenizer.from_pretrained(sys.argv[1])(texts, truncation=True, max_length=128)
"""


def write(rows: list[tuple[str, str]], file: Path) -> Path:
    """The rows as a csv file."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    return file


def to_first_step(plan: Path, runs: Path) -> tuple[float, dict[str, float]]:
    """Seconds from the command to the first step, and the second at which each phase before it began; the run is then stopped."""
    started, clock = time.perf_counter(), time.time()
    command = [*LORACLE, "run", str(plan), "--runs", str(runs), "--json"]
    phases: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the run has no output")
        for line in process.stdout:
            event = json.loads(line)
            if event["kind"] == "phase":
                phases.setdefault(event["name"], round(event["time"] - clock, 2))
            if event["kind"] == "step":
                seconds = time.perf_counter() - started
                process.terminate()
                for _ in process.stdout:
                    pass
                return seconds, phases
    raise RuntimeError("the run ended before its first step")


def main() -> None:
    """Measure, print, and write the result beside the others."""
    from benchmarks.recipe import _read_tsv, data_root, model_path

    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    bare: list[float] = []
    ours: list[float] = []
    phases: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ |= {"LORACLE_STATE": folder, "HF_HUB_OFFLINE": "1"}
        train = write(_read_tsv(data_root() / "sst2" / "train.tsv")[:ROWS], work / "train.csv")
        held_out = write(_read_tsv(data_root() / "sst2" / "test.tsv")[:HELD_OUT], work / "held-out.csv")
        plan = work / "plan.yaml"
        asked = ["plan", "--model", "demo", "--data", str(train), "--eval", str(held_out), "--method", "full", "-o", str(plan)]
        began = time.perf_counter()
        subprocess.run([*LORACLE, *asked], check=True, stdout=subprocess.DEVNULL)
        planned = time.perf_counter() - began
        for turn in range(given.rounds + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", BARE, str(model_path()), str(train)], check=True, stderr=subprocess.DEVNULL)
            waited = time.perf_counter() - began
            seconds, seen = to_first_step(plan, work / "runs")
            if turn:  # the first round fills the disk cache
                bare.append(waited)
                ours.append(seconds)
                phases = seen
    result: dict[str, Any] = {
        "benchmark": "first_step",
        "rows": ROWS,
        "rounds": given.rounds,
        "median_seconds": {"bare": round(statistics.median(bare), 2), "loracle": round(statistics.median(ours), 2)},
        "best_seconds": {"bare": round(min(bare), 2), "loracle": round(min(ours), 2)},
        "loracle_times": round(statistics.median(ours) / statistics.median(bare), 2),
        "phases_of_the_last_round": phases,
        "planning_before": round(planned, 2),
        "machine": machine(),
    }
    keep(result, given.output, "first_step")


if __name__ == "__main__":
    main()
