"""The hand-written recipe against Loracle's full fine-tune: same model, same rows, same machine, same run.

    python -m benchmarks.seed_recipe speed --data imdb        rows a second, 30 optimizer steps a side
    python -m benchmarks.seed_recipe accuracy --data imdb     held-out accuracy after 3 epochs (resumable, long)

Speed: three processes are made ready, then take one optimizer step each in turn, the order rotating, so that whatever
else the machine does falls on all of them alike: the recipe as it is, Loracle in its worker's environment, and the
recipe in that same environment, which separates the allocator from the rest.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

STEPS = 30
WARM_UP = 2
"""Steps before the clock starts: threads, caches and optimizer states come into being in them."""
SIDES = ("recipe", "loracle", "recipe_same_allocator")


def stepper(side: str, data: str, work: Path) -> Any:
    """Something with `step() -> rows`."""
    if side == "loracle":
        from benchmarks.loracle_side import LoracleStepper, plan_for_benchmark

        return LoracleStepper(plan_for_benchmark(data, 1, work), work / "loracle")
    from benchmarks.recipe import RecipeStepper, build

    return RecipeStepper(build(data, 1, work / side))


def serve(side: str, data: str, work: Path) -> None:
    """A child: a line on stdin asks for one step, a line on stdout answers with its rows and seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    ready = stepper(side, data, work)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        rows = ready.step()
        print(json.dumps([rows, time.perf_counter() - started]), file=answers, flush=True)


def speed(data: str, work: Path) -> dict[str, Any]:
    """Rows a second of each side, and the ratios to the recipe."""
    from engine.launch import environment

    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    ours = environment()
    plain["OMP_NUM_THREADS"] = ours["OMP_NUM_THREADS"]
    plain["HF_HUB_OFFLINE"] = "1"
    here = str(Path(__file__).resolve().parents[1])
    children = {
        side: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.seed_recipe", "serve", side, "--data", data, "--work", str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=here,
            env=plain if side == "recipe" else ours,
        )
        for side in SIDES
    }
    for child in children.values():
        if child.stdout is None or child.stdout.readline().strip() != "ready":
            raise RuntimeError("a side did not start; its messages stand above")
    taken: dict[str, list[tuple[int, float]]] = {side: [] for side in SIDES}
    for turn in range(WARM_UP + STEPS):
        order = SIDES[turn % len(SIDES) :] + SIDES[: turn % len(SIDES)]
        for side in order:
            rows, seconds = _one_step(children[side])
            if turn >= WARM_UP:
                taken[side].append((rows, seconds))
        print(f"turn {turn + 1} of {WARM_UP + STEPS}", file=sys.stderr, flush=True)
    for child in children.values():
        child.terminate()
    rates = {side: sum(r for r, _ in t) / sum(s for _, s in t) for side, t in taken.items()}
    return {
        "benchmark": "seed_recipe speed",
        "data": data,
        "steps_a_side": STEPS,
        "rows_per_second": {side: round(rate, 2) for side, rate in rates.items()},
        "median_seconds_a_step": {side: round(statistics.median(s for _, s in t), 3) for side, t in taken.items()},
        "times_the_recipe": round(rates["loracle"] / rates["recipe"], 2),
        "times_the_recipe_same_allocator": round(rates["loracle"] / rates["recipe_same_allocator"], 2),
        "machine": machine(),
    }


def _one_step(child: "subprocess.Popen[str]") -> tuple[int, float]:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    print("step", file=child.stdin, flush=True)
    rows, seconds = json.loads(child.stdout.readline())
    return int(rows), float(seconds)


def accuracy(data: str, seeds: list[int], work: Path) -> dict[str, Any]:
    """Held-out accuracy of both sides after 3 epochs; finished parts are kept in `work` and not repeated."""
    results: dict[str, list[dict[str, Any]]] = {"recipe": [], "loracle": []}
    for seed in seeds:
        for side, found in results.items():
            one = ["--side", side, "--data", data, "--seed", str(seed), "--work", str(work)]
            subprocess.run([sys.executable, "-m", "benchmarks.accuracy", *one], check=True, stdout=subprocess.DEVNULL)
            found.append(json.loads((work / f"{side}-{data}-{seed}.json").read_text(encoding="utf-8")))
    means = {side: statistics.fmean(r["accuracy"] for r in found) for side, found in results.items()}
    return {
        "benchmark": "seed_recipe accuracy",
        "data": data,
        "seeds": seeds,
        "mean_accuracy": {side: round(mean, 4) for side, mean in means.items()},
        "runs": results,
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    from engine.inspect import inspect_machine

    here = inspect_machine()
    names = ("torch", "transformers", "accelerate", "peft", "tokenizers")
    return {
        "cpu": here.cpu_name,
        "cores": here.cpu_cores,
        "gpu": [d.name for d in here.devices],
        "memory": here.ram_total,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def main() -> None:
    """Run one benchmark and write its result beside the earlier ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "accuracy", "serve"))
    parser.add_argument("side", nargs="?", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--data", choices=("imdb", "sst2"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--work", type=Path, default=Path("runs-bench"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "serve":
        serve(given.side, given.data, work)
        return
    result = speed(given.data, work) if given.what == "speed" else accuracy(given.data, given.seeds, work)
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / f"seed_recipe-{given.what}-{given.data}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k not in ("runs", "machine")}, indent=1))


if __name__ == "__main__":
    main()
