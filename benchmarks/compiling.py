"""What torch.compile would save on this CPU, and what compiling costs: layers as they are and compiled, a step each in turns.

    python -m benchmarks.compiling --model smollm2        LoRA on Alpaca rows
    python -m benchmarks.compiling --model minilm         fully on IMDB rows

One process, one trainer, the same batch; the layers are compiled with dynamic shapes, attention over sequences of unequal length
left out of it. `compiling` is the processor time of the first compiled step less that of a later one, without that
of the C++ compiler, which runs in children and comes on top.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.paired import machine

TURNS = 3


def layers_of(model: Any) -> list[Any]:
    """The transformer layers."""
    import torch

    return max((list(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=lambda found: len(found))


def trainer_of(model: str, work: Path) -> Any:
    """Loracle's own trainer, in fp32."""
    from benchmarks import loracle_side, sft

    if model == "minilm":
        plan = loracle_side.plan_for_benchmark("imdb", 1, work, "full", "precision=fp32")
    else:
        plan = sft.plan("lora", work / "data")
    return loracle_side.trainer_of(plan, work / f"compiling-{model}")[0]


def seconds_of(trainer: Any, batch: Any) -> float:
    """Processor time of forward and backward."""
    begin = time.process_time()
    trainer.training_step(trainer.model, batch)
    trainer.model.zero_grad()
    return time.process_time() - begin


def measured(model: str, work: Path) -> dict[str, Any]:
    """Seconds of compiling and of steps, both by processor time, and the steps after which compiling would have paid."""
    import torch
    from transformers import AttentionInterface

    from engine.worker import attention

    trainer = trainer_of(model, work)
    trainer.current_gradient_accumulation_steps = 1
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attention))
    batches = iter(trainer.get_train_dataloader())
    batch, other = next(batches), next(batches)
    layers = layers_of(trainer.model)
    seconds_of(trainer, batch)
    for layer in layers:
        layer.compile(dynamic=True)
    compiled = [layer._compiled_call_impl for layer in layers]
    first = seconds_of(trainer, batch)
    again = seconds_of(trainer, other)  # another length, for which something may have to be compiled anew
    found: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(TURNS):
        for use in (True, False) if turn % 2 else (False, True):
            for layer, impl in zip(layers, compiled, strict=True):
                layer._compiled_call_impl = impl if use else None
            found[use].append(seconds_of(trainer, batch))
    plain, fast = (statistics.median(found[use]) for use in (False, True))
    saved = plain - fast
    compiling = max(first - fast, 0.0) + max(again - fast * other.tokens / batch.tokens, 0.0)
    return {
        "tokens": batch.tokens,
        "seconds_plain": round(plain, 2),
        "seconds_compiled": round(fast, 2),
        "saved_share": round(saved / plain, 3),
        "compiling_seconds": round(compiling, 1),
        "pays_after_steps": round(compiling / saved) if saved > 0 else None,
    }


def main() -> None:
    """Measure one model and put it beside the other in the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("smollm2", "minilm"), default="smollm2")
    parser.add_argument("--work", type=Path, default=Path("runs-bench"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    file = given.output / "compiling.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    result = earlier | {"benchmark": "compiling", given.model: measured(given.model, given.work.resolve()), "machine": machine()}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result[given.model], indent=1))


if __name__ == "__main__":
    main()
