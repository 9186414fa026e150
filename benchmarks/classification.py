"""Classification with MiniLM, full and LoRA: Loracle against a transformers Trainer, same precision and effective batch.

    python -m benchmarks.classification speed --data sst2 --method full      32 optimizer steps a side, in turns
    python -m benchmarks.classification accuracy --data sst2 --seeds 1 2 3   held-out accuracy after 3 epochs

Both are resumable: start the command again. The Trainer pads each batch to its longest row (`dynamic`), and once more with
batches of like length (`grouped`, which changes the order of the data; Loracle does not). Each stands there with glibc's
allocator as any script has it, and in the environment of Loracle's worker (`_same_allocator`). Loracle takes turns with one of
these at a time.
"""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.command_line import in_turns_line, keep
from benchmarks.paired import TrainerStepper, beside, machine, serve, share_of_peak

STEPS, WARM_UP = 32, 2
"""A whole pass over 1,000 rows. Batches of like length go from long to short over seven steps, the longest taking fourteen times
as long as the shortest on IMDB: whoever times a part of a cycle can find either side faster."""
PEERS = ("dynamic", "grouped", "dynamic_same_allocator", "grouped_same_allocator")
RANK, ALPHA, DROPOUT = 8, 16, 0.1
BATCH = 32
PRECISIONS = {"fp32": "fp32", "bf16": "bf16-mixed"}
"""Loracle's words for them; the Trainer's bf16 is autocast too."""


def trainer_of(side: str, data: str, method: str, seed: int, output: Path, **more: Any) -> Any:
    """The Trainer that somebody would write who knows about dynamic padding."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from benchmarks.recipe import EPOCHS, MAX_LENGTH, load_rows, model_path

    rows = load_rows(data)
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    model: Any = BertForSequenceClassification.from_pretrained(model_path(), num_labels=len(rows.labels))
    if method == "lora":
        lora = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules="all-linear")
        model = get_peft_model(model, lora)
    encoded = tokenizer(list(rows.train_texts), truncation=True, max_length=MAX_LENGTH, padding=False)
    total = -(-len(rows.train_texts) // BATCH) * EPOCHS
    arguments = {
        "output_dir": str(output),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 5e-5 if method == "full" else 5e-4,
        "warmup_steps": round(0.06 * total),
        "weight_decay": 0.01,
        "train_sampling_strategy": "group_by_length" if side.startswith("grouped") else "random",
        "seed": seed,
        "report_to": "none",
        "use_cpu": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**(arguments | more)),
        train_dataset=Dataset.from_dict({**encoded, "labels": list(rows.train_labels)}),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )


def loracle_plan(data: str, method: str, seed: int, work: Path, precision: str = "fp32") -> Any:
    """Loracle's plan for the same: its own learning rate and token budget, the Trainer's precision, batch and adapters."""
    from benchmarks.loracle_side import plan_for_benchmark

    adapters = [f"rank={RANK}", f"alpha={ALPHA}", f"dropout={DROPOUT}"] if method == "lora" else []
    return plan_for_benchmark(data, seed, work, method, f"precision={PRECISIONS[precision]}", *adapters)


def stepper(side: str, data: str, method: str, work: Path, precision: str) -> TrainerStepper:
    """The trainer of one side."""
    if side == "loracle":
        from benchmarks import loracle_side

        trainer, total = loracle_side.trainer_of(loracle_plan(data, method, 1, work, precision), work / side)
        return TrainerStepper(trainer, lambda batch: len(batch.targets), total)
    trainer = trainer_of(side, data, method, 1, work / side, bf16=precision == "bf16")
    total = len(trainer.get_train_dataloader()) * 3
    return TrainerStepper(trainer, lambda batch: len(batch["labels"]), total)


def speed(job: tuple[str, str, str], steps: int, against: list[str], work: Path) -> dict[str, Any]:
    """Rows a second of each side, Loracle's ratio to the others, and its share of the matrix-product peak.

    `job` is data, method and precision.
    """
    data, method, precision = job
    arguments = ["--data", data, "--method", method, "--precision", precision, "--steps", str(steps), "--work", str(work)]
    pairs = [("loracle", peer) for peer in against]
    record = work / _name(*job)
    taken = beside("benchmarks.classification", pairs, arguments, warm_up=WARM_UP, record=record, unit="rows")
    return {
        "benchmark": "classification speed",
        "data": data,
        "method": method,
        "precision": precision,
        "against": {peer: figures for peer, (figures, _) in taken.items()},
        "share_of_matmul_peak": share_of_peak(operations(data, method), taken, precision),
        "machine": machine(),
    }


def _name(data: str, method: str, precision: str) -> str:
    return f"{data}-{method}" if precision == "fp32" else f"{data}-{method}-{precision}"


def operations(data: str, method: str) -> float:
    """Those of the useful products of a mean row.

    Six a weight and real token when all weights learn; four when only adapters do, whose own products are left out.
    Attention's products are counted, embeddings are not. Of the last layer only keys and values are of every token: the head
    reads the first one, and the rest is useful for that alone.
    """
    from transformers import AutoConfig, AutoTokenizer

    from benchmarks.recipe import MAX_LENGTH, load_rows, model_path

    config = AutoConfig.from_pretrained(model_path())
    rows = load_rows(data)
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    lengths = [len(x) for x in tokenizer(list(rows.train_texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]]
    h, i, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    times = 6 if method == "full" else 4
    whole = 4 * h * h + 2 * h * i
    linear = times * (((layers - 1) * whole + 2 * h * h) * statistics.fmean(lengths) + whole - 2 * h * h)
    attention = 6 * 2 * h * statistics.fmean((layers - 1) * n * n + n for n in lengths)
    return float(linear + attention)


def accuracy(data: str, method: str, seeds: list[int], work: Path) -> dict[str, Any]:
    """Held-out accuracy of both."""
    from benchmarks.accuracy import over_seeds

    found = over_seeds(("dynamic", "loracle"), data, method, seeds, work)
    return {"benchmark": "classification accuracy", "data": data, "method": method, **found}


def main() -> None:
    """Run one comparison and write its result beside the earlier ones."""
    parser = in_turns_line(__doc__, ("loracle", *PEERS), ("speed", "accuracy"))
    parser.add_argument("--data", choices=("imdb", "sst2"), required=True)
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="fp32", help="of both sides, for speed")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps a side whose time counts")
    parser.add_argument("--against", nargs="+", choices=PEERS, default=list(PEERS), help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    work = given.work.resolve() / "classification"
    if given.what == "serve":
        side = stepper(given.side, given.data, given.method, given.work.resolve(), given.precision)
        serve(side, given.done, WARM_UP + given.steps)
        return
    if given.what == "speed":
        result = speed((given.data, given.method, given.precision), given.steps, given.against, work)
    else:
        result = accuracy(given.data, given.method, given.seeds, work)
    keep(result, given.output, f"classification-{given.what}-{_name(given.data, given.method, given.precision)}")


if __name__ == "__main__":
    main()
