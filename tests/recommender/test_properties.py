"""What holds for all facts: an answer always, and no surprise when memory grows."""

import json
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recommender import hyper, memory
from recommender.decide import decide, recommend
from recommender.facts import Backend, Facts, Family, Task
from recommender.recommendation import METHODS
from recommender.shape import shape_of

COUNT = st.none() | st.integers(0, 10**5) | st.integers(0, 10**18) | st.sampled_from([0, 1, 2, 10**18])
SHARE = st.none() | st.floats(0, 1)
TEXT = st.none() | st.text(max_size=8)
FLAG = st.none() | st.booleans()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


CUT = st.fixed_dictionaries({"length": st.integers(0, 9), "rows_cut": st.just(10**18), "tokens_kept": st.just(0)})
DEVICE = part(name=TEXT, memory_total=COUNT, memory_free=COUNT, bf16=FLAG, compute_capability=st.none() | st.just([8, 0]))
FACTS = part(
    machine=part(
        backend=st.sampled_from(get_args(Backend)),
        devices=st.lists(DEVICE, max_size=2),
        cpu_cores=COUNT,
        ram_total=COUNT,
        ram_available=COUNT,
        disk_free=COUNT,
        nf4=FLAG,
    ),
    model=part(
        family=st.none() | st.sampled_from(get_args(Family)),
        quantization=TEXT,
        dtype=TEXT,
        **dict.fromkeys(["parameters", "embedding_parameters", "layers", "hidden_size", "intermediate_size"], COUNT),
        **dict.fromkeys(["attention_heads", "kv_heads", "vocabulary_size", "max_positions"], COUNT),
    ),
    data=part(
        task=st.none() | st.sampled_from(get_args(Task)),
        label_counts=st.none() | st.lists(st.integers(0, 10**18), max_size=4),
        truncation=st.lists(CUT, max_size=1),
        **dict.fromkeys(["rows", "unique_rows", "eval_rows", "tokens_p50", "tokens_p95", "tokens_p99", "tokens_max"], COUNT),
        **dict.fromkeys(["tokens_total", "trained_tokens", "classes", "empty_rows"], COUNT),
        **dict.fromkeys(["duplicate_share", "conflict_share", "overlap_share"], SHARE),
    ),
    goal=part(
        purpose=st.sampled_from(["task", "knowledge", "domain", "code"]),
        time_budget_hours=st.none() | st.floats(0, 1e6),
        forgetting=st.sampled_from(["low", "medium", "high"]),
        adapters_wanted=st.integers(0, 10**18),
        ship_in_4_bit=st.booleans(),
    ),
    plan=st.none()
    | st.dictionaries(
        st.sampled_from(["batch_size", "epochs", "warmup_steps", "learning_rate", "method", "metric", "target_modules", "rows"]),
        JSON | st.sampled_from(["lora", "full", "accuracy"]),
    ),
    measured=part(
        seconds_per_step=st.none() | st.dictionaries(st.sampled_from(METHODS), st.floats(1e-9, 1e9)),
        matmul_flops=st.none() | st.dictionaries(st.sampled_from(["fp32", "bf16"]), st.floats(1e3, 1e21)),
    ),
)
QUIETLY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def facts_of(content: dict[str, Any]) -> Facts:
    return Facts.model_validate_json(json.dumps(content))


@QUIETLY
@given(FACTS)
def test_any_facts_get_a_whole_answer(content: dict[str, Any]) -> None:
    facts = facts_of(content)
    before = facts.model_dump_json()
    advice = recommend(facts)
    assert recommend(facts) == advice
    assert facts.model_dump_json() == before
    json.dumps(advice.model_dump(mode="json"), allow_nan=False)
    assert advice.best.settings == advice.settings
    chosen = [c for c in advice.candidates if c.method == advice.verdict]
    assert all(c.fits and c.removed_by is None for c in chosen)
    assert advice.verdict in METHODS or advice.instead
    assert all(r.text and r.facts and r.source for r in advice.reasons)
    for c in advice.candidates:
        assert c.settings.total_steps >= 1
        assert 0 <= c.settings.warmup_steps < max(c.settings.total_steps, 2)
        assert c.settings.max_length >= 2
        assert c.memory.low <= c.memory.predicted <= c.memory.high


@QUIETLY
@given(FACTS, st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_free_memory_never_turns_a_fit_into_a_misfit(content: dict[str, Any], some: int, more: int) -> None:
    facts = facts_of(content)

    def fits(free: int) -> dict[str, bool]:
        machine = facts_of({"machine": {"backend": "cuda", "devices": [{"memory_free": free}]}}).machine
        return {c.method: c.fits for c in decide(facts.model_copy(update={"machine": machine})).candidates}

    low, high = fits(some), fits(some + more)
    assert all(high[m] for m in METHODS if low[m])


@QUIETLY
@given(FACTS, st.sampled_from(METHODS), st.integers(1, 10**6), st.integers(0, 10**6), st.booleans())
def test_a_bigger_token_budget_never_needs_less_memory(
    content: dict[str, Any], method: Any, tokens: int, more: int, checkpointing: bool
) -> None:
    facts = facts_of(content)
    shape = shape_of(facts.model)
    length = hyper.max_length_of(shape, facts.data)
    small, large = (
        memory.predict(
            facts, shape, method, "fp32", rank=8, micro_tokens=t, length=length, gradient_checkpointing=checkpointing
        ).predicted
        for t in (tokens, tokens + more)
    )
    assert small <= large
