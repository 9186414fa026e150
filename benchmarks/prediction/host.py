"""What the host does for an operation of a training step, on this CPU: models of next to nothing, of which only Python, autograd
and torch's dispatcher take time.

    python -m benchmarks.prediction.host

By it `engine.worker.tracing.work` tells how long a card waits for its host. Times are those of the thread, in microseconds.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.worker.tracing.calibration import Count

ROUNDS = 30
SMALL = {"hidden_size": 32, "num_hidden_layers": 8, "intermediate_size": 64, "vocab_size": 100, "num_attention_heads": 4}
WAYS: dict[str, bool | None] = {"none": None, "hooks": False, "reentrant": True}


def model_of(kind: str, adapters: bool, reentrant: bool | None) -> Any:
    """A model of that kind with weights of no account."""
    more = {"num_key_value_heads": 2, "use_cache": False} if kind == "llama" else {}
    made: Any = AutoModelForCausalLM if kind == "llama" else AutoModelForSequenceClassification
    model = made.from_config(AutoConfig.for_model(kind, **SMALL, **more))
    if adapters:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    return model.train()


def least(times: list[float]) -> float:
    """Microseconds, of those that nothing disturbed."""
    return 1e6 * sorted(times)[len(times) // 5]


def measure(kind: str, adapters: bool) -> str:
    """Of one kind of model, checkpointed in every way in turns."""
    models = {way: model_of(kind, adapters, reentrant) for way, reentrant in WAYS.items()}
    ids = torch.zeros(1, 4, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids if kind == "llama" else ids[:, 0]}
    taken: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in models}
    gc.disable()
    for _ in range(ROUNDS):
        for way, model in models.items():
            begin = time.thread_time()
            loss = model(**batch).loss
            between = time.thread_time()
            loss.backward()
            taken[way][0].append(between - begin)
            taken[way][1].append(time.thread_time() - between)
            model.zero_grad()
    gc.enable()
    counts = {}
    for way in ("none", "hooks"):
        with Count() as forward:
            loss = models[way](**batch).loss
        with Count() as backward:
            torch.autograd.backward([loss])
        counts[way] = (forward, backward)
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        models["none"](**batch)
    forward, backward = counts["none"]
    one = least(taken["none"][0]) / (forward.started + forward.looks / 2)
    other = least(taken["none"][1]) / (backward.started + backward.looks / 2)
    again = counts["hooks"][1].started - backward.started + (forward.looks / 2)
    whole = {way: sum(map(least, times)) for way, times in taken.items()}
    of_hooks = (whole["hooks"] - whole["none"] - again * one) / kept
    return (
        f"| {kind}{', LoRA' if adapters else ''} | {one:.1f} | {other:.1f} | {of_hooks:.1f} | "
        f"{(whole['reentrant'] - whole['none']) / least(taken['none'][0]):.2f} |"
    )


def updating() -> str:
    """Of a tensor that AdamW changes all at once with others, and whose gradient is clipped; its kernels are left out."""
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(400)]
    for weight in weights:
        weight.grad = torch.zeros(2)
    optimizer = torch.optim.AdamW(weights, foreach=True)
    optimizer.step()
    usual = {name: getattr(torch, name) for name in dir(torch) if name.startswith("_foreach_")}
    clip = timed(lambda: torch.nn.utils.clip_grad_norm_(weights, 1.0))
    try:
        for name in usual:
            setattr(torch, name, lambda first, *_, **__: list(first))
        update = timed(optimizer.step)
    finally:
        for name, function in usual.items():
            setattr(torch, name, function)
    return f"update {update / len(weights):.1f}, clipping {clip / len(weights):.1f} a tensor"


def timed(act: Callable[[], Any]) -> float:
    """Microseconds."""
    found = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        act()
        found.append(time.thread_time() - begin)
    return least(found)


def main() -> None:
    """Print a line a model."""
    torch.set_num_threads(1)
    print("| model | a forward operation | a backward one | a tensor that hooks keep | reentrant, in forward passes more |")
    for kind in ("llama", "bert"):
        for adapters in (False, True):
            print(measure(kind, adapters), flush=True)
    print(updating())


if __name__ == "__main__":
    main()
