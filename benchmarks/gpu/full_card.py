"""A run that meets a card which is nearly full. It fills the card itself, so nothing else may run beside it."""

import contextlib
import csv
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.made import EXAMPLES, encoder
from benchmarks.gpu.results import Lines
from benchmarks.gpu.worker_checks import SHORT, SUPPORT, found_of, loracle, one, until
from engine import runs
from engine.events import read_events
from engine.state import FINISHED
from recommender.errors import LoracleError
from recommender.plan_file import parse

ROOM = 2_500 * 2**20
"""Bytes of the card that are left free for the run that is to run out of memory; a CUDA context takes a fifth of that."""


def run(lines: Lines, smoke: bool) -> None:
    """The one check."""
    if not smoke and lines.wanted("out-of-memory", seconds=30):
        with tempfile.TemporaryDirectory(prefix="loracle-gpu-") as folder:
            one(lines, "out-of-memory", lambda: out_of_memory(Path(folder)))


def out_of_memory(work: Path) -> dict[str, Any]:
    """A run with far too large a token budget on a card that is nearly full: it recovers, and says so."""
    import torch

    work = work / "full-card"
    work.mkdir()
    with (EXAMPLES / "support-train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    with (work / "long.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"{text} " * 15, label) for text, label in rows)])
    data = ("--data", str(work / "long.csv"), *SUPPORT[2:])

    budget = ("--set", "token_budget=200000", "--set", "effective_batch=128")
    plan = work / "plan.yaml"
    # Planned while the card is free: on a full one such a budget is refused, as it should be.
    model = encoder(work / "tiny-bert")
    planned = loracle("plan", "--model", model, *data, "--method", "full", "--anyway", *SHORT, *budget, "--output", str(plan))
    if not plan.exists():
        return {"holds": False, "said": (planned.stdout + planned.stderr)[-1500:]}
    free = torch.cuda.mem_get_info()[0]
    hog = torch.empty(max(free - ROOM, 0), dtype=torch.uint8, device="cuda")
    try:
        # Not by `loracle run`, which looks at what is free and refuses.
        run = runs.start(parse(plan.read_text(encoding="utf-8"), plan.name), None, work / "runs")
        until(lambda: run.state().status in FINISHED, 60)
        with contextlib.suppress(LoracleError):
            runs.stop(run, now=True)
    finally:
        del hog
        torch.cuda.empty_cache()
    told = list(read_events(run.events))
    recovered = [e for e in told if e["kind"] in ("recovery", "preflight")]
    cut = any(e["kind"] == "recovery" or e.get("token_budget", 200_000) < 200_000 for e in recovered)
    found = found_of(run)
    return {"holds": found.pop("sound") and cut, "recovered": recovered[:6], **found}
