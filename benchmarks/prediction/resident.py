"""Memory of the whole process on a CPU: what the plan said, what preflight tried, and what the run's peak was.

    python -m benchmarks.prediction.resident [--cells N] [--only WORDS] [--work FOLDER]

runs what is lacking in results/prediction_resident.json; where a folder is named, the runs stay there.

Every cell is a whole `loracle --auto` of its own, small enough for 3 GB: inspection, plan with its settings, training and
scores, on real models (MiniLM, SmolLM2-135M; a T5 with random weights) and a few dozen real rows. What was tried and held is from
its report; what the plan says is worked out from the facts and the advice that lie in the run folder. Resumable: a cell that is
in the file is not run again, unless machine or versions are others; one whose run is still in the folder is told anew. Needs the
chat demo's model (`make demo-chat`).
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.paired import machine
from benchmarks.prediction.score import spread
from engine import demo_chat
from engine.files import write_atomically
from engine.prediction.candidates import with_counted_steps
from recommender.edits import edited
from recommender.facts import Facts
from recommender.plan import Plan
from recommender.recommendation import Candidate

RESULTS = Path(__file__).parents[1] / "results" / "prediction_resident.json"
LORACLE = [sys.executable, "-P", "-m", "tui.cli"]
SECONDS = 900.0
ROWS, HELD_OUT = 64, 16
"""Of encoders; of decoders and T5 half as many."""
SHORT = {"max_length": "128", "token_budget": "512", "effective_batch": "16"}
"""Settings of SmolLM2's and T5's cells, that they stay small; MiniLM's, and of SmolLM2 the one that says so, are what is
advised."""
ASKED = 250
"""Characters of what pairs of answers answer, at most: that answers begin within the length."""
CELLS = {
    "MiniLM SST-2 full fp32": ("demo", "sst2", "full", "fp32", {}),
    "MiniLM SST-2 full bf16-mixed": ("demo", "sst2", "full", "bf16-mixed", {}),
    "MiniLM IMDB LoRA bf16-mixed": ("demo", "imdb", "lora", "bf16-mixed", {"max_length": "256"}),
    "MiniLM IMDB QLoRA fp32": ("demo", "imdb", "qlora", "fp32", {"max_length": "128"}),
    "MiniLM WNUT-17 full fp32": ("demo", "wnut17", "full", "fp32", {}),
    "T5 Alpaca full fp32": ("t5", "alpaca-pairs", "full", "fp32", SHORT),
    "SmolLM2 Alpaca LoRA bf16-mixed": ("demo-chat", "alpaca", "lora", "bf16-mixed", SHORT),
    "SmolLM2 DPO LoRA bf16-mixed": ("demo-chat", "dpo", "lora", "bf16-mixed", SHORT),
    "SmolLM2 raw text full bf16": ("demo-chat", "raw", "full", "bf16", SHORT),
    "SmolLM2 raw text QLoRA fp32": ("demo-chat", "raw", "qlora", "fp32", SHORT),
    "SmolLM2 SST-2 LoRA fp32": ("demo-chat", "sst2", "lora", "fp32", SHORT),
    "T5 Alpaca LoRA bf16-mixed": ("t5", "alpaca-pairs", "lora", "bf16-mixed", SHORT),
    "MiniLM WNUT-17 LoRA fp32": ("demo", "wnut17", "lora", "fp32", {}),
    "SmolLM2 Alpaca QLoRA fp32": ("demo-chat", "alpaca", "qlora", "fp32", SHORT),
    "SmolLM2 Alpaca LoRA bf16-mixed, as advised": ("demo-chat", "alpaca", "lora", "bf16-mixed", {}),
    "MiniLM WNUT-17 full fp32, many steps": ("demo", "wnut17-more", "full", "fp32", {}),
}


def rows_of(data: str, training: bool, file: Path) -> Path:
    """The first rows of a public data set, in a file as a person would have it; its path."""
    from benchmarks.recipe import _read_csv, _read_tsv, data_root

    share = 1 if data in ("sst2", "imdb", "wnut17", "wnut17-more") else 2
    first, count = (0, ROWS // share) if training else (ROWS // share, HELD_OUT // share)
    root = data_root()
    match data:
        case "sst2" | "imdb":
            side = "train" if training else "test"
            rows = _read_tsv(root / "sst2" / f"{side}.tsv") if data == "sst2" else _read_csv(root / "imdb" / f"{side}.csv")
            with (file := file.with_suffix(".csv")).open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([("text", "label"), *rows[:count]])
        case "wnut17" | "wnut17-more":
            sentences = re.split(r"\n\s*\n", (root / "wnut17" / "train.conll").read_text(encoding="utf-8"))
            first, count = (times * (2 if data == "wnut17" else 32) for times in (first, count))
            known = set(re.findall(r"\t(\S+)", "\n".join(sentences[: first or count])))
            found = [s for s in sentences[first : first + count] if known.issuperset(re.findall(r"\t(\S+)", s))]
            (file := file.with_suffix(".conll")).write_text("\n\n".join(found) + "\n", encoding="utf-8")
        case "raw":
            texts = [text.replace("<br />", " ") for text, _ in _read_csv(root / "imdb" / "train.csv")[first : first + count]]
            (file := file.with_suffix(".txt")).write_text("\n\n".join(texts) + "\n", encoding="utf-8")
        case "dpo":
            pairs = json.loads((root / "preference" / "dpo_en_demo.json").read_text(encoding="utf-8"))
            pairs = [p for p in pairs if sum(len(turn["value"]) for turn in p["conversations"]) < ASKED]
            (file := file.with_suffix(".json")).write_text(json.dumps(pairs[first : first + count]), encoding="utf-8")
        case _:
            found = json.loads((root / "sft" / "alpaca_en_demo.json").read_text(encoding="utf-8"))[first : first + count]
            if data == "alpaca-pairs":
                asked = [f"{row['instruction']} {row['input']}".strip() for row in found]
                found = [{"source": text, "target": row["output"]} for text, row in zip(asked, found, strict=True)]
            (file := file.with_suffix(".json")).write_text(json.dumps(found), encoding="utf-8")
    return file


T5 = """
import sys, torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
end = [(tokenizer.eos_token, tokenizer.eos_token_id)]
tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=end)
tokenizer.chat_template = None
tokenizer.save_pretrained(sys.argv[2])
torch.manual_seed(0)
ends = {"pad_token_id": 0, "eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": 0}
shape = {"d_model": 384, "d_kv": 64, "d_ff": 1024, "num_layers": 6, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **shape, **ends)).save_pretrained(sys.argv[2])
"""
"""28 million parameters beside a table of 49,152 words; with SmolLM2's tokenizer, which here ends every text."""


def model_of(name: str, work: Path) -> str:
    """What `--model` is given."""
    folder = work / name
    if name == "t5" and not (folder / "model.safetensors").is_file():
        subprocess.run([sys.executable, "-c", T5, str(demo_chat.folder()), str(folder)], check=True)
    return str(folder) if name == "t5" else name


def reports_of(key: str, work: Path) -> list[Path]:
    """Reports of runs of that cell that lie in the folder."""
    return sorted((work / key.replace(" ", "-")).glob("*/report.json"))


def run(key: str, work: Path) -> None:
    """One whole run.

    Raises:
        RuntimeError: it did not end well.
    """
    model, data, method, precision, settings = CELLS[key]
    files = [rows_of(data, training, work / f"{data}-{side}") for side, training in (("train", True), ("held-out", False))]
    given = {"epochs": "1", "evaluations": "1", "precision": precision} | settings
    command = [*LORACLE, "--auto", "--anyway", "--model", model_of(model, work), "--method", method]
    command += ["--data", str(files[0]), "--eval", str(files[1]), "--runs", str(work / key.replace(" ", "-"))]
    command += ["--continued-pretraining"] if data == "raw" else []
    for name, value in given.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode or not reports_of(key, work):
        raise RuntimeError(f"{key}: exit {done.returncode}\n{(done.stderr or done.stdout)[-2000:]}")


def told(folder: Path) -> dict[str, Any]:
    """Of a finished run: bytes said (with the interval), tried and held at most, and how far off the first two are."""
    from engine.rundir import RunDirectory

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    facts = Facts.model_validate_json((folder / "facts.json").read_text(encoding="utf-8"))
    plan: Plan = RunDirectory(folder).plan()
    advice = json.loads((folder / "recommendation.json").read_text(encoding="utf-8"))
    advised = next(Candidate.model_validate(c) for c in advice["candidates"] if c["method"] == plan.method)
    memory, said = report["memory"], edited(facts, advised, plan).candidate.memory
    if not said.counted:  # a busy machine had no time for it
        anew = facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": None})})
        counted = with_counted_steps(anew, lambda _: [plan], advised=False)
        said = edited(counted, advised, plan).candidate.memory
    if not said.counted:
        raise RuntimeError(f"{folder}: the step was not counted")
    return {
        **{name: getattr(said, name) for name in ("predicted", "low", "high")},
        **{name: memory[name] for name in ("probed", "peak")},
        "error": round(100 * (said.predicted / memory["peak"] - 1), 1),
        "error_of_preflight": round(100 * (memory["probed"] / memory["peak"] - 1), 1),
        "steps": report["steps"],
        "recoveries": len(report["recoveries"]),
        "seconds": round(report["seconds"]["total"], 1),
    }


def summary(cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The distribution of errors in hundredths of the peak, how many were told too little, and how many intervals hold it."""
    found = list(cells.values())
    return {
        "plan": spread([c["error"] for c in found]),
        "plan_too_low": sum(c["error"] < 0 for c in found),
        "in_the_interval": sum(c["low"] <= c["peak"] <= c["high"] for c in found),
        "above_the_interval": sum(c["peak"] > c["high"] for c in found),
        "preflight": spread([c["error_of_preflight"] for c in found]),
    }


def main() -> None:
    """Run the cells that are not in the file yet, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000, help="at most so many new ones")
    parser.add_argument("--only", default="", help="those whose key has this in it")
    parser.add_argument("--work", type=Path, help="where the runs go and stay")
    given = parser.parse_args()
    here = {name: value for name, value in machine("bitsandbytes").items() if name != "load_average"}
    content: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known: dict[str, Any] = content.get("cells", {}) if content.get("machine") == here else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        # Precision is given, so nothing is gained by trying which one is faster.
        os.environ |= {"LORACLE_STATE": str(work / "state"), "HF_HUB_OFFLINE": "1", "LORACLE_TRIAL": "0"}
        for key in (key for key in CELLS if given.only in key):
            started = time.monotonic()
            if not reports_of(key, work):
                if key in known or given.cells <= 0:
                    continue
                given.cells -= 1
                run(key, work)
            known[key] = told(reports_of(key, work)[-1].parent)
            content = {"machine": here, "summary": summary(known), "cells": known}
            write_atomically(RESULTS, json.dumps(content, indent=0) + "\n", 0o644)
            said = {name: value for name, value in known[key].items() if name.startswith("error")}
            print(f"{key}: {said} ({time.monotonic() - started:.0f} s)", flush=True)
    print(content.get("summary"))


if __name__ == "__main__":
    main()
