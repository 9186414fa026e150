"""How long the first trace of a step takes, after imports: `estimate` of public models' sizes on a card that is not here.

    python -m benchmarks.prediction.first_trace [WORDS]        writes results/first_trace.json

Seconds of the processor, which a busy machine does not change; the first trace of a process, so every row has one of its own.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.command_line import words
from benchmarks.prediction.models import BERT_LARGE, LLAMA_8B

RESULTS = Path(__file__).parents[1] / "results" / "first_trace.json"
_GROUPED = {"num_key_value_heads": 8, "num_attention_heads": 32, "hidden_size": 4096, "tie_word_embeddings": False}
MODELS: dict[str, dict[str, Any]] = {
    "Llama-3-8B": LLAMA_8B,
    "Qwen3-8B": {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 40960, "tie_word_embeddings": False,
    },
    "Mistral-7B": {
        "model_type": "mistral", "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32000,
        "max_position_embeddings": 32768, "sliding_window": 4096, **_GROUPED,
    },
    "Gemma-2-9B": {
        "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
        "max_position_embeddings": 8192, "sliding_window": 4096,
    },
    "Mixtral-8x7B": {
        "model_type": "mixtral", "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32000,
        "max_position_embeddings": 32768, "num_local_experts": 8, "num_experts_per_tok": 2, **_GROUPED,
    },
    "Qwen3-30B-A3B": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 40960, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "decoder_sparse_step": 1, "norm_topk_prob": True, "tie_word_embeddings": False,
    },
    "BERT-large": BERT_LARGE,
}  # fmt: skip
CARD = {"backend": "cuda", "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory_total": 85 * 10**9}]}
ADAPTERS = {"rank": 16, "target_modules": "all-linear", "base_dtype": "bfloat16"}


def step_of(model: str, method: str, loss: str) -> dict[str, Any]:
    """The step of a row: 2 x 1,024 tokens, or of BERT 16 x 256."""
    encoder = model.startswith("BERT")
    step: dict[str, Any] = {
        "method": method, "micro_batch_rows": 16 if encoder else 2, "length": 256 if encoder else 1024, "padded": False,
        "head": "classification" if encoder else "causal_lm", "optimizer": "adamw", "gradient_checkpointing": "layer",
        "attention": "flash", "loss": loss, "outputs_held": False, "autocast": None, "base_dtype": "bfloat16",
    }  # fmt: skip
    if method != "full":
        step |= ADAPTERS | {"adapter_dtype": "float32", "lora_dropout": 0.0}
    if method == "qlora":
        step |= {"quantization": "nf4", "double_quantization": True, "kbit_prepared": loss == "plain"}
    return step | ({"optimizer_implementation": "fused"} if loss == "chunked" else {"optimizer_implementation": "foreach"})


def measured(model: str, method: str, loss: str) -> dict[str, float]:
    """Seconds of the processor and of the clock, once what a trace imports is there."""
    import peft  # noqa: F401
    import transformers
    from transformers import AutoConfig

    from engine.worker.tracing import candidates, estimate, own, plain  # noqa: F401
    from recommender.facts import Facts

    kind = MODELS[model]["model_type"]
    config = AutoConfig.for_model(kind)
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification):
        _ = auto._model_mapping.get(type(config), None)  # imports the model's module
    facts = Facts.model_validate({"machine": CARD, "model": {"config": MODELS[model]}, "step": step_of(model, method, loss)})
    begun, clock = time.process_time(), time.monotonic()
    told = estimate.estimate(facts)
    return {
        "processor": round(time.process_time() - begun, 2),
        "clock": round(time.monotonic() - clock, 2),
        "allocated": told["allocated"]["predicted"],
    }


def main() -> None:
    """Every row in a process of its own."""
    if len(sys.argv) == 5 and sys.argv[1] == "--one":
        print(json.dumps(measured(*sys.argv[2:])))
        return
    only = words(__doc__)
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for model in MODELS:
        for method in ("full", "lora", "qlora"):
            for loss in ("plain", "chunked"):
                key = f"{model} {method} {loss}"
                if only not in key or (not only and key in known):
                    continue
                command = [sys.executable, "-m", "benchmarks.prediction.first_trace", "--one", model, method, loss]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
                known[key] = json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr.strip()[-300:]}
                print(key, known[key], flush=True)
                RESULTS.write_text(json.dumps(known, indent=0) + "\n")


if __name__ == "__main__":
    main()
