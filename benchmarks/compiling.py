"""What torch.compile saves on this CPU, and what compiling costs: layers as they are and compiled, a step each in turns.

    python -m benchmarks.compiling --model smollm2        LoRA on Alpaca rows
    python -m benchmarks.compiling --model minilm         fully on SST-2 rows

One process, one trainer, the same batch; the layers are compiled as the worker does it, with nothing compiled before. `compiling`
is the processor time of the first compiled steps, that of the C++ compiler and of torch's compiler's imports among it, less
what later steps take. `--precision bf16-mixed` measures the step in bf16.
"""

import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command_line import command_line
from benchmarks.paired import machine

TURNS = 5


def processor_time() -> float:
    """Of this process and of those that it has waited for: the C++ compiler."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds_of(trainer: Any, batch: Any) -> float:
    """Processor time of forward and backward."""
    begin = processor_time()
    trainer.training_step(trainer.model, batch)
    trainer.model.zero_grad()
    return processor_time() - begin


def part(batch: Any, rows: int) -> Any:
    """A batch of other lengths."""
    return type(batch)(batch.input_ids[:rows], batch.targets[:rows])


def measured(model: str, precision: str, work: Path) -> dict[str, Any]:
    """Seconds of compiling and of steps, both by processor time, and the steps after which compiling would have paid."""
    from benchmarks.loracle_side import trainer_on
    from engine.worker.compiled import Compiled

    data = "sst2" if model == "minilm" else "alpaca"
    trainer, _ = trainer_on(data, work, f"compiling-{model}-{precision}", precision)
    trainer.current_gradient_accumulation_steps = 1
    batches = iter(trainer.get_train_dataloader())
    batch, other = next(batches), part(next(batches), 5)
    seconds_of(trainer, batch)
    began, wall = processor_time(), time.perf_counter()
    put_in = Compiled(trainer.model)
    compiled = [layer.forward for layer in put_in.layers]
    first = processor_time() - began + seconds_of(trainer, batch)
    wall = time.perf_counter() - wall
    again = seconds_of(trainer, other)  # other lengths, for which something may have to be compiled anew
    found: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(TURNS):
        for use in (True, False) if turn % 2 else (False, True):
            for layer, forward in zip(put_in.layers, compiled, strict=True):
                if use:
                    layer.forward = forward
                else:
                    layer.__dict__.pop("forward", None)
            found[use].append(seconds_of(trainer, batch))
    plain, fast = (statistics.median(found[use]) for use in (False, True))
    saved = plain - fast
    compiling = max(first - fast, 0.0) + max(again - fast * other.tokens / batch.tokens, 0.0)
    return {
        "precision": precision,
        "tokens": batch.tokens,
        "seconds_plain": round(plain, 2),
        "seconds_compiled": round(fast, 2),
        "saved_share": round(saved / plain, 3),
        "all_plain": [round(s, 2) for s in found[False]],
        "all_compiled": [round(s, 2) for s in found[True]],
        "compiling_seconds": round(compiling, 1),
        "first_compiled_step_by_the_clock": round(wall, 1),
        "pays_after_steps": round(compiling / saved) if saved > 0 else None,
    }


def main() -> None:
    """Measure one model and put it beside the other in the result."""
    parser = command_line(__doc__)
    parser.add_argument("--model", choices=("smollm2", "minilm"), default="smollm2")
    parser.add_argument("--precision", choices=("fp32", "bf16-mixed"), default="fp32")
    parser.add_argument("--work", type=Path, default=Path("runs-bench"))
    given = parser.parse_args()
    file = given.output / "compiling.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    name = given.model if given.precision == "fp32" else f"{given.model}_{given.precision}"
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        found = measured(given.model, given.precision, given.work.resolve())
    result = earlier | {"benchmark": "compiling", name: found, "machine": machine()}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
