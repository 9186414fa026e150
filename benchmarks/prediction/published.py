"""Figures that others measured and published, beside what `estimate` says of them: `published.json`.

    python -m benchmarks.prediction.published [WORDS]        writes results/published.json; only what is lacking, or what is named

Each row says where it is from, what is told there and what is not. What is not told is traced with every value it may have, as
`estimate` does for any facts; where the length is not told, with the shortest and the longest. Nothing was fitted to these. A
published figure counts as met where the interval holds it, or, where it is told as a range, meets the range.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.prediction import models
from engine.worker.tracing.estimate import estimate
from recommender.facts import Facts

HERE = Path(__file__).parent
FILES = ("published.json", "published_times.json")
"""Memory, and seconds of a step."""
RESULTS = HERE.parent / "results" / "published.json"


def predicted(row: dict[str, Any]) -> dict[str, float]:
    """Least, most and the middle of what the step may take, by the measure of the row, in bytes."""
    machine = {"backend": "cuda", "devices": [{"name": row["card"], "memory_total": 80 * 10**9}]}
    measured = {"memory_profile": {"context": row["context"]}} if "context" in row else {}
    found = []
    for length in row["lengths"]:
        facts = {"machine": machine, "model": {"config": getattr(models, row["model"])}, "measured": measured}
        told = estimate(Facts.model_validate(facts | {"step": row["step"] | {"length": length}}))
        found.append(told[row["measure"]])
    points = [span["predicted"] for span in found]
    return {"predicted": sum(points) / len(points), "low": min(s["low"] for s in found), "high": max(s["high"] for s in found)}


def main() -> None:
    """Predict what is lacking, and print the table."""
    warnings.simplefilter("ignore")
    only = " ".join(sys.argv[1:])
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for row in [row for file in FILES for row in json.loads((HERE / file).read_text())]:
        key = f"{row['source']}: {row['name']}" + (", time" if row["measure"] == "seconds_per_step" else "")
        if (only and only in key) or key not in known:
            told = predicted(row)
            least, most = row["published"]
            middle = (least + most) / 2
            known[key] = told | {
                "published": row["published"],
                "error": round(100 * (told["predicted"] / middle - 1), 1),
                "inside": told["low"] <= most and least <= told["high"],
            }
            RESULTS.write_text(json.dumps(known, indent=0) + "\n")
        found = known[key]
        unit, digits = (1.0, 2) if row["measure"] == "seconds_per_step" else (1e9, 1)
        span, published = (f"{found[end] / unit:.{digits}f}" for end in ("low", "high")), sum(found["published"]) / 2 / unit
        print(f"| {row['source']} | {row['name']} | {row['measure']} | {published:.{digits}f} | "
              f"{found['predicted'] / unit:.{digits}f} "
              f"({' to '.join(span)}) | {'yes' if found['inside'] else 'no'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
