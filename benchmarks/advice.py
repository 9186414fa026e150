"""Does the advised method turn out best? Each method is trained on real rows with the settings that Loracle gives it.

    python -m benchmarks.advice [WORDS]

Every job is decided once (`loracle plan`), then trained by full fine-tuning, LoRA and QLoRA (`loracle --auto --anyway`), once
a seed, on the same rows. All are scored on the same held-out rows, and compared as `loracle compare` does. Finished runs are kept
in `--work`, so a stopped benchmark goes on. Rows come from `../shared/data`; jobs whose rows are not there are left out.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command_line import RESULTS, keep
from benchmarks.paired import machine
from engine.files import read_json
from engine.metrics import bootstrap
from engine.metrics.kept import paired
from engine.metrics.registry import kind_of
from engine.rundir import RunDirectory
from recommender.kinds import METHODS

LORACLE = [sys.executable, "-P", "-m", "tui.cli"]
HERE = Path(__file__).parent.parent
SHARED = HERE.parent / "shared" / "data"


class Job(NamedTuple):
    """Rows to learn from, and rows to score on."""

    name: str
    train: Path
    held_out: Path | int
    """A file, or how many rows of the first are held out."""
    rows: int | None = None
    """A sample of as many; `None`: all."""
    seeds: tuple[int, ...] = (1, 2)
    model: str = "demo"

    def flags(self, seed: int) -> list[str]:
        """Of any command."""
        held_out = ["--eval-rows" if isinstance(self.held_out, int) else "--eval", str(self.held_out)]
        some = [] if self.rows is None else ["--train-rows", str(self.rows)]
        return ["--model", self.model, "--data", str(self.train), *held_out, *some, "--seed", str(seed)]


SST2, IMDB, WNUT, EXAMPLES = SHARED / "sst2", SHARED / "imdb", SHARED / "wnut17", HERE / "examples"
JOBS = [
    Job("support messages, 600 rows, 6 classes", EXAMPLES / "support-train.csv", EXAMPLES / "support-heldout.csv"),
    Job("SST-2, 150 rows", SST2 / "train.tsv", SST2 / "test.tsv", 150),
    Job("SST-2, 600 rows", SST2 / "train.tsv", SST2 / "test.tsv", 600),
    Job("WNUT-17 tags, 600 sentences", WNUT / "train.conll", WNUT / "dev.conll", 600, (1,)),
    Job("SST-2, 3,000 rows", SST2 / "train.tsv", SST2 / "test.tsv", 3000, (1,)),
    Job("IMDB, 300 rows", IMDB / "train.csv", IMDB / "test.csv", 300, (1,)),
    Job("Alpaca, 150 rows, SmolLM2", SHARED / "sft" / "alpaca_en_demo.json", 60, 150, (1,), "demo-chat"),
]


def advised(job: Job) -> dict[str, Any]:
    """What a plan of the first seed recommends."""
    asked = [*LORACLE, "plan", *job.flags(job.seeds[0]), "--json", "-o", "-"]
    lines = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return {name: found[name] for name in ("verdict", "confidence", "runner_up")}


def trained(job: Job, method: str, seed: int, work: Path, assigned: list[str]) -> Path:
    """The folder of that run: a finished one, else one that goes on or begins now."""
    place = work / f"{method}-{seed}"
    there = next((f.parent for f in place.glob("*/report.json")), None)
    if there is None:
        begun = next((f.parent for f in place.glob("*/plan.yaml")), None)
        anew = ["--auto", "--anyway", "--method", method, *job.flags(seed), "--runs", str(place)]
        anew += [f"--set={assignment}" for assignment in assigned]
        what = anew if begun is None else ["resume", str(begun)]
        subprocess.run([*LORACLE, *what], check=True, stdout=subprocess.DEVNULL)
        there = next(f.parent for f in place.glob("*/report.json"))
    return there


def outcome(job: Job, work: Path, assigned: list[str]) -> dict[str, Any]:
    """What was advised, and what each method came to."""
    advice = advised(job)
    runs: dict[str, list[Path]] = {
        method: [trained(job, method, seed, work, assigned) for seed in job.seeds] for method in METHODS
    }
    reports = {method: [read_json(run / "report.json") for run in of] for method, of in runs.items()}
    plan = RunDirectory(runs["full"][0]).plan()
    kind = kind_of(plan.task, reports["full"][0]["labels"])
    found = paired(kind, [[read_json(run / "scores" / "after.json")] for of in runs.values() for run in of])
    if found is None:
        raise SystemExit(f"{job.name}: the runs were not scored on the same rows.")
    truth, answers = found
    said: dict[str, list[Any]] = {m: answers[i * len(job.seeds) : (i + 1) * len(job.seeds)] for i, m in enumerate(runs)}
    compared = bootstrap.side_by_side(kind, truth, said, plan.metric)
    methods = {}
    for method, of in reports.items():
        score = compared["methods"][method][plan.metric]
        methods[method] = {
            "score": score["mean"],
            "behind_the_best": score.get("difference"),
            "seconds": [r["seconds"]["total"] for r in of],
            "memory": max(r["memory"]["peak"] for r in of),
        }
    probe = [r["scores"].get("probe", {}).get(plan.metric) for r in reports["full"]]
    return advice | {"metric": plan.metric, "held_out": len(truth), "best": compared["best"], "methods": methods, "probe": probe}


def main() -> None:
    """Run the jobs, and keep what came out."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("words", nargs="*", metavar="WORDS", help="only jobs with them in their name")
    made.add_argument("--work", type=Path, default=Path("runs-bench/advice"))
    made.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all runs")
    options = made.parse_args()
    os.environ.setdefault("LORACLE_SAMPLES", "0")
    kept = options.output / "advice.json"
    before = read_json(kept) if kept.exists() else {}
    jobs = dict(before.get("jobs", {}))
    for job in JOBS:
        if job.train.exists() and " ".join(options.words) in job.name:
            name = "; ".join([job.name, *options.set])
            jobs[name] = outcome(job, options.work.resolve() / name.replace(" ", "-"), options.set)
            keep(before | {"benchmark": "advice", "jobs": jobs, "machine": machine()}, options.output, "advice")


if __name__ == "__main__":
    main()
