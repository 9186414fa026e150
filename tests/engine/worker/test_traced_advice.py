"""A recommendation with traced memory: the candidates' own steps, counted as the worker would take them."""

from typing import Any

import pytest

from engine.worker.tracing.candidates import candidates
from recommender.decide import recommend
from recommender.facts import Facts
from recommender.shape import shape_of
from recommender.traced import as_facts
from recommender.variants import step_of

CONFIG = {
    "model_type": "bert", "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4,
    "vocab_size": 1500, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture
def facts() -> Facts:
    card = {"name": "NVIDIA A100-SXM4-80GB", "memory_total": 85 * 10**9, "memory_free": 80 * 10**9, "bf16": True}
    data = {"task": "classification", "rows": 5000, "unique_rows": 5000, "classes": 3, "tokens_p50": 40, "tokens_max": 60}
    model = {"config": CONFIG, "family": "encoder", "parameters": 600_000, "embedding_parameters": 110_000, "layers": 8,
             "hidden_size": 64, "attention_heads": 4, "vocabulary_size": 1500, "max_positions": 128}  # fmt: skip
    return Facts.model_validate({"machine": {"backend": "cuda", "devices": [card]}, "model": model, "data": data})


def test_the_traced_step_replaces_the_formula_and_scales_its_neighbours(facts: Facts) -> None:
    advice = recommend(facts)
    full = advice.candidate("full")
    wanted: dict[str, Any] = {"method": "full", "task": "classification", "settings": full.settings.model_dump(mode="json")}
    told = candidates(facts, [wanted | {"rows": 16, "length": 60, "pieces": 2, "labels": 3}])["steps"]["full"]
    assert told["peak"] >= sum(told["parts"].values()) > 4 * 4 * 600_000  # weights, gradients and two moments in fp32

    step = step_of(facts, "full", full.settings)
    profile = {"steps": [as_facts(step, 7 * 10**9, {"weights": 10**9, "activations": 6 * 10**9}), {"step": {"method": 1}}]}
    traced = facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": profile})})
    again = recommend(traced).candidate("full")
    assert again.memory.parts["activations"] == 6 * 10**9
    assert again.memory.predicted == 7 * 10**9 + again.memory.parts["runtime"]
    assert again.memory.high - again.memory.low < 0.2 * again.memory.predicted
    # Another size of the same kind of step is scaled by what the trace found here.
    from recommender.memory import undivided

    half = step_of(facts, "full", full.settings, full.settings.token_budget // 2)
    shape = shape_of(facts.model, "classification")
    assert undivided(traced, shape, half)[0] > 1.5 * undivided(facts, shape, half)[0]
