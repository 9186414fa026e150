"""The prediction held against the truth on a CPU: live bytes by torch's profiler, for MiniLM and SmolLM2-135M.

    python -m benchmarks.prediction.cpu [--cells N] [--only WORDS]      measures what is lacking in results/prediction_cpu.json

The same loop runs twice: on the meta device, where it is traced at a few layers and extended, and on the CPU with real (random)
weights at full depth. The truth comes from the allocator's own events, not from the trace's code. Resumable: a cell that is in
the file is not measured again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.prediction.models import MINILM, SMOLLM2
from engine.worker.tracing.truth import measured, predicted
from recommender.step import TrainingStep

RESULTS = Path(__file__).parents[1] / "results" / "prediction_cpu.json"
MODELS: dict[str, dict[str, Any]] = {"MiniLM": MINILM, "SmolLM2-135M": SMOLLM2}
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


def main() -> None:
    """Measure the cells that are not in the file yet, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="at most so many new ones")
    parser.add_argument("--only", default="", help="those whose key has this in it")
    given = parser.parse_args()
    most = given.cells
    torch.manual_seed(0)
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for key, model, step in cells():
        if key in known or most <= 0 or given.only not in key:
            continue
        most -= 1
        started = time.monotonic()
        truth, claim = measured(MODELS[model], step), predicted(MODELS[model], step)
        known[key] = {"measured": truth, "predicted": claim}
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
        errors = {p: 100 * (claim[p] / truth["phases"][p] - 1) for p in truth["phases"]}
        said = ", ".join(f"{p} {e:+.3f}%" for p, e in errors.items())
        print(f"{key}: {said} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
