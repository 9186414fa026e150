"""TRL's SFTTrainer on the same model, rows and effective batch, with and without Liger's kernels."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.gpu import gauges
from benchmarks.gpu.models import Kind, quantize, raw
from engine.worker.arguments import OPTIMIZERS
from recommender.plan import Plan

BATCH = 32


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to set TRL up."""

    name: str
    rows_at_once: int
    """The rest of the effective batch is gathered by accumulation."""
    checkpointing: bool = False
    packing: bool = False
    liger: bool = False


SETUPS = (
    Setup("documented", 8, checkpointing=True),  # its defaults: batches of 8, checkpointing, padded to the longest
    Setup("no-checkpointing", 8),
    Setup("liger", 8, liger=True),
    Setup("packed-liger", 8, packing=True, liger=True),
)


class _Clock(TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers here
    """Seconds of each optimizer step, and the peak after the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._started = 0.0

    def on_step_begin(self, *given: Any, **more: Any) -> None:
        gauges.wait()
        if len(self.seconds) == 1 and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._started = time.perf_counter()

    def on_step_end(self, *given: Any, **more: Any) -> None:
        gauges.wait()
        self.seconds.append(time.perf_counter() - self._started)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def steps(
    kind: Kind,
    plan: Plan,
    setup: Setup,
    *,
    rows: tuple[list[list[int]], list[list[int]]],
    count: int,
    device: torch.device,
    work: Path,
) -> dict[str, Any]:
    """`count` optimizer steps over `rows`, by the plan's method, precision and optimizer; seconds, tokens and peaks."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    torch.backends.cuda.enable_cudnn_sdp(True)  # as torch comes; Loracle's step does without
    ids, labels = rows
    table = Dataset.from_dict({"input_ids": ids, "labels": labels})
    blocks = BATCH
    if setup.packing:
        from trl import pack_dataset

        table = pack_dataset(table, 1024, "bfd")
        # As many blocks a step as hold as many rows: the work of a step is then the same.
        blocks = max(1, round(len(table) * BATCH / len(ids)))
    at_once = min(setup.rows_at_once, blocks)
    config = SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=max(1, blocks // at_once),
        gradient_checkpointing=setup.checkpointing,
        packing=setup.packing,
        use_liger_kernel=setup.liger,
        max_length=1024,
        max_steps=count,
        learning_rate=1e-4,
        bf16=plan.precision == "bf16-mixed",
        fp16=plan.precision == "fp16-mixed",
        optim=OPTIMIZERS[plan.optimizer],
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=device.type == "cpu",
    )
    trainer = SFTTrainer(
        model=_model(kind, plan, device),
        args=config,
        train_dataset=table,
        processing_class=_tokenizer(),
        peft_config=_adapters(plan.method),
    )
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    tokens = sum(map(len, ids)) / len(ids) * BATCH
    peak = int(torch.cuda.max_memory_allocated()) if device.type == "cuda" else 0
    reserved = int(torch.cuda.max_memory_reserved()) if device.type == "cuda" else 0
    return {"seconds": clock.seconds, "tokens_per_step": tokens, "losses": clock.losses, "allocated": peak, "reserved": reserved}


def _model(kind: Kind, plan: Plan, device: torch.device) -> Any:
    narrow = torch.float16 if plan.precision == "fp16-mixed" else torch.bfloat16
    model = raw(kind, torch.float32 if plan.method == "full" and plan.precision != "bf16" else narrow, device)
    model.config.use_cache = False
    if plan.method == "qlora":
        quantize(model, ["lm_head"], narrow)
    return model


def _adapters(method: str) -> Any:
    from peft import LoraConfig

    if method == "full":
        return None
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _tokenizer() -> Any:
    """Never asked for text; TRL wants to know its padding and end tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
