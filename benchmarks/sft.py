"""Instruction tuning of SmolLM2-135M on Alpaca rows: Loracle against TRL's SFTTrainer, passes over the same rows in turns.

    python -m benchmarks.sft --method lora       LoRA of rank 16 on all linear layers
    python -m benchmarks.sft --method full

Resumable: start the command again. Needs `pip install -e .[bench]` (TRL) and the chat demo's model (`make demo-chat`).

All sides get the very token ids and labels that Loracle made of the rows (the answers are learned), batches of 8 rows or of 1,024
packed tokens, and a learning rate of 1e-9: every side meets the same weights, so that the losses must agree. Loracle takes turns
with one of them at a time, over all rows once. TRL stands there as its documentation sets it up (bf16, gradient checkpointing),
the same in fp32 without checkpointing, and as fast as it runs here: packed, in fp32, with either of its losses; the faster one
also in the environment of Loracle's worker. Against the documented one Loracle stands in bf16 too, as it recommends where the
CPU is faster in it. Tokens are those of the rows: what several rows of a micro-batch begin with (24 tokens, the template's system
message) counts for each of them, though Loracle reads it once.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.command_line import in_turns_line, keep
from benchmarks.paired import TrainerStepper, beside, machine, serve, share_of_peak

ROWS, BATCH, LENGTH, RANK, RATE = 48, 8, 1024, 16, 1e-9
WARM_UP = 1
FASTEST: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False, "packing": True, "per_device_train_batch_size": 1}
TRL: dict[str, dict[str, Any]] = {
    "trl_documented": {},
    "trl_fp32": {"bf16": False, "gradient_checkpointing": False},
    "trl_packed": FASTEST,
    "trl_packed_chunked": FASTEST | {"loss_type": "chunked_nll"},
    "trl_packed_chunked_same_allocator": FASTEST | {"loss_type": "chunked_nll"},
}
OWN = {"loracle": "fp32", "loracle_bf16": "bf16-mixed"}
PAIRS = {
    "lora": [("loracle_bf16", "trl_documented"), *(("loracle", peer) for peer in TRL)],
    "full": [("loracle", peer) for peer in TRL if peer.startswith("trl_packed")],
}


def plan(method: str, work: Path, precision: str = "fp32") -> Any:
    """The plan of Loracle's side, on the first rows of the Alpaca file."""
    from benchmarks.recipe import data_root
    from engine import demo_chat
    from recommender.hyper import TOKEN_BUDGET_BF16, TOKEN_BUDGET_CPU
    from recommender.plan import Plan

    rows = json.loads((data_root() / "sft" / "alpaca_en_demo.json").read_text(encoding="utf-8"))[:ROWS]
    work.mkdir(parents=True, exist_ok=True)
    file = work / "alpaca.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    roles = {role: role for role in ("instruction", "input", "output")}
    return Plan.model_validate(
        {
            "model": {"id": str(demo_chat.folder())},
            "data": {"train": str(file), "layout": "alpaca", "columns": roles, "validation_rows": 0, "held_out_rows": 0},
            "task": "instruction",
            "method": method,
            "learning_rate": RATE,
            "epochs": 1,
            "effective_batch": BATCH,
            "max_length": LENGTH,
            "precision": precision,
            "token_budget": TOKEN_BUDGET_BF16 if (method, precision) == ("lora", "bf16-mixed") else TOKEN_BUDGET_CPU,
            **({"rank": RANK, "alpha": RANK, "dropout": 0.0} if method == "lora" else {}),
        }
    )


def encoded(plan: Any) -> Any:
    """The rows as Loracle's side reads them, as the table that TRL takes for prepared."""
    from datasets import Dataset

    from engine.loading import split
    from engine.worker.modeling import load_tokenizer
    from engine.worker.tasks.registry import task_of

    parts, tokenizer = split(plan.data, plan.task), load_tokenizer(plan.model.id)
    rows = task_of(plan, parts.labels, tokenizer.pad_token_id).encode(tokenizer, parts.train)
    return Dataset.from_dict({"input_ids": list(rows.input_ids), "labels": list(rows.targets)}), tokenizer


def trl_trainer(side: str, plan: Any, output: Path) -> Any:
    """TRL's trainer for the same rows."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    rows, tokenizer = encoded(plan)
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "max_length": LENGTH,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
    }
    adapters = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(plan.model.id, dtype=torch.float32),
        args=SFTConfig(**(settings | TRL[side])),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapters if plan.method == "lora" else None,
    )


def stepper(side: str, method: str, work: Path) -> TrainerStepper:
    """The trainer of one side."""
    from benchmarks import loracle_side

    made = plan(method, work / "data", OWN.get(side, "fp32"))
    if side in OWN:
        trainer, total = loracle_side.trainer_of(made, work / side)
        learned = lambda batch: sum(label >= 0 for row in batch.targets for label in row[1:])  # noqa: E731
        return TrainerStepper(trainer, lambda batch: batch.tokens, total, weigh=learned)
    trainer = trl_trainer(side, made, work / side)
    return TrainerStepper(trainer, _tokens, len(trainer.get_train_dataloader()), weigh=_learned)


def _tokens(batch: Any) -> int:
    mask = batch.get("attention_mask")
    return int(batch["input_ids"].numel() if mask is None else mask.sum())


def _learned(batch: Any) -> int:
    return int((batch["labels"] >= 0).sum())


def compare(method: str, against: list[str], work: Path) -> dict[str, Any]:
    """Real tokens a second of both sides of each pair, Loracle's ratio, the losses, the peak of memory."""
    pairs = [pair for pair in PAIRS[method] if pair[1] in against]
    arguments = ["--method", method, "--work", str(work)]
    record = work / f"sft-{method}"
    taken = beside("benchmarks.sft", pairs, arguments, warm_up=WARM_UP, record=record, unit="tokens")
    return {
        "benchmark": "sft",
        "method": method,
        "rows": ROWS,
        "against": {peer: figures for peer, (figures, _) in taken.items()},
        "share_of_matmul_peak": share_of_peak(operations(method, work), taken),
        "machine": machine("trl"),
    }


def operations(method: str, work: Path) -> float:
    """Those of the useful products of a mean token.

    Six a weight and token where it learns, four where only adapters do (six for theirs); the head only for tokens that carry
    loss (six, or four with its weights frozen); attention sees the half before each token. What the rows of a micro-batch begin
    with alike goes through the layers once.
    """
    from transformers import AutoConfig

    from engine.worker.packing import cut_packed, pack

    made = plan(method, work / "data")
    config = AutoConfig.from_pretrained(made.model.id)
    rows, _ = encoded(made)
    h, i, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    kv = h * config.num_key_value_heads // config.num_attention_heads
    shapes = [(h, h), (h, kv), (h, kv), (h, h), (h, i), (h, i), (i, h)]
    weights = layers * sum(a * b for a, b in shapes)
    adapters = layers * sum(RANK * (a + b) for a, b in shapes) if method == "lora" else 0
    lengths = [len(x) for x in rows["input_ids"]]
    learned = sum(label >= 0 for row in rows["labels"] for label in row[1:])
    read = 0
    for first in range(0, len(lengths), BATCH):
        ids = rows["input_ids"][first : first + BATCH]
        for piece in cut_packed(lengths[first : first + BATCH], made.token_budget):
            alike = [ids[i] for i in piece]
            read += pack(alike, alike, once=True).input_ids.numel()
    times = 4 if method == "lora" else 6
    linear = (times * weights + 6 * adapters) * read + times * h * config.vocab_size * learned
    attention = 6 * layers * h * sum(n * n for n in lengths)
    return float((linear + attention) / sum(lengths))


def main() -> None:
    """Run the comparison and write its result beside the earlier ones."""
    parser = in_turns_line(__doc__, (*OWN, *TRL))
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--against", nargs="+", choices=tuple(TRL), default=list(TRL), help="only these")
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "serve":
        side = stepper(given.side, given.method, work)
        serve(side, given.done, side.a_pass)
        return
    result = compare(given.method, given.against, work)
    keep(result, given.output, f"sft-{given.method}")


if __name__ == "__main__":
    main()
