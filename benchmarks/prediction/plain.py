"""Ordinary training loops on a CPU, of many architectures, against what `loracle estimate` says of their facts.

    python -m benchmarks.prediction.plain [--only WORDS] [--seconds N]      fills results/prediction_plain.json

The loop is written here with transformers, peft and torch alone, as a script of one's own would be: it shares nothing with the
loops that Loracle traces. Weights are random, models small; live bytes are those of the allocator's events in torch's profiler.
Resumable: a cell that is in the file is not measured again, unless machine or versions are others; where the code that predicts
is newer, it is predicted anew.
"""

import argparse
import contextlib
import gc
import json
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.paired import machine
from benchmarks.prediction.plain_cells import HEADS, cells
from benchmarks.prediction.score import spread
from engine.files import write_atomically
from engine.installed import own_code
from engine.prediction.ask import estimate
from engine.prediction.configured import Cannot
from recommender.facts import Facts

RESULTS = Path(__file__).parents[1] / "results" / "prediction_plain.json"
PHASES = ("forward", "backward", "optimizer", "evaluation")
FAR = 0.5
"""Hundredths: phases that are further off are named in the summary."""


def batch_of(model: Any, step: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random tokens and labels; where rows are padded, all but the first are shorter."""
    rows, length, head = step["micro_batch_rows"], step["length"], step["head"]
    most = model.config.get_text_config().vocab_size
    ids = torch.randint(3, most, (rows, length))
    mask = torch.ones_like(ids)
    if step["padded"]:
        mask[1:, length // 2 :] = 0
    if head == "classification":
        labels = torch.rand(rows) if step["labels"] == 1 else torch.randint(0, step["labels"], (rows,))
    elif head == "tagging":
        labels = torch.randint(0, step["labels"], (rows, length))
    else:
        labels = torch.randint(3, most, (rows, step.get("target_length") or length))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def model_of(config: dict[str, Any], step: dict[str, Any]) -> Any:
    """The model as a script prepares it."""
    labelled = {"num_labels": step["labels"]} if step["labels"] else {}
    made = transformers.AutoConfig.for_model(**config | labelled)
    if made.get_text_config().pad_token_id is None:
        made.get_text_config().pad_token_id = 0
    made.use_cache = bool(step.get("use_cache"))  # before: T5's halves have copies
    kind = getattr(transformers, "AutoModelForSeq2SeqLM" if step.get("target_length") else HEADS[step["head"]][0])
    attention, dtype = "eager" if step["attention"] == "eager" else None, getattr(torch, step["base_dtype"])
    if step["method"] == "qlora":
        model = in_4_bit(kind, made, dtype, step)
    else:
        model = kind.from_config(made, dtype=dtype, attn_implementation=attention)
    again = step["gradient_checkpointing"] == "layer"
    if step.get("kbit_prepared"):
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=again, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    elif again:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if step["method"] != "full":
            model.enable_input_require_grads()
    if step["method"] != "full":
        targets = step["target_modules"]
        lora = LoraConfig(
            task_type="SEQ_2_SEQ_LM" if step.get("target_length") else HEADS[step["head"]][1],
            r=step["rank"],
            lora_alpha=2 * step["rank"],
            lora_dropout=step["lora_dropout"],
            target_modules=None if targets == "default" else targets,
            modules_to_save=step.get("trained") or (["classifier"] if step["head"] == "tagging" else None),
        )
        model = get_peft_model(model, lora, autocast_adapter_dtype=step["adapter_dtype"] == "float32")
    elif step.get("trained"):
        for name, p in model.named_parameters():
            p.requires_grad_(any(part in name for part in step["trained"]))
    return model.train()


def in_4_bit(kind: Any, config: Any, dtype: torch.dtype, step: dict[str, Any]) -> Any:
    """Written and read again, as only files are quantised; in another type, as torch does not count what is read in place."""
    bits = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=step["quantization"],
        bnb_4bit_use_double_quant=step["double_quantization"],
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["classifier", "score", "lm_head"],
    )
    with tempfile.TemporaryDirectory() as folder:
        other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
        kind.from_config(config, dtype=other).save_pretrained(folder)
        return kind.from_pretrained(folder, quantization_config=bits, dtype=dtype, device_map={"": "cpu"})


def optimizer_of(model: Any, step: dict[str, Any]) -> Any:
    """torch's, of what is trained."""
    trained, way = [p for p in model.parameters() if p.requires_grad], step["optimizer_implementation"]
    if "8bit" in step["optimizer"]:
        return import_module("bitsandbytes.optim").AdamW8bit(trained, lr=1e-4)
    if step["optimizer"] == "adafactor":
        return transformers.Adafactor(trained, lr=1e-4, scale_parameter=False, relative_step=False)
    if step["optimizer"] == "sgd":
        return torch.optim.SGD(trained, lr=1e-4, foreach=way == "foreach")
    return torch.optim.AdamW(trained, lr=1e-4, foreach=way == "foreach", fused=way == "fused")


def train(config: dict[str, Any], step: dict[str, Any]) -> None:
    """Two steps and an evaluation, each phase marked."""
    model = model_of(config, step)
    optimizer, batch = optimizer_of(model, step), batch_of(model, step)

    def autocast() -> Any:
        return torch.autocast("cpu", getattr(torch, step["autocast"])) if step["autocast"] else contextlib.nullcontext()

    def one(which: str) -> None:  # a function of its own, so that nothing of it lives on
        for _ in range(step.get("gradient_accumulation_steps", 1)):
            with record_function(f"phase {which}forward"), autocast():
                out = model(**batch)
                loss = out.loss
            if not step["outputs_held"]:
                del out
            with record_function(f"phase {which}backward"):
                loss.backward()
        with record_function(f"phase {which}optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    one("first ")
    one("")
    model.eval()
    with record_function("phase evaluation"), torch.no_grad(), autocast():
        model(**batch)


def measured(config: dict[str, Any], step: dict[str, Any]) -> dict[str, int]:
    """Most live bytes in each phase of the second step, and in the evaluation."""
    torch.manual_seed(0)
    gc.collect()  # what is left of the last cell would go while this one is watched
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        train(config, step)
    events = found.profiler.kineto_results.events()
    phases = [(e.start_ns(), e.end_ns(), e.name().removeprefix("phase ")) for e in events if e.name().startswith("phase ")]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    peaks: dict[str, int] = {}
    for begin, end, name in phases:
        live = most = sum(size for when, size in changes if when < begin)
        for _, size in (c for c in changes if begin <= c[0] <= end):
            live += size
            most = max(most, live)
        peaks[name] = max(peaks.get(name, 0), most)
    return {p: peaks[p] for p in PHASES}


def facts_of(config: dict[str, Any], step: dict[str, Any]) -> Facts:
    """What a person would write down of such a step."""
    return Facts.model_validate({"machine": {"backend": "cpu", "devices": []}, "model": {"config": config}, "step": step})


def predicted(config: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """The same phases, and the interval of the peak."""
    try:
        said = estimate(facts_of(config, step))
    except Cannot as error:
        return {"cannot": error.text}
    phases = said["phases"]
    found = {p: max(phases["forward"], phases["loss"]) if p == "forward" else phases[p] for p in PHASES}
    return {"phases": found, "allocated": said["allocated"], "assumed": said["assumed"]}


def errors_of(cell: dict[str, Any]) -> dict[str, float]:
    """By phase, in hundredths of what was measured; negative where too little was predicted."""
    claim, truth = cell["predicted"].get("phases", {}), cell["measured"]
    return {p: 100 * (claim[p] / truth[p] - 1) for p in claim} | (
        {"peak": 100 * (cell["predicted"]["allocated"]["predicted"] / max(truth.values()) - 1)} if claim else {}
    )


def summary(known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The distribution of the errors, and each phase that is more than `FAR` off."""
    of_cells = {key: errors_of(cell) for key, cell in known.items()}
    return {
        "cells": len(known),
        **{p: spread([e[p] for e in of_cells.values() if e]) for p in ("peak", *PHASES)},
        "far": {f"{key}: {p}": round(e, 2) for key, found in of_cells.items() for p, e in found.items() if abs(e) > FAR},
        "cannot": {key: cell["predicted"]["cannot"] for key, cell in known.items() if "cannot" in cell["predicted"]},
    }


def main() -> None:
    """Measure the cells that are not in the file yet, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those whose key has this in it")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin none later")
    parser.add_argument("--file", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    here = {name: value for name, value in machine().items() if name != "load_average"}
    content: dict[str, Any] = json.loads(given.file.read_text()) if given.file.exists() else {}
    known: dict[str, Any] = content.get("cells", {}) if content.get("machine") == here else {}
    code, begun = own_code()[:12], time.monotonic()
    for key, config, step in cells():
        cell = known.get(key, {})
        if cell.get("code") == code or given.only not in key or time.monotonic() - begun > given.seconds:
            continue
        try:
            truth = cell.get("measured") or measured(config, step)
        except Exception as error:  # a step that cannot be taken is none
            said = predicted(config, step).get("cannot", "no refusal")
            print(f"{key}: does not run ({type(error).__name__}: {str(error)[:150]}); predicted: {said}", flush=True)
            continue
        known[key] = {"measured": truth, "predicted": predicted(config, step), "code": code}
        content = {"machine": here, "summary": summary(known), "cells": known}
        write_atomically(given.file, json.dumps(content, indent=0) + "\n", 0o644)
        said = known[key]["predicted"].get("cannot") or ", ".join(f"{p} {e:+.3f}%" for p, e in errors_of(known[key]).items())
        print(f"{key}: {said}", flush=True)


if __name__ == "__main__":
    main()
