"""The prediction held against the truth on a CPU: live bytes by torch's profiler, for MiniLM and SmolLM2-135M.

    python -m benchmarks.prediction.cpu [--cells N] [--only WORDS]      measures what is lacking in results/prediction_cpu.json

The same loop runs twice: on the meta device, where it is traced at a few layers and extended, and on the CPU with real (random)
weights at full depth. The truth comes from the allocator's own events, not from the trace's code. Every cell has a process of
its own, so its `resident_set` is the most that this very step held. Resumable: a cell that is in the file is not measured again,
unless machine or versions are others; where the code that predicts is newer, it is predicted anew.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.paired import machine
from benchmarks.prediction.models import MINILM, SMOLLM2
from benchmarks.prediction.score import spread
from engine.files import write_atomically
from engine.installed import own_code
from engine.worker.tracing.truth import PHASES, measured, predicted
from recommender.step import TrainingStep

RESULTS = Path(__file__).parents[1] / "results" / "prediction_cpu.json"
MODELS: dict[str, dict[str, Any]] = {"MiniLM": MINILM, "SmolLM2-135M": SMOLLM2}
FAR = 0.3
"""Hundredths: phases that are further off are named in the summary."""


def cells() -> Iterator[tuple[str, str, TrainingStep]]:
    """(key, model, step) of every cell."""
    shapes = {
        "MiniLM": ((8, 64), (4, 128), (16, 128), (4, 256)),
        "SmolLM2-135M": ((2, 64), (4, 64), (2, 128), (1, 256), (4, 128)),
    }
    for model, heads in (("MiniLM", "classification"), ("SmolLM2-135M", "causal_lm")):
        for method in ("full", "lora", "qlora"):
            for rows, length in shapes[model]:
                for checkpointing in ("none", "layer"):
                    for precision in ("fp32", "bf16", "autocast"):
                        if method == "qlora" and precision == "autocast":
                            continue
                        yield _cell(model, heads, method, rows, length, checkpointing, precision, "plain")
    for model, heads, method in (
        ("MiniLM", "classification", "full"),
        ("MiniLM", "classification", "lora"),
        ("MiniLM", "tagging", "full"),
        ("SmolLM2-135M", "causal_lm", "lora"),
        ("SmolLM2-135M", "causal_lm", "full"),
    ):
        for checkpointing in ("none", "layer"):
            yield _cell(model, heads, method, 4, 96, checkpointing, "fp32", "chunked")


def _cell(  # noqa: PLR0917 - read as the key is written
    model: str, head: str, method: str, rows: int, length: int, checkpointing: str, precision: str, loss: str
) -> tuple[str, str, TrainingStep]:
    key = f"{model} {head} {method} {rows}x{length} {checkpointing} {precision} {loss}"
    adapters = {"rank": 16, "lora_dropout": 0.0, "adapter_dtype": "float32", "target_modules": "all-linear"}
    quantised = {"quantization": "nf4", "double_quantization": True, "kbit_prepared": True}
    content: dict[str, Any] = {
        "method": method, "micro_batch_rows": rows, "length": length, "padded": False, "head": head, "labels": 3,
        "base_dtype": "bfloat16" if precision == "bf16" else "float32",
        "autocast": "bfloat16" if precision == "autocast" else None,
        "optimizer": "adamw", "optimizer_implementation": "single", "gradient_checkpointing": checkpointing, "loss": loss,
        "outputs_held": False,
    }  # fmt: skip
    content |= adapters if method != "full" else {}
    content |= quantised if method == "qlora" else {}
    return key, model, TrainingStep.model_validate(content)


def errors_of(cell: dict[str, Any]) -> dict[str, float]:
    """By phase, in hundredths of what was measured; negative where too little was predicted."""
    truth, claim = cell["measured"]["phases"], cell["predicted"]
    return {p: 100 * (claim[p] / truth[p] - 1) for p in PHASES if p in truth and p in claim}


def summary(cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The distribution of the errors of phases and of peaks (those of training), and each phase that is more than 0.3 off."""
    of_cells = {key: errors_of(cell) for key, cell in cells.items()}
    peaks = []
    for cell in cells.values():
        truth, claim = cell["measured"]["phases"], cell["predicted"]
        phases = [p for p in truth if p != "evaluation"]
        peaks.append(100 * (max(claim[p] for p in phases) / max(truth[p] for p in phases) - 1))
    told = {f"{key}: {p}": round(e, 3) for key, found in of_cells.items() for p, e in found.items() if abs(e) > FAR}
    return {
        "cells": len(cells),
        "peaks": spread(peaks),
        "phases": {p: spread(found) for p in PHASES if (found := [e[p] for e in of_cells.values() if p in e])},
        "far": told,
    }


def _one(key: str, truth: dict[str, Any] | None) -> dict[str, Any]:
    """In a process of its own: what was measured of a cell, unless that is known, and what is predicted."""
    torch.manual_seed(0)
    model, step = next((model, step) for name, model, step in cells() if name == key)
    truth = truth or measured(MODELS[model], step)
    return {"measured": truth, "predicted": predicted(MODELS[model], step)}


def main() -> None:
    """Measure the cells that are not in the file yet, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="at most so many new ones")
    parser.add_argument("--only", default="", help="those whose key has this in it")
    given = parser.parse_args()
    here = {name: value for name, value in machine("bitsandbytes").items() if name != "load_average"}
    content: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known: dict[str, Any] = content.get("cells", {}) if content.get("machine") == here else {}
    content, code = {"machine": here, "summary": {}, "cells": known}, own_code()[:12]
    most = given.cells
    for key, _, _ in cells():
        cell = known.get(key, {})
        if cell.get("code") == code or most <= 0 or given.only not in key:
            continue
        most -= 1
        started = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as process:
            known[key] = process.submit(_one, key, cell.get("measured")).result() | {"code": code}
        content["summary"] = summary(known)
        write_atomically(RESULTS, json.dumps(content, indent=0) + "\n", 0o644)
        said = ", ".join(f"{p} {e:+.3f}%" for p, e in errors_of(known[key]).items())
        print(f"{key}: {said} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
