"""The GPU benchmarks, unattended: `python -m benchmarks.gpu run --minutes 18 --out FOLDER`.

Pieces are processes of under 8 minutes each that keep every result as they get it; called again with the same folder, they
go on behind what is there. Nothing is installed and nothing is downloaded. `--smoke` is the same code on small models, on
a processor where there is no GPU. README.md beside this has the commands for a card that is lent for a quarter of an hour.
"""

import argparse
import contextlib
import fcntl
import gc
import json
import os
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu.results import Lines, machine, read_lines
from engine.launch import AS_BUILT

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
PIECES: dict[str, tuple[str, float, dict[str, str]]] = {
    "checks": ("checks", 2.0, EXPANDABLE),
    "worker-checks": ("worker_checks", 4.0, {}),
    "full-card": ("full_card", 1.5, {}),
    "speed": ("speed", 7.5, EXPANDABLE),
    "kernels": ("kernels", 2.0, {}),
    "memory": ("memory", 7.5, {}),
    "allocator": ("allocator", 1.0, {}),
    "allocator-expandable": ("allocator", 1.0, EXPANDABLE),
}
"""By name, the most telling first: module, minutes at most, environment."""


def main() -> int:
    """Run some pieces, or one in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("what", choices=("run", "piece", "gather"))
    parser.add_argument("pieces", nargs="*", help=f"of {', '.join(PIECES)}; all if none is named; NAME=MINUTES gives it less")
    parser.add_argument("--minutes", type=float, default=18.0, help="for all of them together (default 18)")
    parser.add_argument("--out", type=Path, default=Path("runs-gpu"), help="where results are kept (default runs-gpu)")
    parser.add_argument("--smoke", action="store_true", help="small models, to see that everything runs")
    given = parser.parse_args()
    named = [p.partition("=") for p in given.pieces]
    unknown = [name for name, _, _ in named if name not in PIECES]
    if unknown:
        parser.error(f"no piece is called {unknown[0]}; there are {', '.join(PIECES)}")
    wrong = [most for _, _, most in named if most and not most.replace(".", "", 1).isdigit()]
    if wrong:
        parser.error(f"{wrong[0]} is no number of minutes")
    if given.what == "piece" and len(named) != 1:
        parser.error("`piece` needs the name of one")
    out = given.out.resolve()
    if given.what == "piece":
        return piece(named[0][0], out, given.minutes, given.smoke)
    if given.what == "run":
        run(named or [(name, "", "") for name in PIECES], out, given.minutes, given.smoke)
    for name in PIECES:
        gather(name, out)
    return show(out)


def piece(name: str, out: Path, minutes: float, smoke: bool) -> int:
    """One piece in this process."""
    module = import_module(f"benchmarks.gpu.{PIECES[name][0]}")
    for library in ("transformers", "peft", "trl"):  # ten seconds that the piece before may hide
        with contextlib.suppress(ImportError):
            import_module(library)

    gc.freeze()  # what is imported stays: every collection would look through it
    out.mkdir(parents=True, exist_ok=True)
    with (out / "turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        (out / "turn").write_text(name)
        lines = Lines(out / f"{name}.jsonl", time.monotonic() + 60 * minutes)
        if name == "kernels":  # it measures what the first use of the GPU takes, so nothing may ask the GPU before
            module.run(lines, smoke)
        (out / "machine.json").write_text(json.dumps(machine() | {"smoke": smoke}), encoding="utf-8")
        if name != "kernels":
            module.run(lines, smoke)
    return 0


def run(pieces: list[tuple[str, str, str]], out: Path, minutes: float, smoke: bool) -> None:
    """The pieces after one another, each in a process of its own that is ended when its time is over.

    The next one is started early: it imports its libraries, which takes as long as many a measurement, and waits.
    """
    out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    times = {name: 60 * float(most or PIECES[name][1]) for name, _, most in pieces}
    begun: dict[str, subprocess.Popen[bytes]] = {}
    (out / "turn").write_text("")
    try:
        for place, name in enumerate(times):
            allowed = min(times[name], until - time.monotonic())
            if allowed < 10:
                print(f"{name}: no time is left", flush=True)
                break
            process = begun.get(name) or begun.setdefault(name, begin(name, times[name], out, smoke))
            while process.poll() is None and (out / "turn").read_text() != name and time.monotonic() < until:
                time.sleep(0.1)  # it must have its turn before the next one can ask for it
            for following in list(times)[place + 1 : place + 2]:
                begun[following] = begin(following, times[following], out, smoke)
            started = time.monotonic()
            try:
                said = f"exit {process.wait(min(allowed, max(until - started, 1)))}"
            except subprocess.TimeoutExpired:
                end_all_of(process)
                said = "cut off"
            print(f"{name}: {said} after {time.monotonic() - started:.0f} s", flush=True)
    finally:  # a Ctrl-C too leaves nothing behind on the card
        for process in begun.values():
            end_all_of(process)


def end_all_of(process: "subprocess.Popen[bytes]") -> None:
    """Kill a piece with all that it has started, programs and their workers in sessions of their own: they would go on beside the
    next one."""
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
    process.kill()
    process.wait()


def begin(name: str, allowed: float, out: Path, smoke: bool) -> "subprocess.Popen[bytes]":
    """The process of one piece, which waits for its turn."""
    command = [sys.executable, "-m", "benchmarks.gpu", "piece", name, "--out", str(out)]
    command += ["--minutes", str((allowed - 5) / 60), *(["--smoke"] if smoke else [])]
    # `HF_HUB_OFFLINE`: nothing here is on the hub, and looking for it would take its time.
    env = {AS_BUILT: "1"} | os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"} | PIECES[name][2]
    with (out / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=env)


def gather(name: str, out: Path) -> None:
    """The results of a piece as one JSON file."""
    lines = read_lines(out / f"{name}.jsonl")
    if not lines or not (out / "machine.json").exists():
        return
    about = json.loads((out / "machine.json").read_text(encoding="utf-8"))
    content: dict[str, Any] = {"benchmark": f"gpu {name}", "machine": about}
    if PIECES[name][0] == "memory":
        from benchmarks.gpu.models import Kind

        names = sorted({line["model"] for line in lines if "model" in line})
        content["models"] = {n: {"config": Kind(n, about["smoke"]).config().to_dict()} for n in names}
    body = ",\n".join(json.dumps(line) for line in lines)
    head = json.dumps(content, indent=1)[:-2]
    (out / f"gpu-{name}.json").write_text(f'{head},\n "results": [\n{body}\n]}}\n', encoding="utf-8")


def show(out: Path) -> int:
    """A short table; 1 if a check found something wrong."""
    wrong = 0
    for name in PIECES:
        lines = read_lines(out / f"{name}.jsonl")
        counted = Counter(line.get("result", "ok") for line in lines)
        if lines:
            print(f"{name}: {', '.join(f'{n} {result}' for result, n in counted.items())}")
        for line in lines:
            if line.get("result") in ("error", "wrong"):
                said = line.get("error") or {k: v for k, v in line.items() if k not in ("key", "result")}
                print(f"  {line['key']}: {said}"[:500])
                wrong += "checks" in name or name == "full-card"
            elif "tokens_per_second" in line and name == "speed":
                print(f"  {line['key']}: {line['tokens_per_second']:,.0f} tokens/s, {line['allocated'] / 2**30:.1f} GiB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
