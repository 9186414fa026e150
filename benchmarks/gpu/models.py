"""Models of real shapes with random weights, built on the device: no hub, no disk."""

import math
import random
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import transformers

from engine.worker.modeling import prepared, quantization, weights_dtype
from engine.worker.tasks.base import Task
from engine.worker.tasks.registry import task_of
from recommender.plan import Plan

LLAMA = {"max_position_embeddings": 8192, "rope_theta": 500000.0, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BERT = {"vocab_size": 30522, "max_position_embeddings": 512, "pad_token_id": 0}
SMALL = {"vocab_size": 1000, "num_hidden_layers": 2}


def _llama(hidden: int, inner: int, layers: int, *, heads: int, kv: int, words: int, tied: bool) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads}
    return LLAMA | shape | {"num_key_value_heads": kv, "vocab_size": words, "tie_word_embeddings": tied}


def _bert(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    return BERT | shape


SHAPES: dict[str, dict[str, Any]] = {
    "bert-base": _bert(768, 12, 12),
    "bert-large": _bert(1024, 24, 16),
    "llama-0.5b": _llama(896, 4864, 24, heads=14, kv=2, words=151936, tied=True),  # Qwen2.5-0.5B's numbers
    "llama-1b": _llama(2048, 8192, 16, heads=32, kv=8, words=128256, tied=True),  # Llama 3.2
    "llama-3b": _llama(3072, 8192, 28, heads=24, kv=8, words=128256, tied=True),  # Llama 3.2
    "llama-8b": _llama(4096, 14336, 32, heads=32, kv=8, words=128256, tied=False),  # Llama 3.1
}
SMOKE: dict[str, dict[str, Any]] = {
    name: (shape | SMALL | {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4})
    | ({"num_key_value_heads": 2} if name.startswith("llama") else {})
    for name, shape in SHAPES.items()
}
"""The same names, small enough for a processor."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which model, and whether in earnest."""

    name: str
    smoke: bool = False

    @property
    def decoder(self) -> bool:
        """Whether it writes; the others classify."""
        return self.name.startswith("llama")

    def config(self, **more: Any) -> Any:
        """The transformers configuration; `more` overrides."""
        make = transformers.LlamaConfig if self.decoder else transformers.BertConfig
        return make(**((SMOKE if self.smoke else SHAPES)[self.name] | more))


def device_of(smoke: bool) -> torch.device:
    """The GPU, or in a smoke run without one the processor."""
    return torch.device("cuda" if torch.cuda.is_available() or not smoke else "cpu")


def plan_of(kind: Kind, method: str, *, checkpointing: bool = False, **fields: Any) -> Plan:
    """A plan as the recommender writes it for a GPU: 16-bit mixed precision, adapters of rank 16 on all linear layers."""
    adapter = {} if method == "full" else {"rank": 16, "alpha": 32, "target_modules": "all-linear", "dropout": 0.0}
    content = {
        "model": {"id": kind.name},
        "data": {"train": "random"},
        "task": "instruction" if kind.decoder else "classification",
        "method": method,
        "learning_rate": 1e-4,
        "epochs": 1.0,
        "effective_batch": 32,
        "max_length": 1024 if kind.decoder else 512,
        "precision": "bf16-mixed",
        "gradient_checkpointing": checkpointing,
        "token_budget": 10**8,
    }
    return Plan.model_validate(content | adapter | fields)


def built(kind: Kind, plan: Plan, device: torch.device, **config: Any) -> tuple[Any, Task]:
    """The model, made ready for the plan's method by the engine's own code, and its task."""
    task = task_of(plan, ["0", "1"] if not kind.decoder else [], 0)
    model = raw(kind, weights_dtype(plan), device, **config)
    head = [] if kind.decoder else ["classifier"]
    if plan.method == "qlora":
        quantize(model, [*head, "lm_head"], weights_dtype(plan))
    return prepared(model, task, head), task


def raw(kind: Kind, dtype: torch.dtype, device: torch.device, *, head: str | None = None, **config: Any) -> Any:
    """The model with random weights; `head` names another transformers class than the usual one."""
    name = head or ("AutoModelForCausalLM" if kind.decoder else "AutoModelForSequenceClassification")
    with torch.device(device):
        return getattr(transformers, name).from_config(kind.config(**config), dtype=dtype)


def quantize(model: Any, keep: list[str], dtype: torch.dtype, *, double: bool = True) -> None:
    """Put the linear layers into NF4 where they lie, as transformers does while it loads; those named in `keep` stay."""
    bnb: Any = import_module("bitsandbytes.nn")
    settings = quantization(dtype, keep)
    for name, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or any(name == k or name.startswith(f"{k}.") for k in keep):
            continue
        with torch.device("meta"):
            new = bnb.Linear4bit(
                module.in_features,
                module.out_features,
                module.bias is not None,
                settings.bnb_4bit_compute_dtype,
                compress_statistics=double,
                quant_type=settings.bnb_4bit_quant_type,
            )
        options = {"compress_statistics": double, "quant_type": settings.bnb_4bit_quant_type, "module": new}
        weight = bnb.Params4bit(module.weight.data, requires_grad=False, **options)
        new.weight = weight._quantize(module.weight.device)
        new.bias = module.bias
        new.source_cls = torch.nn.Linear
        new.requires_grad_(False)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, new)
    model.is_loaded_in_4bit = True


def lengths(rows: int, seed: int = 0, *, longest: int = 1024, median: float = 150.0) -> list[int]:
    """Tokens of instruction rows: lognormal, half of them under `median`, the mean a quarter above it, cut at `longest`."""
    draw = random.Random(seed)
    return [max(8, min(longest, round(draw.lognormvariate(math.log(median), 0.7)))) for _ in range(rows)]


def rows_of(counts: list[int], words: int, *, learned: float = 0.6, seed: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Random token ids of these lengths, and labels of which the first part, the prompt, is not learned."""
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, words, (n,), generator=draw).tolist() for n in counts]
    labels = [[-100] * (len(row) - max(1, round(learned * len(row)))) + row[-max(1, round(learned * len(row))) :] for row in ids]
    return ids, labels
