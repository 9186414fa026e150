"""A loop of transformers and peft as most scripts have it, for the settings of a step that Loracle itself never uses."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import gauges
from benchmarks.gpu.models import Kind, quantize, raw
from benchmarks.gpu.results import Lines

HEADS = {
    "causal_lm": "AutoModelForCausalLM",
    "classification": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
}
BACKENDS = {"efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
"""Those that are pinned; else torch chooses, and the result says what."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DEFAULTS: dict[str, Any] = {
    "padded": False,
    "labels": None,
    "base_dtype": "bfloat16",
    "autocast": None,
    "adapter_dtype": None,
    "quantization": None,
    "double_quantization": None,
    "kbit_prepared": None,
    "rank": None,
    "target_modules": None,
    "lora_dropout": None,
    "trained": None,
    "optimizer": "adamw",
    "optimizer_implementation": "foreach",
    "optimizer_state_dtype": None,
    "gradient_checkpointing": "none",
    "attention": "flash",
    "loss": "plain",
    "outputs_held": True,
    "devices": 1,
    "sharding": None,
}
ADAPTER = {"rank": 16, "target_modules": "all-linear", "lora_dropout": 0.0, "adapter_dtype": "float32"}
NF4 = {"quantization": "nf4", "double_quantization": True, "kbit_prepared": True}


@dataclass(frozen=True, slots=True)
class PlainCell:
    """One configuration: every field of `step`."""

    kind: Kind
    step: dict[str, Any]
    dropout: float
    """The model's own."""

    @property
    def key(self) -> str:
        """Its name: the model, and what differs from the defaults."""
        told = "-".join(f"{n}={v}" for n, v in self.step.items() if DEFAULTS.get(n) != v)
        return f"plain-{self.kind.name}-{told}-dropout={self.dropout}"


def grid(smoke: bool) -> Iterator[PlainCell]:  # noqa: PLR0915  # a list
    """The cells, the most telling first."""

    def cell(name: str, method: str, rows: int, length: int, *, dropout: float = 0.0, **fields: Any) -> PlainCell:
        if smoke:
            rows, length = 2, 32
        head = "causal_lm" if name.startswith("llama") else "classification"
        adapter = {"full": {}, "lora": ADAPTER, "qlora": ADAPTER | NF4}[method]
        step: dict[str, Any] = {"method": method, "micro_batch_rows": rows, "length": length, "head": head}
        step |= DEFAULTS | adapter | fields
        step["labels"] = {"classification": 2, "tagging": 9}.get(step["head"])
        if step["optimizer_state_dtype"] is None:
            trained_in = step["adapter_dtype"] or step["base_dtype"]
            step["optimizer_state_dtype"] = "uint8" if "8bit" in step["optimizer"] else trained_in
        return PlainCell(Kind(name, smoke), step, dropout)

    layer: dict[str, Any] = {"gradient_checkpointing": "layer"}
    mixed: dict[str, Any] = {"base_dtype": "float32", "autocast": "bfloat16"}
    yield cell("llama-1b", "full", 4, 1024)
    yield cell("bert-base", "full", 32, 256, dropout=0.1, base_dtype="float32")
    yield cell("llama-1b", "lora", 4, 1024)
    yield cell("llama-1b", "qlora", 4, 1024, **layer)
    yield cell("bert-base", "full", 32, 256, dropout=0.1, **mixed)
    yield cell("llama-1b", "full", 4, 1024, outputs_held=False)
    yield cell("llama-1b", "full", 4, 1024, **layer)
    yield cell("llama-1b", "full", 2, 1024, attention="math")
    yield cell("llama-1b", "full", 2, 1024, attention="eager")
    yield cell("llama-1b", "full", 4, 1024, optimizer_implementation="fused")
    yield cell("llama-1b", "full", 4, 1024, optimizer="adamw_8bit", optimizer_implementation="bitsandbytes")
    yield cell("llama-1b", "full", 4, 1024, optimizer="paged_adamw_8bit", optimizer_implementation="bitsandbytes")
    yield cell("llama-1b", "full", 4, 1024, **mixed)
    yield cell("llama-1b", "full", 4, 1024, loss="fused", kernels="liger")
    yield cell("llama-1b", "lora", 4, 1024, adapter_dtype="bfloat16")
    yield cell("llama-1b", "lora", 4, 1024, autocast="bfloat16")
    yield cell("llama-1b", "lora", 4, 1024, lora_dropout=0.05)
    yield cell("llama-1b", "lora", 4, 1024, rank=64)
    yield cell("llama-1b", "lora", 4, 1024, target_modules="q_proj,v_proj")
    yield cell("llama-1b", "qlora", 2, 512)
    yield cell("llama-1b", "qlora", 4, 1024, kbit_prepared=False, double_quantization=False)
    yield cell("llama-1b", "qlora", 4, 1024, kbit_prepared=False, autocast="bfloat16")
    yield cell("llama-1b", "qlora", 4, 1024, autocast="bfloat16", **layer)
    yield cell("bert-base", "full", 32, 256, dropout=0.1)
    yield cell("bert-base", "full", 32, 256, dropout=0.1, padded=True, attention="efficient", base_dtype="float32")
    yield cell("bert-base", "full", 32, 256, dropout=0.1, attention="eager", base_dtype="float32")
    yield cell("bert-base", "full", 32, 256, base_dtype="float32")
    yield cell("bert-base", "lora", 32, 256, dropout=0.1, base_dtype="float32")
    yield cell("bert-base", "lora", 32, 256, dropout=0.1)
    yield cell("bert-base", "full", 16, 256, dropout=0.1, head="masked_lm", base_dtype="float32")
    yield cell("bert-base", "full", 32, 256, dropout=0.1, head="tagging", base_dtype="float32")
    yield cell("bert-large", "full", 16, 512, dropout=0.1, base_dtype="float32", **layer)
    yield cell("bert-large", "full", 16, 512, dropout=0.1, **mixed)
    yield cell("bert-large", "lora", 16, 512, dropout=0.1)
    yield cell("bert-large", "qlora", 16, 512, dropout=0.1)
    yield cell("llama-8b", "lora", 2, 1024)
    yield cell("llama-8b", "lora", 4, 2048, **layer)
    yield cell("llama-8b", "qlora", 2, 1024, **layer)
    yield cell("llama-8b", "qlora", 4, 2048, kbit_prepared=False, **layer)
    yield cell("llama-8b", "lora", 2, 1024, adapter_dtype="bfloat16")
    yield cell("llama-3b", "full", 2, 1024, **layer)
    yield cell("llama-3b", "lora", 2, 2048)
    yield cell("llama-3b", "qlora", 2, 2048, **layer)
    yield cell("llama-0.5b", "full", 4, 2048)
    yield cell("llama-0.5b", "full", 8, 512, padded=True)
    yield cell("llama-0.5b", "lora", 8, 512)
    yield cell("llama-0.5b", "full", 8, 512, base_dtype="float32", attention="math")
    yield cell("llama-0.5b", "full", 8, 1024, loss="fused", kernels="liger", **layer)
    yield cell("llama-0.5b", "lora", 8, 512, padded=True, adapter_dtype="bfloat16")


def build(cell: PlainCell, device: torch.device) -> Any:
    """The model, prepared as peft's documentation has it."""
    step = cell.step
    torch.backends.cuda.enable_cudnn_sdp(True)  # as torch comes; Loracle's step does without
    _without_liger()
    attention = "eager" if step["attention"] == "eager" else "sdpa"
    dropped = {} if cell.kind.decoder else dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), cell.dropout)
    labels = {} if step["labels"] is None else {"num_labels": step["labels"]}
    dtype = DTYPES[step["base_dtype"]]
    model = raw(cell.kind, dtype, device, head=HEADS[step["head"]], attn_implementation=attention, **dropped, **labels)
    model.config.use_cache = False
    if step["loss"] == "fused":
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    if step["method"] != "full":
        model = _adapted(model, step, dtype)
    if step["gradient_checkpointing"] == "layer":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if step["method"] != "full":
            model.enable_input_require_grads()
    return model.train()


@cache
def _before_liger() -> dict[str, Any]:
    """What Liger replaces in transformers' module for Llama, for good."""
    home: Any = import_module("transformers.models.llama.modeling_llama")
    return {name: getattr(home, name) for name in ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP")}


def _without_liger() -> None:
    """Give transformers its own back: a cell with Liger's kernels must not leave them to the next one."""
    home: Any = import_module("transformers.models.llama.modeling_llama")
    for name, usual in _before_liger().items():
        setattr(home, name, usual)


def _adapted(model: Any, step: dict[str, Any], dtype: torch.dtype) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

    head = {"causal_lm": "lm_head"}.get(step["head"], "classifier")
    if step["quantization"] is not None:
        quantize(model, [head, "cls", "pooler"], dtype, double=step["double_quantization"])
        if step["kbit_prepared"]:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    targets = step["target_modules"]
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM if step["head"] == "causal_lm" else TaskType.SEQ_CLS,
        r=step["rank"],
        lora_alpha=2 * step["rank"],
        lora_dropout=step["lora_dropout"],
        target_modules=targets if targets == "all-linear" else targets.split(","),
    )
    return get_peft_model(model, config, autocast_adapter_dtype=step["adapter_dtype"] == "float32")


def optimizer_of(model: Any, step: dict[str, Any]) -> Any:
    """As the step names it."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if step["optimizer"] == "adamw":
        return torch.optim.AdamW(trained, lr=1e-4, **{step["optimizer_implementation"]: True})
    optim: Any = import_module("bitsandbytes.optim")
    return (optim.PagedAdamW8bit if step["optimizer"].startswith("paged") else optim.AdamW8bit)(trained, lr=1e-4)


def batch_of(cell: PlainCell, device: torch.device) -> dict[str, torch.Tensor]:
    """Rows of one length, or with half of them half as long and padded; every token carries a label where tokens do."""
    step, words = cell.step, cell.kind.config().vocab_size
    shape = (step["micro_batch_rows"], step["length"])
    ids = torch.randint(5, words, shape, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if step["padded"]:
        mask[::2, shape[1] // 2 :] = 0
    if step["head"] == "classification":
        labels = torch.arange(shape[0]) % 2
    elif step["head"] == "tagging":
        labels = ids % 9
    else:
        labels = ids.masked_fill(mask == 0, -100)
    return {n: t.to(device) for n, t in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


def measure(cell: PlainCell, lines: Lines, device: torch.device) -> None:
    """Three steps, the last two measured."""
    gauges.tidy()
    about: dict[str, Any] = {"loop": "plain", "model": cell.kind.name, "step": cell.step, "packed": False}
    about["model_dropout"] = cell.dropout
    about["fresh"] = True
    try:
        model = build(cell, device)
        gauges.tidy()
        load = gauges.allocated()
        optimizer, batch = optimizer_of(model, cell.step), batch_of(cell, device)
        first, peaks = gauges.Peaks(), gauges.Peaks()
        with gauges.Kernels() as kernels:
            _step(cell.step, model, optimizer, batch, first)
        resident = gauges.allocated()
        peaks.begin()
        seconds = gauges.seconds(lambda: _step(cell.step, model, optimizer, batch, peaks), 2)
    except Exception as error:
        if not gauges.is_full(error):
            raise
        lines.write(cell.key, **about, result="out_of_memory", error=str(error)[:200])
        return
    # Where torch chose by itself and no kernel of attention was called, it took ordinary products.
    chosen = cell.step["attention"] if cell.step["attention"] in ("math", "eager") else "math"
    about["step"] = cell.step | {"attention": gauges.attention_of(kernels.names) or chosen}
    about["rows"] = batch["attention_mask"].sum(1).tolist()
    measured = {
        "allocated": {"load": load} | peaks.allocated | {"peak": max(peaks.allocated.values(), default=0)},
        "first_step": first.allocated,
        "allocated_before": resident,
        "reserved": max(first.reserved, peaks.reserved),
        "device": gauges.used(),
        "seconds_per_step": [round(s, 5) for s in seconds],
    }
    lines.write(cell.key, **about, result="ok", kernels=sorted(kernels.names), measured=measured)


def _step(step: dict[str, Any], model: Any, optimizer: Any, batch: dict[str, torch.Tensor], peaks: gauges.Peaks) -> None:
    device = batch["input_ids"].device.type
    with ExitStack() as inside:
        if step["attention"] in BACKENDS and device == "cuda":
            inside.enter_context(sdpa_kernel(BACKENDS[step["attention"]]))
        with ExitStack() as forward:
            if step["autocast"]:
                forward.enter_context(torch.autocast(device, DTYPES[step["autocast"]]))
            out: Any = model(**batch)
        loss = out.loss
        if not step["outputs_held"]:
            del out
        peaks.mark("forward")
        loss.backward()
        peaks.mark("backward")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        peaks.mark("optimizer")
        loss.item()
