"""Memory of edited steps at once, from the fit of one traced step, against a new trace of each.

    python -m benchmarks.prediction.what_if        writes results/what_if.json; only what is lacking there, or what is named

Of every step one trace is fitted; then rows, length and rank are changed. Told are the error of the peak in hundredths,
the milliseconds that the answer takes, and the sizes at which the fit says that only a trace knows; on a card also what the
allocator's replay reserves at the new size, in hundredths of it what the plan says, and whether its interval holds it.
"""

import json
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.command_line import words
from benchmarks.prediction.models import LLAMA_8B, MINILM, SMOLLM2
from engine.worker import products
from engine.worker.tracing.candidates import candidates
from recommender import fitted
from recommender.facts import Facts
from recommender.footprint import Step
from recommender.traced import as_facts, at_once

RESULTS = Path(__file__).parents[1] / "results" / "what_if.json"
CPU = {"backend": "cpu", "cpu_cores": 2, "ram_available": 32 * 10**9}
H100 = {"backend": "cuda", "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory_total": 85 * 10**9, "bf16": True}]}
STEPS: tuple[tuple[str, dict[str, Any], dict[str, Any], str, str, bool, str, int, int], ...] = (
    ("MiniLM, CPU", MINILM, CPU, "classification", "full", False, "fp32", 8, 128),
    ("MiniLM, CPU, checkpointing", MINILM, CPU, "classification", "lora", True, "fp32", 16, 256),
    ("SmolLM2, CPU", SMOLLM2, CPU, "chat", "lora", False, "fp32", 4, 256),
    ("SmolLM2, CPU, checkpointing", SMOLLM2, CPU, "chat", "full", True, "fp32", 4, 256),
    ("MiniLM, H100", MINILM, H100, "token_classification", "full", False, "bf16-mixed", 32, 128),
    ("8B, H100", LLAMA_8B, H100, "chat", "lora", False, "bf16-mixed", 4, 1024),
    ("8B, H100, checkpointing", LLAMA_8B, H100, "chat", "qlora", True, "bf16-mixed", 8, 1024),
)
EDITS = ((2, 1, 1), (1, 2, 1), (0.5, 1, 1), (1, 0.75, 1), (1, 1, 4), (1, 1, 0.5), (2, 2, 2), (1.5, 0.8, 1), (4, 1, 1))
"""Factors of rows, length and rank."""
ASKED = 200
RANK = 16


def row(name: str, config: dict[str, Any], machine: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """One step and its edits."""
    data = {"task": one["task"], "rows": 1000, "classes": 3, "tokens_total": 1000, "trained_tokens": 600}
    facts = Facts.model_validate({"machine": machine, "model": {"config": config}, "data": data})
    begun = time.process_time()
    found = candidates(facts, [one | {"fit": True}])["steps"].get(one["method"], {})
    seconds, fit = time.process_time() - begun, found.get("fit")
    profile = {"steps": [as_facts(_step(one, one["rows"], one["length"], RANK), **found)]}
    known = facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": profile})})
    edits = []
    for factors in EDITS:
        rows, length, rank = (round(f * size) for f, size in zip(factors, (one["rows"], one["length"], RANK), strict=True))
        if length > config["max_position_embeddings"]:
            continue
        settings = one["settings"] | {"max_length": length} | ({"rank": rank} if one["method"] != "full" else {})
        asked = (fit, rows, length, rank if one["method"] != "full" else 0)
        began = time.perf_counter()
        for _ in range(ASKED):
            said = fitted.at(*asked) if fit is not None else None
        milliseconds = 1000 * (time.perf_counter() - began) / ASKED
        anew = candidates(facts, [one | {"rows": rows, "length": length, "settings": settings}])["steps"][one["method"]]
        truth = anew["peak"] - anew["parts"].get("reserve", 0)
        plan = at_once(known, _step(one, rows, length, rank))
        edits.append({
            "rows": rows, "length": length, "rank": rank, "traced": truth, "milliseconds": round(milliseconds, 3),
            "error": None if said is None else round(100 * (said.peak / truth - 1), 4),
        })  # fmt: skip
        if plan is not None and "reserve" in anew["parts"]:
            off, held = round(100 * (plan.peak / anew["peak"] - 1), 2), plan.low <= anew["peak"] <= plan.high
            edits[-1] |= {"reserved": anew["peak"], "reserved_error": off, "reserved_covered": held}
    return {"step": name, "method": one["method"], "task": one["task"], "traced_and_fitted": round(seconds, 1), "edits": edits}


def _step(one: dict[str, Any], rows: int, length: int, rank: int) -> Step:
    """The step as the plan knows it, of so many rows."""
    settings = one["settings"]
    return Step(
        one["method"],
        settings["precision"],
        rank=0 if one["method"] == "full" else rank,
        micro_tokens=rows * length,
        length=length,
        gradient_checkpointing=settings["gradient_checkpointing"],
        accumulates=True,
    )


def main() -> None:
    """Every step that is not in the file, or those whose name has the words given."""
    warnings.simplefilter("ignore")
    products.take_faster()
    only = words(__doc__)
    known: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name, config, machine, task, method, checkpointing, precision, rows, length in STEPS:
        if (only and only not in name) or (not only and any(k["step"] == name for k in known)):
            continue
        settings: dict[str, Any] = {
            "learning_rate": 1e-4, "epochs": 1, "effective_batch": 64, "max_length": length, "token_budget": rows * length,
            "precision": precision, "gradient_checkpointing": checkpointing, "optimizer": "adamw",
        }  # fmt: skip
        if method != "full":
            settings |= {"rank": RANK, "alpha": 2 * RANK, "dropout": 0.0, "target_modules": "all-linear"}
        one = {"method": method, "task": task, "settings": settings, "labels": 3, "rows": rows, "length": length, "pieces": 2}
        found = row(name, config, machine, one)
        known = [*(k for k in known if k["step"] != name), found]
        RESULTS.write_text(json.dumps(known, indent=0) + "\n")
        errors = [(e["error"], e.get("reserved_error"), e.get("reserved_covered")) for e in found["edits"]]
        print(name, method, errors, max(e["milliseconds"] for e in found["edits"]), "ms", flush=True)


if __name__ == "__main__":
    main()
