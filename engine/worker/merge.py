"""The child that merges: `python -P -m engine.worker.merge RUN FOLDER PARENT` writes the base with the adapter in its weights.

It ends once the process with the id PARENT is its parent no longer. It says `{"doing": PHASE}` a line, and at the end
`{"merged": {...}}`, or `{"error": SENTENCE, "exit": CODE}`.
"""

import glob
import json
import math
import os
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from safetensors import SafetensorError, safe_open

from engine.files import disk_free, folder_size, read_json, sync_files, sync_folder, write_atomically, write_json
from engine.inspection.model import inspect_folder, is_another
from engine.loading import split
from engine.merging import memory_needed, part_of
from engine.processes import answers, leave_with
from engine.rundir import RunDirectory
from engine.text import one_line
from engine.worker import card, export
from engine.worker.batches import padded
from engine.worker.budget import give_back, is_out_of_memory
from engine.worker.memory import memory_available
from engine.worker.modeling import model_folder
from engine.worker.tasks.base import Task
from engine.worker.tasks.registry import task_of
from recommender.errors import Exit, InputError, LoracleError, Refused
from recommender.facts import CLASSIFYING, Family
from recommender.facts import Task as PlanTask
from recommender.figures import size
from recommender.footprint import BESIDE_WEIGHTS
from recommender.plan import Plan

ROWS, TOKENS = 16, 128
"""Rows that both models read at the end, and tokens of each."""
TOLERANCE = 1e-3
"""Of the largest output: what another order of sums in fp32 changes."""
TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""As safetensors call them."""
Say = Callable[[str], None]


def merge(run: RunDirectory, target: Path, say: Say) -> dict[str, Any]:
    """Write the merged model to `target`, whole or not at all; what it is, and how far it differs from the adapter's model.

    Raises:
        LoracleError: base or adapter cannot be used, or there is too little room; nothing is left behind.
    """
    plan = run.plan()
    base = model_folder(plan.model)
    found = inspect_folder(base, plan.model.id)
    if is_another(found, plan.model.fingerprint):
        raise InputError(f"{plan.model.id}: the model has changed since the run was made, so the adapter does not belong to it.")
    dtype, parameters = _stored(Path(base))
    _check_room(Path(base), target, memory_needed(parameters))
    say("load")
    tokenizer, task = export.tokenizer_and_task(run, found["facts"]["family"])
    rows = _rows(plan, found["facts"]["family"], tokenizer)
    in_bits = _in_4_bit(run, task, base, rows) if plan.method == "qlora" else None
    give_back()
    # In fp32 throughout, and rounded once to the type that the base is stored in: added to 16-bit weights, what an adapter has
    # learned would be rounded twice, and a comparison of two 16-bit passes could not tell a mistake from their noise.
    model = _adapted(run, task, base)
    wanted = _outputs(model, rows, task)
    say("merge")
    model = model.merge_and_unload()
    _check_same(_outputs(model, rows, task), wanted, run)
    say("write")
    beside = part_of(target, os.getpid())
    _sweep(target)
    try:
        beside.mkdir(mode=0o700, parents=True)
        _write(beside, model.to(dtype), tokenizer, run, task)
        del model
        give_back()
        say("compare")
        merged = task.model_class().from_pretrained(beside, dtype=torch.float32, use_safetensors=True).eval()
        outputs = _outputs(merged, rows, task)
        if dtype == torch.float32:  # else the rounding is told
            _check_same(outputs, wanted, run)
        elif not math.isfinite(_largest(outputs)):
            raise Refused(
                f"Merged and rounded to {str(dtype).removeprefix('torch.')}, as the base is stored, the model's outputs are "
                f"not numbers (some weights are too large for that type), so it was not kept; use the adapter in {run.model}."
            )
        sync_files(beside)
        if target.exists():
            raise InputError(f"{target} exists already; name another folder with --to, or remove it.")
        beside.rename(target)
    except (OSError, SafetensorError) as error:  # a full disk comes as either
        why, free = one_line(getattr(error, "strerror", None) or error, 200), size(disk_free(target.parent))
        raise Refused(f"{target}: the merged model cannot be written ({why}; {free} of disk is free).") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync_folder(target.parent)
    return {
        "path": str(target),
        "bytes": folder_size(target),
        "dtype": str(dtype).removeprefix("torch."),
        "method": plan.method,
        "rows": len(rows),
        "writes": plan.task not in CLASSIFYING,
        "alike": _alike(outputs, wanted, plan.task),
        "alike_in_4_bit": None if in_bits is None else _alike(outputs, in_bits, plan.task),
        "difference": _difference(outputs, wanted),
        "difference_in_4_bit": None if in_bits is None else _difference(outputs, in_bits),
        "largest_output": _largest(wanted),
    }


def _sweep(target: Path) -> None:
    """Remove what processes that were killed have left of it."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        process = part.name.split(".")[-2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(part, ignore_errors=True)


def _stored(base: Path) -> tuple[torch.dtype, int]:
    """The type that most of the base's weights are stored in, and how many they are.

    Raises:
        InputError: they are quantised.
    """
    weights: Counter[str] = Counter()
    for file in base.glob("*.safetensors"):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - not a mapping
                tensor = handle.get_slice(name)
                weights[tensor.get_dtype()] += int(torch.Size(tensor.get_shape()).numel())
    kind = weights.most_common(1)[0][0] if weights else "none"
    if kind not in TYPES or "quantization_config" in read_json(base / "config.json"):
        raise InputError(
            f"{base}: the base is stored quantised, so an adapter cannot be merged into it; use the adapter as it is."
        )
    return TYPES[kind], sum(weights.values())


def _check_room(base: Path, target: Path, needed: int) -> None:
    memory = memory_available()
    if needed > memory:
        raise Refused(f"Merging takes {size(needed)} of main memory, and {size(memory)} is free. Close other programs.")
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    needed, disk = weights + BESIDE_WEIGHTS, disk_free(target.parent)
    if needed > disk:
        raise Refused(f"{target}: the merged model needs {size(needed)} of disk, and {size(disk)} is free. Use --to elsewhere.")


def _rows(plan: Plan, family: Family | None, tokenizer: Any) -> list[list[int]]:
    """Token ids of some rows, held out where there are such; none where the data is no longer there."""
    try:
        parts = split(plan.data, plan.task)
    except LoracleError:
        return []
    some = next((rows for rows in (parts.held_out, parts.validation, parts.train) if len(rows)), parts.train)
    task = task_of(plan, parts.labels, tokenizer.pad_token_id, family)
    ids = task.encode(tokenizer, some.take(range(min(ROWS, len(some))))).input_ids
    return [row[:TOKENS] for row in ids]


def _adapted(run: RunDirectory, task: Task, base: str) -> Any:
    """The base in fp32, not quantised, with the run's adapter."""
    from peft import PeftModel

    model = task.model_class().from_pretrained(
        base,
        config=export.config_of(run, task, base),
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=task.fresh_head,
    )
    if (run.model / "generation_config.json").is_file():  # where answers end, as it was learned
        model.generation_config = transformers.GenerationConfig.from_pretrained(run.model)
    return PeftModel.from_pretrained(model, str(run.model)).eval()


def _in_4_bit(run: RunDirectory, task: Task, base: str, rows: Sequence[list[int]]) -> list[torch.Tensor] | None:
    """What the model that was trained and scored computes; `None` where the GPU has no room for it, as beside another run: the
    merge itself needs none."""
    try:
        return _outputs(export.load(run, task, base).eval(), rows, task)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def _outputs(model: Any, rows: Sequence[list[int]], task: Task) -> list[torch.Tensor]:
    """What the model computes for each row alone; on the CPU, in fp32."""
    found = []
    with torch.inference_mode():
        for row in rows:
            batch = padded([row], task.pad, model.device)
            if model.config.is_encoder_decoder:
                batch["decoder_input_ids"] = batch["input_ids"]
            found.append(model(**batch).logits.float().cpu())
    return found


def _difference(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> float | None:
    return _largest([a - b for a, b in zip(some, others, strict=True)]) if some else None


def _alike(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor], task: PlanTask) -> list[int] | None:
    """How many answers of both are the same, and how many there are: the likeliest label of a row or word, whether each of
    several labels is given, or the likeliest next token at each place. A number has none."""
    if not some or task == "regression":
        return None
    answers = [[one > 0 if task == "multi_label" else one.argmax(-1) for one in outputs] for outputs in (some, others)]
    same = [a == b for a, b in zip(*answers, strict=True)]
    return [sum(int(s.sum()) for s in same), sum(s.numel() for s in same)]


def _check_same(outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], run: RunDirectory) -> None:
    apart = _difference(outputs, wanted)
    if apart is not None and not apart <= TOLERANCE * _largest(wanted):
        raise Refused(
            f"The merged model's outputs differ from the adapter's by {apart:.3g}, more than rounding explains, so it was not"
            f" kept; use the adapter in {run.model}."
        )


def _largest(outputs: Sequence[torch.Tensor]) -> float:
    """Not a number where one of them is none."""
    return float(torch.stack([one.abs().max() for one in outputs]).max()) if outputs else 0.0


def _write(folder: Path, model: Any, tokenizer: Any, run: RunDirectory, task: Task) -> None:
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kept = read_json(run.model / "loracle.json")
    write_json(folder / "loracle.json", kept | {"merged": True})
    text = (run.model / "README.md").read_text(encoding="utf-8")
    write_atomically(folder / "README.md", card.of_merged(text, task.auto_model), 0o600)


def main() -> int:
    """Merge; libraries that print get the log."""
    out = answers()
    leave_with(int(sys.argv[3]))
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.umask(0o077)

    def tell(**content: Any) -> None:
        print(json.dumps(content), file=out, flush=True)

    try:
        tell(merged=merge(RunDirectory(Path(sys.argv[1])), Path(sys.argv[2]), lambda doing: tell(doing=doing)))
    except LoracleError as error:
        tell(error=error.message, exit=int(error.exit))
    except Exception as error:  # whatever a library raises becomes one sentence; the traceback is in worker.log
        traceback.print_exception(error)
        if is_out_of_memory(error):
            tell(error="Memory ran out while the adapter was merged; what was written was removed.", exit=int(Exit.REFUSED))
        else:
            why = one_line(f"{type(error).__name__}: {error}", 300)
            tell(error=f"The adapter cannot be merged ({why}).", exit=int(Exit.FAILED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
