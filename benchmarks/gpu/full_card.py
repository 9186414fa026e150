"""A run that meets a card which is nearly full. It fills the card itself, so nothing else may run beside it."""

import csv
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import Lines
from benchmarks.gpu.worker_checks import EXAMPLES, SHORT, SUPPORT, auto, one
from engine.events import read_events

ROOM = 2_500 * 2**20
"""Bytes of the card that are left free for the run that is to run out of memory; a CUDA context takes a fifth of that."""


def run(lines: Lines, smoke: bool) -> None:
    """The one check."""
    if not smoke and lines.wanted("out-of-memory", seconds=15):
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

    free = torch.cuda.mem_get_info()[0]
    hog = torch.empty(max(free - ROOM, 0), dtype=torch.uint8, device="cuda")
    try:
        budget = ("--set", "token_budget=200000", "--set", "effective_batch=128")
        found = auto(work, "full", "demo", data, (*SHORT, *budget))
    finally:
        del hog
        torch.cuda.empty_cache()
    made = sorted(work.glob("*/*/events.jsonl"))
    recovered = [e for file in made for e in read_events(file) if e["kind"] == "recovery"]
    return found | {"holds": found["holds"] and bool(recovered), "recovered": recovered[:6]}
