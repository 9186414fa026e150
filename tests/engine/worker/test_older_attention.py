"""Attention of OPT, GPT-NeoX and GPT-2 up to transformers 4.47: the same numbers as today's, and what it kept beside."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.prediction.resolve import OLDER, resolved
from engine.prediction.stream import peaks
from engine.worker.tracing import older
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.models import config_of
from engine.worker.tracing.steps import traced
from recommender.facts import Facts

ROWS, LENGTH, WIDTH, HEADS, LAYERS, POSITIONS = 2, 128, 64, 4, 3, 512
CONFIGS: dict[str, dict[str, Any]] = {
    "opt": {
        "model_type": "opt", "hidden_size": WIDTH, "ffn_dim": 128, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "vocab_size": 300, "max_position_embeddings": POSITIONS, "word_embed_proj_dim": WIDTH, "dropout": 0.0,
    },
    "gpt_neox": {
        "model_type": "gpt_neox", "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "vocab_size": 300, "max_position_embeddings": POSITIONS, "rotary_pct": 0.25,
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS, "vocab_size": 300,
    },
}  # fmt: skip
HIDDEN, SCORES = LAYERS * ROWS * LENGTH * WIDTH * 2, LAYERS * ROWS * HEADS * LENGTH * LENGTH * 2
"""Bytes in 16 bit, of all layers."""


def facts_of(kind: str, **more: Any) -> Facts:
    step = {
        "method": "full", "micro_batch_rows": ROWS, "length": LENGTH, "padded": False, "head": "causal_lm", "optimizer": "none",
        "base_dtype": "float16", "gradient_checkpointing": "none", "loss": "sum", "outputs_held": True, "use_cache": True,
    }  # fmt: skip
    return Facts.model_validate({"model": {"config": CONFIGS[kind]}, "step": step | {"outputs_rebound": False} | more})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", sorted(OLDER))
def test_it_computes_what_todays_does(kind: str, attention: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(CONFIGS[kind]), attn_implementation=attention).eval()
    words = torch.randint(300, (ROWS, 20))
    now = model(words).logits
    with older.attention(model):
        before = model(words).logits
    assert torch.allclose(now, before, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attention", "kept"),
    [
        ("opt", None, HIDDEN),  # what attention gave, once by heads and once for the map
        ("opt", "eager", SCORES),
        ("gpt_neox", None, 4 * HIDDEN + LAYERS * POSITIONS * (POSITIONS + 2 * 4 * 4)),
        ("gpt2", None, -2 * HIDDEN + LAYERS * POSITIONS**2),  # the cache copied nothing
    ],
)
def test_what_it_kept_beside(kind: str, attention: str | None, kept: int) -> None:
    now, before = (
        int(peaks(traced(CONFIGS[kind], resolved(facts).step, Card(), None).segments)["phases"]["loss"]["allocated"])
        for facts in (facts_of(kind, attention=attention, transformers=said) for said in ("4.48.0", "4.47.1"))
    )
    assert before - now == pytest.approx(kept, rel=0.03)


def test_without_a_version_both_are_tried_but_for_the_engines_own_step() -> None:
    assert resolved(facts_of("gpt2")).others["older_attention"].older_attention
    assert not any(other.older_attention for other in resolved(facts_of("gpt2", loss="chunked")).others.values())
