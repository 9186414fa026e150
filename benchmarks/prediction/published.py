"""Figures that others measured and published, beside what `estimate` says of them.

    python -m benchmarks.prediction.published

The PEFT project's comparison of methods (github.com/huggingface/peft, method_comparison/MetaMathQA/results) on Llama-3.2-3B and
an NVIDIA L40S, torch 2.7.1, transformers 4.52.4. Told there: model, bf16 weights, fp32 adapters, batch of 4, texts of at most 768
tokens and of 210 on average (4,198,051 in 20,000 samples), AdamW of torch, no checkpointing, no autocast, and the mean and 99th
percentile of reserved memory over the steps. Not told: the lengths of each batch, whether outputs live on, what evaluations in
between leave in the allocator. So the step is predicted for the mean length and for the longest, and the published figures should
lie between.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from benchmarks.prediction.models import LLAMA_3B
from engine.worker.tracing.estimate import estimate
from recommender.facts import Facts

L40S = {"backend": "cuda", "devices": [{"name": "NVIDIA L40S", "memory_total": 48 * 10**9}]}
USUAL = {
    "micro_batch_rows": 4, "padded": True, "head": "causal_lm", "base_dtype": "bfloat16", "gradient_checkpointing": "none",
    "optimizer": "adamw", "attention": "efficient", "loss": "plain", "outputs_held": True, "outputs_rebound": True,
}  # fmt: skip
LENGTHS = {"mean": 210, "longest": 768}


def rows() -> list[dict[str, Any]]:
    """Each published figure with the predictions of its step at both lengths."""
    found = []
    for row in json.loads((Path(__file__).parent / "published.json").read_text()):
        told = {name: estimate(_facts(row["step"], length))["reserved"] for name, length in LENGTHS.items()}
        found.append(row | {"predicted": told})
    return found


def _facts(step: dict[str, Any], length: int) -> Facts:
    usual = USUAL | {"optimizer_implementation": "foreach", "length": length}
    return Facts.model_validate({"machine": L40S, "model": {"config": LLAMA_3B}, "step": usual | step})


def main() -> None:
    """Print a line a figure."""
    warnings.simplefilter("ignore")
    for row in rows():
        told = row["predicted"]
        mean, most = row["reserved_mean"] / 1e9, row["reserved_99th"] / 1e9
        print(f"{row['name']}: published mean {mean:.1f} GB, 99th percentile {most:.1f} GB;")
        for name, span in told.items():
            low, point, high = (span[end] / 1e9 for end in ("low", "predicted", "high"))
            print(f"    predicted for the {name} length: {point:.1f} GB ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
